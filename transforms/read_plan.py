"""What a job reads, decided and checked once before any work: topic, begin and end of each partition.

With an archive, its files and what the broker still holds are one log. Without a broker (`bootstrap.servers` empty) both
ends of the read have to lie in the archive.
"""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from kafka.errors import KafkaError as PortableError

from transforms.archive_bounds import ArchiveBounds, archive_bounds
from transforms.archive_layout import Span
from transforms.kafka_clients import (
    KafkaSettings,
    LogAdministration,
    TopicFacts,
    complaint_of,
    log_administration,
    reachable_ends,
)
from transforms.log_position import (
    LogBounds,
    OnLostRecords,
    begin_lost,
    checked_starts,
    not_archived,
    not_authorised,
    parse_time_ms,
    skipped,
    start_from_applied,
    topic_recreated,
    wrong_timestamp_type,
)

LOG = logging.getLogger(__name__)
RETRY_S = 2.0
ASK_S = 5.0
GRACE_MS = 150
"""A record that is being appended may carry a time this far back (measured: below 50 ms): a time is past, or an end proven, only so
long after it."""
FETCH_S = 30.0
"""Longest wait for the last record of each partition."""


NO_WAITING_HELPS = ("uthenticat", "certificate verify failed")
"""In what librdkafka says of a connection: it was answered, and refused, by the broker or by us."""


@dataclass(frozen=True)
class ReadSettings:
    """How a topic is read."""

    kafka: KafkaSettings
    """librdkafka's names, `bootstrap.servers` at least (empty where everything is read from an archive); SASL and TLS too."""
    topic: str
    group: str = ""
    """Gets the offsets as a hint; empty for none."""
    done_when_read: bool = True
    """Whether the hint is what was handed out. False: what `hint_offsets` is told, by a job that buffers."""
    start: str = "applied"
    """applied, earliest, latest, or a time (ISO with zone, or epoch ms)."""
    start_if_new: Literal["earliest", "latest"] = "earliest"
    end: str = ""
    """Empty: never. now: the ends at start. A time in the past: the first offset at or after it."""
    archive: str = ""
    """Folder or URL of an archive of this topic: what the broker no longer holds is read from there. Empty for none."""
    on_lost_records: OnLostRecords = "fail"
    horizon_ms: int = 0
    """With start=earliest: how long a record counts in what is made of it. Records lost that are younger at the end are refused; 0: what
    is held is all that is asked for."""
    log_clock: Literal["append", "ingest_ms"] = "append"
    batch_records: int = 2_000
    """Most records of one batch."""
    records_per_s: float = 0.0
    """Most records read a second, ramped up from a tenth; 0 for as many as there are. Of one process."""
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
    """The first offset that was to be had when the job began. A start below it means records skipped by choice."""
    ends: Mapping[int, int] | None = None
    """First offsets that are not read; None for a job without end."""
    times_are_append: bool | None = None
    """Whether the topic promises append time; None where the broker would not say, and the first record decides."""
    end_ms: int | None = None
    """Log clock at which the read ends, where it ends at a time: all that has an earlier one lies before `ends`."""
    held: Mapping[int, int] | None = None
    """The first offset that the broker itself holds, where an archive is read too; None without a broker."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Of this read: two reads of one topic in one process do not share a consumer."""

    @property
    def partitions(self) -> int:
        return len(self.starts)

    def closes(self, partition: int) -> bool:
        """Whether the end of a bounded read has anything to tell of the partition. A time passes in empty ones too."""
        return self.ends is not None and (self.end_ms is not None or self.starts[partition] < self.ends[partition])


def plan_read(settings: ReadSettings, applied_offsets: Callable[[], Mapping[int, int]] = dict) -> ReadPlan:
    """Asks the broker, the archive and the store, and decides. `applied_offsets` gives the least next offset over shards by partition.

    Raises ReadRefused (StoreLost, RecordsLost, LogEndsEarly, WrongTimestampType, NotAuthorised, ArchiveMismatch), ValueError for a
    wrong time, LookupError where there is no such topic, TimeoutError where no broker answers within `broker_wait_s`.
    """
    if settings.end not in {"", "now"}:
        _wait_until_past(settings.end)
    archive = archive_bounds(settings.archive, settings.topic) if settings.archive else None
    bootstrap = settings.kafka["bootstrap.servers"]
    if not bootstrap:
        if archive is None or not settings.end:
            raise ValueError(
                "without --bootstrap there is only an archive to read: name --archive, and an --end that lies in it"
            )
        return _plan(settings, _Log(settings, archive), applied_offsets)
    deadline = time.monotonic() + settings.broker_wait_s
    while True:
        try:
            with log_administration(settings.kafka, settings.topic, settings.group) as administration:
                return _plan(settings, _Log(settings, archive, administration), applied_offsets)
        except PortableError as error:
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


