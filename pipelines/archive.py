"""The archive job: what passes through Kafka becomes Parquet files, for replays and for people who ask.

    behaviour  -> read_events -> write_archive (ROOT/events)
    exposure   -> read_events -> write_archive (ROOT/exposures)
    query-runs -> read_events -> write_archive (ROOT/query-runs)

A job and a consumer group of its own, so that it never slows the live path. It keeps no state but its files (docs/archive.md).
"""

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import beam_workarounds, observability
from pipelines.known_options import unknown_words
from pipelines.nearline import A_PERSON_DECIDES, BAD_CONFIGURATION, EndOfBranch, needs_a_person, runner_options
from pipelines.options import NearlineSettings, exported_or_default, option
from schemas.codec import FORMATS, decoder_for
from transforms.archive import Archiver, Rolling, WriteArchive
from transforms.archive_bounds import archive_bounds
from transforms.archive_columns import Columns, event_columns, exposure_columns, query_run_columns
from transforms.archive_layout import EVENTS, EXPOSURES, QUERY_RUNS, files_of, remove_left_over
from transforms.drain import DRAINING
from transforms.files import use_options
from transforms.log_position import ArchiveMismatch, StoreLost, topic_recreated
from transforms.read_events import ReadEvents
from transforms.read_plan import ReadPlan, ReadSettings, plan_read
from transforms.rewinds import REWINDS
from transforms.shared_log import hint_offsets

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArchiveSettings:
    """Everything the job can be told."""

    bootstrap: str = option("Kafka brokers, host:port separated by commas; or $AIGQ_BOOTSTRAP", "")
    archive: str = option("folder of the archive, or its URL in an object store (gs://, s3://); or $AIGQ_ARCHIVE", "")
    kafka_config: str = option("more librdkafka settings (SASL, TLS), name=value separated by semicolons", "")
    topic: str = option("topic of behaviour events; empty to leave it out", "behaviour")
    exposure_topic: str = option("topic of hints shown and clicked; empty to leave it out", "exposure")
    results_topic: str = option("topic of stored lists; empty to leave it out", "query-runs")
    group: str = option("consumer group: a hint of progress for lag monitors (the truth are the files)", "aigq-archive")
    start_if_new: str = option("where to begin with what is not archived yet", "earliest", ("earliest", "latest"))
    end: str = option("stop there: empty (never), now (the ends at start), or a time (ISO with zone)", "")
    on_lost_records: str = option("retention has deleted records that were not archived yet", "fail", ("fail", "skip"))
    log_clock: str = option(
        "what the hours of events are told by: the broker's append time, or the events' own ingest_ms (imported logs only)",
        "append",
        ("append", "ingest_ms"),
    )
    format: str = option("wire format of events", "auto", FORMATS)
    schema_registry: str = option("URL of the schema registry for Confluent framing", "")
    mapper: str = option("module:function that reads your own events: bytes -> BehaviourEvent, or a reason", "")
    batch_records: int = option("records of one partition in one element", 2_000)
    splits: int = option("parallel readers; 1 on Prism, at most the number of partitions on Flink", 1)
    poll_s: float = option("seconds between polls for new records", 0.5)
    roll_records: int = option("records after which a file is closed", Rolling().records)
    roll_s: float = option("seconds after which a file is closed: so old may the archive's end be", Rolling().seconds)
    summary: str = option("file for the summary (JSON)", "")

    @property
    def kafka(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self.kafka_config.split(";") if pair)
        return {"bootstrap.servers": self.bootstrap} | {name.strip(): value for name, _, value in pairs}

    @property
    def topics(self) -> dict[str, str]:
        """Topic by the set it goes to."""
        topics = {EVENTS: self.topic, EXPOSURES: self.exposure_topic, QUERY_RUNS: self.results_topic}
        return {kind: topic for kind, topic in topics.items() if topic}

    def errors(self) -> list[str]:
        """Everything that is wrong, each with what to do."""
        wrong = [f"--{name} is required" for name in ("bootstrap", "archive") if not getattr(self, name)]
        for f in fields(self):
            value, choices = getattr(self, f.name), f.metadata["choices"]
            if choices and value not in choices:
                wrong.append(f"--{f.name} is one of {', '.join(choices)}; got {value!r}")
            if isinstance(value, (int, float)) and value <= 0:
                wrong.append(f"--{f.name} must be above 0; got {value}")
        if not self.topics:
            wrong.append("--topic, --exposure_topic and --results_topic are all empty: there is nothing to archive")
        if any("=" not in pair for pair in self.kafka_config.split(";") if pair):
            wrong.append(f"--kafka_config is name=value;name=value; got {self.kafka_config!r}")
        try:
            self.columns(EVENTS)
        except ValueError as error:
            wrong.append(str(error))
        return wrong

    def columns(self, kind: str) -> Columns:
        """Raises ValueError for a format, registry or mapper that is not there."""
        if kind == EXPOSURES:
            return exposure_columns()
        if kind == QUERY_RUNS:
            return query_run_columns()
        decoder = decoder_for(self.format, self.schema_registry, self.mapper)
        return event_columns(decoder, self.log_clock)  # type: ignore[arg-type]

    def reading(self, kind: str) -> ReadSettings:
        return ReadSettings(
            kafka=self.kafka,
            topic=self.topics[kind],
            group=self.group,
            done_when_read=False,
            start_if_new=self.start_if_new,  # type: ignore[arg-type]
            end=self.end,
            on_lost_records=self.on_lost_records,  # type: ignore[arg-type]
            log_clock=self.clock_of(kind),  # type: ignore[arg-type]
            batch_records=self.batch_records,
            splits=self.splits,
            poll_s=self.poll_s,
        )

    def clock_of(self, kind: str) -> str:
        """Only events may bring a log clock of their own."""
        return self.log_clock if kind == EVENTS else "append"


