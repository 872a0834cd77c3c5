"""The nearline job: behaviour events in Kafka become each shopper's list of next queries in the store.

    track:     read_events -> decode_events -> track_interest          (Kafka to state)
    generate:  claim_requests -> generate_queries -> write_query_lists (requests to lists)

Two branches of one pipeline, or two deployments (`--stages`). Between them lies nothing but the store. Neither branch keeps
anything in the runner, so the job can be killed, moved or upgraded at any instant (docs/decisions/0001).
"""

import logging
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions

from interest import FOLD_VERSION
from local.flink import flink
from local.prism import prism
from pipelines import beam_workarounds, observability, worker
from pipelines.known_options import unknown_words
from pipelines.options import NearlineOptions, NearlineSettings
from pipelines.unmoved import NamespaceMoved, unmoved
from pipelines.worker import Job
from store.client import (
    NamespaceMeta,
    NamespaceMismatch,
    ShardSave,
    ShopperStore,
    StoreError,
    StoreLost,
    WriterFenced,
)
from store.namespaces import Namespaces
from transforms.claim_requests import ClaimRequests
from transforms.decode_events import DecodeEvents, TooManyDeadLetters
from transforms.drain import DRAINING
from transforms.files import use_options
from transforms.generate_queries import GenerateQueries
from transforms.log_position import ReadRefused
from transforms.read_events import ReadEvents
from transforms.read_plan import ReadPlan, ReadSettings, plan_read
from transforms.track_interest import TooManyConflicts, TrackInterest
from transforms.write_query_lists import WriteQueryLists

LOG = logging.getLogger(__name__)
BAD_CONFIGURATION = 2
A_PERSON_DECIDES = 3
"""Exit statuses after which the supervisor does not start the job again."""


class EndOfBranch(beam.PTransform):
    """Closes a branch that has no output. Prism spins a core on a stage whose output nobody reads; a filter that lets nothing
    through and a stage behind it cost nothing."""

    def expand(self, input_or_inputs):
        return (
            input_or_inputs
            | "let nothing through" >> beam.Filter(lambda _: False)
            | beam.Reshuffle()
            | beam.Map(lambda nothing: nothing)
        )


def build(p: beam.Pipeline, job: Job, plan: ReadPlan | None) -> None:
    """Adds the branches that the settings name to a pipeline. `plan` says what is read; None without the track stage."""
    settings = job.settings
    if plan:
        _ = (
            p
            | "read events" >> ReadEvents(read_settings(settings), plan)
            | "decode events" >> beam.ParDo(DecodeEvents(partial(worker.decoder, job)))
            | "track interest" >> beam.ParDo(TrackInterest(partial(worker.tracker, job)))
            | "end of track" >> EndOfBranch()
        )
    if settings.generates:
        _ = (
            p
            | "claim requests" >> ClaimRequests(partial(worker.claimer, job), settings.poll_s)
            | "generate queries" >> beam.ParDo(GenerateQueries(partial(worker.generation, job)))
            | "write query lists" >> beam.ParDo(WriteQueryLists(partial(worker.list_writer, job)))
            | "end of generate" >> EndOfBranch()
        )


def run(argv: Sequence[str]) -> int:
    """Runs the job until its end, SIGTERM (drains) or a failure. Returns the exit status.

    0 ended or drained; 1 failed, starting again may help; 2 wrong configuration; 3 failed, a person has to decide.
    """
    if "--help" in argv:
        NearlineOptions.print_help()
        return 0
    began = time.monotonic()
    options = PipelineOptions(list(argv), streaming=True, save_main_session=False)
    settings = options.view_as(NearlineOptions).settings()
    if errors := [*unknown_words(argv), *settings.errors()]:
        print("\n".join(errors), file=sys.stderr)
        return BAD_CONFIGURATION
    observability.log_as_json()
    use_options(options)
    beam_workarounds.treat_unknown_progress_as_no_split()
    signal.signal(signal.SIGTERM, lambda *_: DRAINING.set())
    signal.signal(signal.SIGINT, lambda *_: DRAINING.set())
    status, job = 1, None
    try:
        with ExitStack() as stack:
            try:
                job, plan = prepare(settings)
            except (ValueError, LookupError) as error:  # a time, a topic, a mapper that is not there
                print(error, file=sys.stderr)
                return BAD_CONFIGURATION
            if settings.metrics_port:
                server = observability.serve(settings.metrics_port, partial(worker.health, job))
                stack.callback(server.shutdown)
            runner = stack.enter_context(runner_options(options))
            stack.callback(worker.close)
            execute(job, plan, [*argv, *runner])
            status = 0
    except Exception as error:  # the process's last word, whatever went wrong
        status = A_PERSON_DECIDES if needs_a_person(error) and not (job and has_moved(job)) else 1
        LOG.exception("the job failed (exit status %d)", status)
    summary = observability.summarise(time.monotonic() - began)
    if settings.summary:
        Path(settings.summary).write_text(summary.line() + "\n")
    print(summary.line(), flush=True)
    return status


def execute(job: Job, plan: ReadPlan | None, argv: Sequence[str]) -> None:
    """Runs the pipeline until it ends. `argv` holds Beam's options, the runner's among them."""
    pipeline = beam.Pipeline(options=PipelineOptions(list(argv), streaming=True))
    build(pipeline, job, plan)
    result = pipeline.run()
    if not in_this_process(pipeline):
        threading.Thread(target=lambda: DRAINING.wait() and result.cancel(), daemon=True).start()
    result.wait_until_finish()