def _wait_until_past(end: str) -> None:
    time_ms = parse_time_ms(end)
    now_ms = time.time() * 1000
    if time_ms > now_ms:
        raise ValueError(f"--end={end} lies in the future: the end is captured at start; --end=now is the latest")
    time.sleep(max(0.0, time_ms + GRACE_MS - now_ms) / 1000)


def _plan(settings: ReadSettings, log: "_Log", applied_offsets: Callable[[], Mapping[int, int]]) -> ReadPlan:
    topic, facts, beginnings = settings.topic, log.facts, log.beginnings
    if settings.start == "applied":
        bounds = LogBounds(topic, beginnings, log.ends)
        applied = applied_offsets()
        committed = log.committed()
        starts = start_from_applied(bounds, applied, committed, settings.group, settings.start_if_new)
        for partition, start in starts.items():
            if start < committed.get(partition, start):
                LOG.error(
                    "topic %s partition %d: the store is behind what was committed (offset %d, group %s at %d): it went back; the "
                    "%d records in between are read again",
                    topic,
                    partition,
                    start,
                    settings.group,
                    committed[partition],
                    committed[partition] - start,
                )
        for said in checked_starts(bounds, starts, settings.on_lost_records):
            LOG.error(said)
    elif settings.start in {"earliest", "latest"}:
        starts = beginnings if settings.start == "earliest" else log.ends
    else:
        starts = log.offsets_at(parse_time_ms(settings.start), "start")
    ends, end_ms = None, None
    if settings.end:
        end_ms = None if settings.end == "now" else parse_time_ms(settings.end)
        ends = log.ends if end_ms is None else log.offsets_at(end_ms, "end")
    plan = ReadPlan(
        topic,
        facts.topic_id,
        starts,
        beginnings,
        ends,
        None if facts.timestamp_type is None else facts.timestamp_type == "LogAppendTime",
        end_ms,
        log.held,
    )
    _check_begin(settings, plan, log)
    if log.archive is not None:
        _check_whole(settings, plan, log, log.archive)
    LOG.info("reading topic %s (id %s) from %s to %s", topic, plan.topic_id, dict(plan.starts), plan.ends or "no end")
    return plan


def _check_begin(settings: ReadSettings, plan: ReadPlan, log: "_Log") -> None:
    """Raises RecordsLost where the read is to begin before what is held of a log whose beginning is gone, unless told to skip.

    (A broker moves a partition's beginning when it deletes, never when it compacts.)
    """
    if settings.start == "earliest" and settings.horizon_ms:
        since_ms = log.end_ms(plan.end_ms) - settings.horizon_ms
        why = f"behaviours count for {settings.horizon_ms / 86_400_000:.3g} days, here since"
    elif settings.start not in {"applied", "earliest", "latest"}:
        since_ms, why = parse_time_ms(settings.start), "the read begins at"
    else:
        return
    for partition, beginning in plan.beginnings.items():
        if beginning == 0 or plan.starts[partition] > beginning:
            continue
        held_ms = log.lost_before_ms(partition)
        if held_ms is not None and held_ms <= since_ms:
            continue
        lost = begin_lost(plan.topic, partition, beginning, held_ms, since_ms, why)
        if settings.on_lost_records == "fail":
            raise lost
        LOG.error(skipped(lost))


def _check_whole(settings: ReadSettings, plan: ReadPlan, log: "_Log", archive: ArchiveBounds) -> None:
    """Raises RecordsLost where archive and broker together have a hole in what is read, unless told to skip."""
    for partition, start in plan.starts.items():
        end = log.ends[partition] if plan.ends is None else plan.ends[partition]
        held = Span(log.held[partition], log.ends[partition]) if log.held else Span(0, 0)
        for hole in archive.holes(partition, Span(max(start, plan.beginnings[partition]), end), held):
            lost = not_archived(plan.topic, partition, *hole, archive.root)
            if settings.on_lost_records == "fail":
                raise lost
            LOG.error(skipped(lost))