def build(p: beam.Pipeline, settings: ArchiveSettings, plans: dict[str, ReadPlan]) -> None:
    """Adds a branch for each set."""
    for kind, plan in plans.items():
        _ = (
            p
            | f"read {kind}" >> ReadEvents(settings.reading(kind), plan)
            | f"write {kind}" >> beam.ParDo(WriteArchive(partial(archiver, settings, kind, plan)))
            | f"end of {kind}" >> EndOfBranch()
        )


_ARCHIVERS: dict[str, Archiver] = {}


def archiver(settings: ArchiveSettings, kind: str, plan: ReadPlan) -> Archiver:
    """The one of this process and read."""
    if plan.id not in _ARCHIVERS:
        rolling = Rolling(settings.roll_records, settings.roll_s)
        _ARCHIVERS[plan.id] = Archiver(
            settings.archive,
            kind,
            settings.columns(kind),
            plan,
            rolling,
            REWINDS.ask,
            hint_offsets,
            settings.clock_of(kind),
        )
    return _ARCHIVERS[plan.id]


def prepare(settings: ArchiveSettings) -> dict[str, ReadPlan]:
    """What is read, by set. Raises ReadRefused, ValueError, LookupError, TimeoutError (see plan_read)."""
    plans = {}
    for kind, topic in settings.topics.items():
        if left := remove_left_over(settings.archive, kind):
            LOG.warning("%s: removed %d files that a crash left half written; their records are read again", kind, left)
        archived, held = {}, None
        if files_of(settings.archive, kind):
            held = archive_bounds(settings.archive, topic, kind)
            archived = held.ends(held.partitions)
            archived = {partition: archived[partition] for partition in held.spans}
        try:
            plan = plan_read(settings.reading(kind), lambda archived=archived: archived)
        except StoreLost as error:
            raise StoreLost(
                f"group {settings.group!r} has read topic {topic} beyond what {settings.archive} holds of {kind}: files were taken "
                f"away, or this is another archive. Check --archive; a new archive is begun with a --group of its own"
            ) from error
        if held is not None:
            _check_continues(settings, kind, plan, held.facts[min(held.facts)].log_clock, held.topic_id)
        plans[kind] = plan
    return plans


