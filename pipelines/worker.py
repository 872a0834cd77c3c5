"""What a worker process holds: one store client, one tracker, one engine ... for all the DoFns that Beam makes and drops.

`Job` is what travels to the workers: the settings, and what the driver found out or took once for all of them.
"""

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from inference import model_bundle
from inference.engine import Engine
from inference.local_engine import LocalEngine
from inference.server_engine import ServerEngine
from pipelines.options import NearlineSettings
from schemas.codec import decoder_for
from store.client import ShopperStore
from transforms import metrics
from transforms.dead_letter_limits import DeadLetterLimits
from transforms.dead_letters import DeadLetterWriter, writer_of_process
from transforms.decode_events import EventDecoder
from transforms.read_events import rewinds
from transforms.track_interest import Tracker

LOG = logging.getLogger(__name__)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Job:
    """One run of the nearline job."""

    settings: NearlineSettings
    track_epoch: str = ""
    generate_epoch: str = ""
    """Writer epochs (store): shared by the workers of this run, newer than those of any run before it."""


def once_per_process(make: Callable[["Job"], Made]) -> Callable[["Job"], Made]:
    """Makes the thing at the first call and hands out the same ever after, in all threads."""
    made: dict[Hashable, Any] = {}
    lock = threading.Lock()

    @wraps(make)
    def get(job: "Job") -> Made:
        with lock:
            if job not in made:
                made[job] = make(job)
            return made[job]

    return get


def new_store(settings: NearlineSettings) -> ShopperStore:
    return ShopperStore(
        settings.store,
        settings.namespace,
        settings.shards,
        ttl_s=settings.state_ttl_days * 86_400,
        runs_ttl_s=settings.list_ttl_days * 86_400,
        runs_kept=settings.runs_kept,
        deadline_s=settings.store_deadline_s,
        on_retry=lambda call: metrics.STORE_RETRIES.labels(call).inc(),
    )


@once_per_process
def store(job: Job) -> ShopperStore:
    """The store, writing in this run's epochs."""
    client = new_store(job.settings)
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
    return Tracker(store(job), job.settings.policy, letters(job), rewinds.ask)


@once_per_process
def engine(job: Job) -> Engine:
    settings = job.settings

    def current():
        return model_bundle.latest(settings.models, settings.model)

    if settings.model_server:
        return ServerEngine(settings.model_server, current, in_flight=settings.in_flight)
    return LocalEngine(current, in_flight=settings.in_flight)