@dataclass(frozen=True)
class _Log:
    """The topic as archive and broker hold it together; either may be missing."""

    settings: ReadSettings
    archive: ArchiveBounds | None = None
    administration: LogAdministration | None = None

    @cached_property
    def facts(self) -> TopicFacts:
        topic = self.settings.topic
        if self.administration is None:
            assert self.archive is not None
            return TopicFacts(self.archive.topic_id, self.archive.partitions, None)
        bootstrap = self.settings.kafka["bootstrap.servers"]
        facts = self.administration.facts()
        if facts is None:
            raise LookupError(
                f"no topic {topic!r} at {bootstrap} (or no right to see it); create it with "
                "message.timestamp.type=LogAppendTime, or name another with --topic"
            )
        if self.settings.log_clock == "append" and facts.timestamp_type == "CreateTime":
            raise wrong_timestamp_type(topic, bootstrap)
        if self.archive is not None and self.archive.topic_id != facts.topic_id:
            raise topic_recreated(topic, f"{self.archive.topic_id} in the archive", facts.topic_id)
        return facts

    @cached_property
    def held(self) -> dict[int, int] | None:
        return self.administration and self.administration.beginnings(self.facts.partitions)

    @cached_property
    def beginnings(self) -> dict[int, int]:
        archived = self.archive.beginnings(self.facts.partitions) if self.archive else {}
        return archived if self.held is None else {p: min(archived.get(p, at), at) for p, at in self.held.items()}

    @cached_property
    def ends(self) -> dict[int, int]:
        partitions = self.facts.partitions
        if self.administration is None:
            assert self.archive is not None
            return self.archive.ends(partitions)
        listed = self.administration.listed_ends(partitions)
        return reachable_ends(self.settings.kafka, self.settings.topic, listed, FETCH_S)

    def committed(self) -> dict[int, int]:
        if self.administration is None or not self.settings.group:
            return {}
        return self.administration.committed(self.facts.partitions)

    def offsets_at(self, time_ms: int, which: str) -> dict[int, int]:
        """First offset whose log clock is `time_ms` or later, by partition; its end where there is none.

        Raises ValueError where neither the archive nor the broker can tell.
        """
        ends = self.ends  # first: a record that comes while the time is asked for lies behind them, as its time lies behind the question
        by_archive = self.archive.offsets_at(time_ms, self.settings.log_clock) if self.archive else {}
        by_broker: dict[int, int] = {}
        if self.administration is not None and self.settings.log_clock == "append":
            by_broker = self.administration.offsets_at(self.facts.partitions, time_ms)
        else:
            self._check_told(time_ms, which)
        found = (by_broker, by_archive)
        return {p: min((each[p] for each in found if p in each), default=end) for p, end in ends.items()}

    def lost_before_ms(self, partition: int) -> int | None:
        """Records below the beginning have no later log clock than this; None where nothing tells."""
        archived = self.archive.spans.get(partition) if self.archive else None
        if self.archive and archived and archived[0].first_offset == self.beginnings[partition]:
            return self.archive.lost_before_ms(partition)
        if self.administration is None or self.settings.log_clock != "append":
            return None
        return self.administration.first_time_ms(partition)

    def end_ms(self, asked_ms: int | None) -> int:
        """Log clock at the end of the read: the time that was asked for, or that of the log's end now."""
        if asked_ms is not None:
            return asked_ms
        if self.archive and (self.administration is None or self.settings.log_clock != "append"):
            return max(facts.clock_ms for facts in self.archive.facts.values())
        return int(time.time() * 1000)

    def _check_told(self, time_ms: int, which: str) -> None:
        told = self.archive.told(time_ms, self.held, self.ends) if self.archive else set()
        if unknown := sorted(self.ends.keys() - told):
            why = (
                "a broker finds append times only, not ingest_ms" if self.administration else "no --bootstrap is named"
            )
            raise ValueError(
                f"--{which}: where in partitions {unknown} of topic {self.settings.topic} the log clock is {time_ms}, is not in the "
                f"archive, and {why}. Name an --archive that holds the log from its beginning to beyond that time, or another time"
            )