def prepare(settings: NearlineSettings) -> tuple[Job, ReadPlan | None]:
    """What is decided once, before any worker starts: what is read, whom the namespace belongs to, this run's epochs.

    Raises ReadRefused, NamespaceMismatch, StoreUnavailable, TimeoutError, LookupError.
    """
    store = worker.new_store(settings)
    with unmoved(store) as moves:
        pinned = store.pinned()
        try:
            job, plan = prepare_in(settings, store)
        except NamespaceMismatch as error:
            if store.pinned() == pinned:
                raise
            raise NamespaceMoved(
                f"`aigq adopt` has just changed {settings.namespace!r}; starting again with what it holds now"
            ) from error
    return replace(job, moves=moves), plan


def prepare_in(settings: NearlineSettings, store: ShopperStore) -> tuple[Job, ReadPlan | None]:
    """The same in the namespace that `store` is at, whoever moves its name."""
    pinned = store.pinned()
    policy = settings.policy_of(pinned)
    if not settings.tracks:
        if pinned is None:
            raise LookupError(
                f"nothing is tracked in namespace {settings.namespace!r} yet: start the track stage first"
            )
        store.open(replace(pinned, policy_digest=policy.version, policy=policy.to_json()), settings.adopt)
        return Job(settings, store.namespace, policy, generate_epoch=store.begin("generate")), None

    def applied_offsets() -> dict[int, int]:
        pinned = store.pinned()
        shards = {p: store.applied(p) for p in range(pinned.partitions)} if pinned else {}
        return {p: min(a.next_offset for a in applied.values()) for p, applied in shards.items() if applied}

    plan = plan_read(read_settings(settings), applied_offsets)
    store.open(
        NamespaceMeta(
            settings.topic,
            plan.topic_id,
            plan.partitions,
            "murmur2",
            store.shards,
            FOLD_VERSION,
            policy.version,
            policy.to_json(),
        ),
        settings.adopt,
    )
    generate_epoch = store.begin("generate") if settings.generates else ""
    job = Job(settings, store.namespace, policy, store.begin("track"), generate_epoch)
    for partition, start in plan.starts.items():
        begin_shards(store, partition, start)
    return job, plan


def begin_shards(store: ShopperStore, partition: int, start: int) -> None:
    """Gives every shard its first offset before a record is read: a shard that a crash left without one would else begin
    wherever the next batch does.

    Raises StoreLost where some shards have made progress and others hold nothing.
    """
    applied = store.applied(partition)
    new = [shard for shard in range(store.shards) if shard not in applied]
    if new and any(each.clock_ms for each in applied.values()):
        raise StoreLost(
            f"partition {partition}: shards {new} of namespace {store.namespace!r} hold nothing while the others are at offset "
            f"{min(a.next_offset for a in applied.values())}: part of the store was lost. Make it anew from the log and the archive: "
            f"`aigq rebuild`"
        )
    store.save_many([ShardSave(shard, partition, start, start, 0, []) for shard in new])


def read_settings(settings: NearlineSettings) -> ReadSettings:
    return ReadSettings(
        kafka=settings.kafka,
        topic=settings.topic,
        group=settings.consumer_group,
        start=settings.start,
        start_if_new=settings.start_if_new,  # type: ignore[arg-type]
        end=settings.end,
        archive=settings.archive,
        on_lost_records=settings.on_lost_records,  # type: ignore[arg-type]
        log_clock=settings.log_clock,  # type: ignore[arg-type]
        batch_records=settings.batch_records,
        records_per_s=settings.records_per_s,
        splits=settings.splits,
        poll_s=settings.poll_s,
    )


@contextmanager
def runner_options(options: PipelineOptions) -> Iterator[list[str]]:
    """Options that lead to a runner: the one that was named, or a Prism (`flink`: a Flink cluster) of our own."""
    named = options.view_as(StandardOptions).runner
    if options.view_as(PortableOptions).job_endpoint or named not in (None, "flink"):
        yield []
        return
    start = flink if named == "flink" else prism
    with tempfile.TemporaryDirectory(prefix="aigq-runner-") as folder, start(Path(folder)) as runner:
        yield runner.options


def in_this_process(pipeline: beam.Pipeline) -> bool:
    """Whether the steps run here, where SIGTERM reaches them. Elsewhere the job is cancelled: the store and the leases make
    that as good as draining."""
    return pipeline.options.view_as(PortableOptions).environment_type in (None, "LOOPBACK")


def has_moved(job: Job) -> bool:
    """Whether an operator's command has fenced the job: started again, it goes on where its name stands for then."""
    try:
        return Namespaces(worker.new_store(job.settings).calls).moves(job.settings.namespace) != job.moves
    except StoreError:
        return False


NEEDS_A_PERSON = (ReadRefused, WriterFenced, StoreLost, NamespaceMismatch, TooManyDeadLetters, TooManyConflicts)
"""Each, and what is derived from it, has a row in docs/runbook/README.md."""


def needs_a_person(error: Exception) -> bool:
    """Whether the job would fail again in the same way. Beam hands a worker's exception to the driver as text only."""
    kinds = NEEDS_A_PERSON
    names = {name for kind in kinds for name in (kind.__name__, *(sub.__name__ for sub in kind.__subclasses__()))}
    return isinstance(error, kinds) or any(f"{name}: " in str(error) for name in names)


if __name__ == "__main__":
    # The module that workers know is pipelines.nearline: what is pickled from __main__ goes by value.
    from pipelines.nearline import run as run_job

    sys.exit(run_job(sys.argv[1:]))
