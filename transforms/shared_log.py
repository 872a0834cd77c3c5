"""The consumer of this process: assigned and sought, never subscribed, shared by the readers that Beam builds and drops.

Beam recreates a reader with nearly every bundle (63 Kafka consumers a minute for 4 partitions were counted on Flink), so a
reader holds positions and nothing else. Here the consumer goes on from where it is, and seeks only where a reader's
positions differ.
"""

import atexit
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaError,
    Message,
    TopicPartition,
)

from transforms.kafka_clients import log_consumer
from transforms.log_position import wrong_timestamp_type
from transforms.log_watch import LogWatch, Reading
from transforms.read_plan import ReadPlan, ReadSettings

LOG = logging.getLogger(__name__)

CLOSE_AFTER_S = 120.0
"""A consumer that nobody read from for so long is closed; the next reader makes a new one."""
CLOSE_READ_OUT_S = 3.0
"""The same at the end of a bounded read: long enough for the last checkpoint to be finalised."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one partition in offset order."""

    offsets: list[int]
    ingest_ms: list[int]
    values: list[bytes | None]
    next_offset: int
    """Behind the last record, or further where the log has a hole (transaction markers, skipped records)."""
    lost: bool = False
    """No records: they were deleted before they were read, and are skipped by choice."""


class SharedLog:
    """Some partitions of a topic, read by one consumer and watched by one thread."""

    def __init__(self, settings: ReadSettings, plan: ReadPlan, partitions: tuple[int, ...]):
        self._settings, self._plan, self._partitions = settings, plan, partitions
        self._lock = threading.Lock()
        self._reading = Reading()
        self._at = self._reading.positions
        self._first: dict[int, int] = {}
        """Partitions that have delivered nothing since they were sought: the offset that came instead of the one sought, or -1."""
        self._used_at = time.monotonic()
        self._times_checked = settings.log_clock != "append"
        self._complaints = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}
        """Kinds of complaints that need no further line in the log."""
        self.closed = False
        self._close_after_s = CLOSE_AFTER_S
        self._consumer = log_consumer(settings.kafka, settings.group, error_cb=self._on_error)
        self._watch = LogWatch(settings, plan, partitions, self._reading, self._close_when_idle)

    def read(self, positions: Mapping[int, int], most: int) -> dict[int, Fetched]:
        """What has arrived behind `positions`, at most `most` records; never waits. Raises ReadRefused."""
        with self._lock:
            self._used_at = time.monotonic()
            if self._watch.refusal:
                raise self._watch.refusal
            if positions != self._at:
                self._seek(positions)
            elif self._reading.seek_again:
                self._seek(dict(self._at))
            fetched = self._skip_what_is_gone()
            records: dict[int, list[Message]] = {}
            ends: dict[int, int] = {}
            for message in self._consumer.consume(most, 0):
                partition = message.partition()
                if (error := message.error()) is not None:
                    self._on_fetch_error(error, message, ends)
                elif partition in records:
                    records[partition].append(message)
                elif partition is not None:
                    records[partition] = [message]
            for partition, messages in records.items():
                if (taken := self._take(partition, messages)) is not None:
                    fetched[partition] = taken
            for partition, end in ends.items():
                if (hole := self._take_end(partition, end, fetched.get(partition))) is not None:
                    fetched[partition] = hole
            if any(offset >= 0 for offset in self._first.values()):
                self._assign()
            return fetched

    def proven_end(self, partition: int, position: int) -> int | None:
        """Wall clock (ms) at which the broker held nothing behind `position`; None where that is not proven."""
        answer = self._watch.ends.get(partition)
        if answer is None:
            return None
        end, asked_ms = answer
        if end < position and not self.closed:
            # Tansu lists the offset behind the first record of the last batch. Whoever has read that record has been sent
            # the whole batch, whose end the fetch told.
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self._plan.topic, partition), cached=True)
            end = high
        return asked_ms if end == position else None

    def hint(self, offsets: Mapping[int, int]) -> None:
        """Tells the group, some time soon, how far the job is. Only lag monitors read it."""
        self._reading.hint = {**self._reading.hint, **offsets}

    def read_out(self) -> None:
        """Nobody will read on: no silence is reported any more, and the consumer is closed soon."""
        self._close_after_s = CLOSE_READ_OUT_S
        self._watch.read_out = True

    def close(self) -> None:
        self._watch.stop()
        with self._lock:
            if not self.closed:
                self.closed = True
                self._consumer.close()

    def _seek(self, positions: Mapping[int, int]) -> None:
        """Goes to `positions`; partitions that are not among them are not read any more."""
        if self._at:
            moved = {p: (self._at.get(p), at) for p, at in positions.items() if self._at.get(p) != at}
            LOG.debug("topic %s: seeking (from, to) %s", self._plan.topic, moved)
        self._at.clear()
        self._at.update(positions)
        self._first = dict.fromkeys(positions, -1)
        self._reading.seek_again.clear()
        self._assign()

    def _assign(self) -> None:
        self._consumer.assign(
            [
                TopicPartition(self._plan.topic, partition, max(at, self._watch.gone.get(partition, 0)))
                for partition, at in self._at.items()
            ]
        )

    def _skip_what_is_gone(self) -> dict[int, Fetched]:
        skipped = {
            partition: Fetched([], [], [], beginning, lost=True)
            for partition, beginning in self._watch.gone.items()
            if self._at.get(partition, beginning) < beginning
        }
        if skipped:
            self._seek(self._at | {partition: empty.next_offset for partition, empty in skipped.items()})
        return skipped

    def _take(self, partition: int, messages: list[Message]) -> Fetched | None:
        at = self._at.get(partition)
        if at is None:
            return None  # not read any more
        offsets: list[int] = [message.offset() for message in messages]  # pyright: ignore[reportAssignmentType]
        if offsets[0] < at:  # fetched before a seek
            messages = [message for message in messages if (message.offset() or 0) >= at]
            offsets = offsets[len(offsets) - len(messages) :]
            if not messages:
                return None
        if offsets[0] > at and self._doubted(partition, offsets[0]):
            return None
        self._first.pop(partition, None)
        if not self._times_checked:
            self._check_times(messages[0])
        self._at[partition] = next_offset = offsets[-1] + 1
        self._reading.last_record_at = self._reading.last_record_of[partition] = time.monotonic()
        return Fetched(
            offsets,
            [message.timestamp()[1] for message in messages],
            [message.value() for message in messages],  # pyright: ignore[reportArgumentType]
            next_offset,
        )

    def _take_end(self, partition: int, end: int, before: Fetched | None) -> Fetched | None:
        """The fetch reached the end: further than the last record where markers of transactions follow it."""
        at = self._at.get(partition)
        if at is None or end < at or (end > at and self._doubted(partition, end)):
            return None
        self._first.pop(partition, None)
        if end == at:
            return None
        self._at[partition] = end
        return Fetched(before.offsets, before.ingest_ms, before.values, end) if before else Fetched([], [], [], end)

    def _doubted(self, partition: int, offset: int) -> bool:
        """A hole right behind a seek could be a record fetched before it: it is believed when it comes a second time."""
        if partition not in self._first or self._first[partition] == offset:
            self._first.pop(partition, None)
            return False
        self._first[partition] = offset
        return True

    def _on_fetch_error(self, error: KafkaError, message: Message, ends: dict[int, int]) -> None:
        partition, offset = message.partition(), message.offset()
        if error.code() == KafkaError._PARTITION_EOF:
            if partition is not None and offset is not None:
                ends[partition] = offset
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:
            self._reading.out_of_range.add(partition)
        else:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        self._reading.last_error = str(error)
        if error.code() not in self._complaints:  # a lost connection is the watch's to report
            self._complaints.add(error.code())
            LOG.warning("topic %s: %s", self._plan.topic, error)

    def _check_times(self, first: Message) -> None:
        self._times_checked = True
        kind, _ = first.timestamp()
        if kind == TIMESTAMP_LOG_APPEND_TIME:
            return
        if self._plan.times_are_append is None:
            self._watch.refusal = wrong_timestamp_type(self._plan.topic, self._settings.kafka["bootstrap.servers"])
            raise self._watch.refusal
        LOG.warning(
            "topic %s promises append time, but its first record (partition %s, offset %s) carries its producer's: it is "
            "older than the setting, or the broker is the embedded one, which keeps producers' times. They are used as the "
            "log clock",
            self._plan.topic,
            first.partition(),
            first.offset(),
        )

    def _close_when_idle(self) -> None:
        """On the watch's thread."""
        if time.monotonic() - self._used_at > self._close_after_s:
            self.close()


_LOGS: dict[tuple[str, tuple[int, ...]], SharedLog] = {}
_LOGS_LOCK = threading.Lock()


def open_log(plan: ReadPlan, partitions: tuple[int, ...]) -> SharedLog | None:
    """The one of this process, where it is open."""
    return _LOGS.get((plan.id, partitions))


def shared_log(settings: ReadSettings, plan: ReadPlan, partitions: tuple[int, ...]) -> SharedLog:
    """The one of this process, made where there is none yet."""
    key = (plan.id, partitions)
    with _LOGS_LOCK:
        log = _LOGS.get(key)
        if log is None or log.closed:
            log = _LOGS[key] = SharedLog(settings, plan, partitions)
        return log


def hint_offsets(plan: ReadPlan, offsets: Mapping[int, int]) -> None:
    """Tells the group how far a job is that does not work on records when it is handed them (`done_when_read`)."""
    for (id, partitions), log in list(_LOGS.items()):
        if id == plan.id and (ours := {p: at for p, at in offsets.items() if p in partitions}):
            log.hint(ours)


@atexit.register
def close_logs() -> None:
    """Closes every consumer of the process."""
    with _LOGS_LOCK:
        for log in _LOGS.values():
            log.close()
        _LOGS.clear()
