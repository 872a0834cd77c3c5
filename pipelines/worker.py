"""What a worker process holds: one store client, one tracker, one engine ... for all the DoFns that Beam makes and drops.

`Job` is what travels to the workers: the settings, and what the driver found out or took once for all of them.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

from inference import model_versions
from inference.engine import Engine
from inference.local_engine import LocalEngine
from inference.output import QueryRules, read_block_list
from inference.replica import VllmSettings
from inference.server_engine import ServerEngine
from interest import TriggerPolicy
from pipelines.observability import Health
from pipelines.options import NearlineSettings
from schemas.codec import decoder_for
from store.client import ShopperStore
from transforms import metrics
from transforms.claim_requests import Claimer
from transforms.collector import collect_seldom
from transforms.dead_letter_limits import DeadLetterLimits
from transforms.dead_letters import DeadLetterWriter, writer_of_process
from transforms.decode_events import EventDecoder
from transforms.generate_queries import Generation
from transforms.rewinds import REWINDS
from transforms.track_interest import Tracker
from transforms.write_query_lists import ListWriter, ResultsTopic

TRACK_QUIET_S = 30.0
"""The reader reports every partition each second, so that long without a save means that something hangs."""
Made = TypeVar("Made")


@dataclass(frozen=True)
class Job:
    """One run of the nearline job."""

    settings: NearlineSettings
    namespace: str
    """What the settings' name stood for when the job began: workers stay there, also when the name is moved."""
    policy: TriggerPolicy
    track_epoch: str = ""
    generate_epoch: str = ""
    """Writer epochs (store): shared by the workers of this run, newer than those of any run before it."""
    moves: int = 0
    """How often the name had been moved when the job began (store.namespaces)."""
    requests: bool = True
    """Whether a change asks for a list; not where a replay or rebuild is on the way to its window."""


def once_per_process(make: Callable[["Job"], Made]) -> Callable[["Job"], Made]:
    """Makes the thing at the first call and hands out the same ever after, in all threads."""
    made: dict[Job, Made] = {}
    lock = threading.Lock()

    @wraps(make)
    def get(job: "Job") -> Made:
        with lock:
            if job not in made:
                made[job] = make(job)
            return made[job]

    get.made = made  # type: ignore[attr-defined]
    return get


def new_store(settings: NearlineSettings, namespace: str = "") -> ShopperStore:
    """namespace: exactly this one, whatever the settings' name stands for now."""
    return ShopperStore(
        settings.store,
        namespace or settings.namespace,
        settings.shards or None,
        literal=bool(namespace),
        ttl_s=settings.state_ttl_days * 86_400,
        runs_ttl_s=settings.list_ttl_days * 86_400,
        runs_kept=settings.runs_kept,
        deadline_s=settings.store_deadline_s,
        on_retry=lambda call: metrics.STORE_RETRIES.labels(call).inc(),
    )


@once_per_process
def store(job: Job) -> ShopperStore:
    """The store, writing in this run's epochs."""
    client = new_store(job.settings, job.namespace)
    if job.track_epoch:
        client.begin("track", job.track_epoch)
    if job.generate_epoch:
        client.begin("generate", job.generate_epoch)
    return client


def letters(job: Job) -> DeadLetterWriter:
    return writer_of_process(job.settings.kafka, job.settings.dead_letter_topic)


@once_per_process
def decoder(job: Job) -> EventDecoder:
    settings = job.settings
    return EventDecoder(
        decoder_for(settings.format, settings.schema_registry, settings.mapper),
        letters(job),
        DeadLetterLimits(settings.dead_letter_ratio, settings.dead_letter_run),
        settings.log_clock,  # type: ignore[arg-type]
    )


@once_per_process
def tracker(job: Job) -> Tracker:
    collect_seldom()
    settings = job.settings
    limits = DeadLetterLimits(settings.dead_letter_ratio, settings.dead_letter_run)
    return Tracker(store(job), job.policy, letters(job), limits, REWINDS.ask, requests=job.requests)


@once_per_process
def engine(job: Job) -> Engine:
    settings = job.settings

    one = settings.model_version and model_versions.exactly(settings.models, settings.model, settings.model_version)

    def current():
        return one or model_versions.latest(settings.models, settings.model)

    if settings.model_server:
        return ServerEngine(settings.model_server, current, in_flight=settings.in_flight)
    return LocalEngine(current, VllmSettings(allow_list=settings.allow_list), in_flight=settings.in_flight)


@once_per_process
def generation(job: Job) -> Generation:
    settings = job.settings
    blocked = read_block_list(settings.block_list) if settings.block_list else frozenset()
    rules = QueryRules(blocked=blocked)
    limits = settings.lease_s, settings.attempts
    return Generation(engine(job), store(job), letters(job), rules, *limits, settings.allow_list)


@once_per_process
def claimer(job: Job) -> Claimer:
    settings = job.settings
    limits = (settings.max_age_s, settings.catch_up_s, settings.poll_s, settings.low_in_flight)
    return Claimer(store(job), job.policy, generation(job), *limits)


@once_per_process
def list_writer(job: Job) -> ListWriter:
    settings = job.settings
    results = ResultsTopic(settings.kafka, settings.results_topic) if settings.results_topic else None
    return ListWriter(store(job), results)


def health(job: Job) -> Health:
    """What /healthz answers: what of this process is wrong."""
    wrong, notes = [], []
    if job.settings.generates:
        state = engine(job).state()
        notes.append(f"engine {state}")
        if state == "dead":
            wrong.append("the engine is dead and is being started anew; its log says why")
    if job.settings.tracks:
        quiet_s = tracker(job).quiet_s
        if quiet_s is not None and quiet_s > TRACK_QUIET_S:
            wrong.append(f"no save for {quiet_s:.0f} s: is the broker reachable, does the store answer?")
    return Health(tuple(wrong), tuple(notes))


def close() -> None:
    """Ends what has processes of its own."""
    for each in engine.made.values():  # type: ignore[attr-defined]
        each.close()
