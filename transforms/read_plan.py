"""What a job reads, decided and checked once before any work: topic, begin and end of each partition."""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from kafka.errors import KafkaError as PortableError

from transforms.kafka_clients import KafkaSettings, LogAdministration, complaint_of, log_administration, reachable_ends
from transforms.log_position import (
    LogBounds,
    OnLostRecords,
    checked_starts,
    not_authorised,
    parse_time_ms,
    start_from_applied,
    wrong_timestamp_type,
)

LOG = logging.getLogger(__name__)
RETRY_S = 2.0
ASK_S = 5.0
FETCH_S = 30.0
"""Longest wait for the last record of each partition."""


NO_WAITING_HELPS = ("uthenticat", "certificate verify failed")
"""In what librdkafka says of a connection: it was answered, and refused, by the broker or by us."""


@dataclass(frozen=True)
class ReadSettings:
    """How a topic is read."""

    kafka: KafkaSettings
    """librdkafka's names, `bootstrap.servers` at least; SASL and TLS too."""
    topic: str
    group: str = ""
    """Gets the offsets as a hint; empty for none."""
    start: str = "applied"
    """applied, earliest, latest, or a time (ISO with zone, or epoch ms)."""
    start_if_new: Literal["earliest", "latest"] = "earliest"
    end: str = ""
    """Empty: never. now: the ends at start. A time in the past: the first offset at or after it."""
    on_lost_records: OnLostRecords = "fail"
    log_clock: Literal["append", "ingest_ms"] = "append"
    batch_records: int = 2_000
    """Most records of one batch."""
    splits: int = 1
    """Readers, each of a share of the partitions. Prism runs them one after another: 1 there."""
    poll_s: float = 0.05
    """Pause before an empty log is asked again."""
    tick_ms: int = 100
    """A partition without records reports its proven end this often."""
    broker_wait_s: float = 60.0
    """How long the broker is waited for at start."""


@dataclass(frozen=True)
class ReadPlan:
    """Offsets by partition; every partition of the topic has a start."""

    topic: str
    topic_id: str
    starts: Mapping[int, int]
    beginnings: Mapping[int, int]
    """What retention had left when the job began. A start below it means records skipped by choice."""
    ends: Mapping[int, int] | None = None
    """First offsets that are not read; None for a job without end."""
    times_are_append: bool | None = None
    """Whether the topic promises append time; None where the broker would not say, and the first record decides."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Of this read: two reads of one topic in one process do not share a consumer."""

    @property
    def partitions(self) -> int:
        return len(self.starts)


def plan_read(settings: ReadSettings, applied_offsets: Callable[[], Mapping[int, int]] = dict) -> ReadPlan:
    """Asks the broker and the store, and decides. `applied_offsets` gives the least next offset over shards by partition.

    Raises ReadRefused (StoreLost, RecordsLost, LogEndsEarly, WrongTimestampType, NotAuthorised), ValueError for a wrong time, LookupError
    where there is no such topic, TimeoutError where no broker answers within `broker_wait_s`.
    """
    deadline = time.monotonic() + settings.broker_wait_s
    while True:
        try:
            with log_administration(settings.kafka, settings.topic, settings.group) as administration:
                return _plan(settings, administration, applied_offsets)
        except PortableError as error:
            bootstrap = settings.kafka["bootstrap.servers"]
            complaint = complaint_of(settings.kafka, ASK_S) or repr(error)
            if any(words in complaint for words in NO_WAITING_HELPS) or not error.retriable:
                raise not_authorised(settings.topic, bootstrap, complaint) from error
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no broker at {bootstrap} answered within {settings.broker_wait_s:.0f} s, last: {complaint}. Is it up, "
                    "is the address right, does security.protocol match?"
                ) from error
            LOG.warning("no answer from the broker at %s yet (%s); trying again", bootstrap, complaint)
            time.sleep(RETRY_S)


def _plan(
    settings: ReadSettings, administration: LogAdministration, applied_offsets: Callable[[], Mapping[int, int]]
) -> ReadPlan:
    topic = settings.topic
    facts = administration.facts()
    if facts is None:
        raise LookupError(
            f"no topic {topic!r} at {settings.kafka['bootstrap.servers']} (or no right to see it); create it with "
            "message.timestamp.type=LogAppendTime, or name another with --topic"
        )
    if settings.log_clock == "append" and facts.timestamp_type == "CreateTime":
        raise wrong_timestamp_type(topic, settings.kafka["bootstrap.servers"])
    beginnings = administration.beginnings(facts.partitions)

    @cache
    def ends() -> dict[int, int]:
        return reachable_ends(settings.kafka, topic, administration.listed_ends(facts.partitions), FETCH_S)

    if settings.start == "applied":
        applied = applied_offsets()
        committed = administration.committed(facts.partitions) if settings.group else {}
        starts = start_from_applied(
            LogBounds(topic, beginnings, ends()), applied, committed, settings.group, settings.start_if_new
        )
        for said in checked_starts(LogBounds(topic, beginnings, ends()), starts, settings.on_lost_records):
            LOG.error(said)
    elif settings.start in {"earliest", "latest"}:
        starts = beginnings if settings.start == "earliest" else ends()
    else:
        starts = ends() | administration.offsets_at(facts.partitions, parse_time_ms(settings.start))
    plan = ReadPlan(
        topic,
        facts.topic_id,
        starts,
        beginnings,
        _ends(settings, administration, facts.partitions, ends),
        None if facts.timestamp_type is None else facts.timestamp_type == "LogAppendTime",
    )
    LOG.info("reading topic %s (id %s) from %s to %s", topic, plan.topic_id, dict(plan.starts), plan.ends or "no end")
    return plan


def _ends(
    settings: ReadSettings, administration: LogAdministration, partitions: int, ends: Callable[[], dict[int, int]]
) -> dict[int, int] | None:
    if not settings.end:
        return None
    if settings.end == "now":
        return ends()
    time_ms = parse_time_ms(settings.end)
    if time_ms > time.time() * 1000:
        raise ValueError(
            f"--end={settings.end} lies in the future: the end is captured at start; --end=now is the latest"
        )
    return ends() | administration.offsets_at(partitions, time_ms)