def _check_continues(settings: ArchiveSettings, kind: str, plan: ReadPlan, log_clock: str, topic_id: str) -> None:
    if topic_id != plan.topic_id:
        refusal = topic_recreated(plan.topic, f"{topic_id} in the archive", plan.topic_id)
        raise ArchiveMismatch(f"{refusal}. Archive it in another --archive")
    if log_clock != settings.clock_of(kind):
        raise ArchiveMismatch(
            f"the {kind} in {settings.archive} were archived with --log_clock={log_clock}: their hours would mean something else from "
            f"here on. Go on with that, or begin another --archive"
        )


@dataclass(frozen=True)
class Written:
    """What a run wrote of one set."""

    files: int
    records: int
    size: int
    """Bytes of the files."""


def run(argv: Sequence[str]) -> int:
    """Runs the job until its end, SIGTERM or a failure. Returns the exit status, as the nearline job does.

    SIGTERM writes nothing more: what is buffered is read again.
    """
    parser = argparse.ArgumentParser(
        "aigq run archive", epilog="Other options go to Beam.", add_help=False, allow_abbrev=False
    )
    for f in fields(ArchiveSettings):
        help = f"{f.metadata['help']} (default: {f.default})".replace("%", "%%")
        default = exported_or_default(f, ("bootstrap", "archive"))
        parser.add_argument(f"--{f.name}", type=type(f.default), default=default, help=help)
    if "--help" in argv:
        parser.print_help()
        return 0
    began = time.monotonic()
    ours, to_beam = parser.parse_known_args(list(argv))
    settings = ArchiveSettings(**vars(ours))
    nearline_only = {f"--{f.name}" for f in fields(NearlineSettings)}
    names = [word.partition("=")[0] for word in to_beam]
    errors = [f"{name} is an option of `aigq run nearline` alone" for name in names if name in nearline_only]
    if errors := [*unknown_words(to_beam, vars(ours)), *errors, *settings.errors()]:
        print("\n".join(errors), file=sys.stderr)
        return BAD_CONFIGURATION
    observability.log_as_json()
    beam_workarounds.treat_unknown_progress_as_no_split()
    signal.signal(signal.SIGTERM, lambda *_: DRAINING.set())
    signal.signal(signal.SIGINT, lambda *_: DRAINING.set())
    use_options(PipelineOptions(to_beam))
    status = 1
    try:
        try:
            plans = prepare(settings)
        except (ValueError, LookupError) as error:  # a time, a topic that is not there
            print(error, file=sys.stderr)
            return BAD_CONFIGURATION
        with ExitStack() as stack:
            runner = stack.enter_context(runner_options(PipelineOptions(to_beam)))
            pipeline = beam.Pipeline(options=PipelineOptions([*to_beam, *runner], streaming=True))
            build(pipeline, settings, plans)
            pipeline.run().wait_until_finish()
            status = 0
    except Exception as error:  # the process's last word, whatever went wrong
        status = A_PERSON_DECIDES if needs_a_person(error) else 1
        LOG.exception("the archive job failed (exit status %d)", status)
    written = {each.kind: asdict(Written(each.files, each.records, each.size)) for each in _ARCHIVERS.values()}
    summary = json.dumps({"summary": {"seconds": round(time.monotonic() - began, 3), "written": written}})
    if settings.summary:
        Path(settings.summary).write_text(summary + "\n")
    print(summary, flush=True)
    return status


if __name__ == "__main__":
    # The module that workers know is pipelines.archive: what is pickled from __main__ goes by value.
    from pipelines.archive import run as run_job

    sys.exit(run_job(sys.argv[1:]))
