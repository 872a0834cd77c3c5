"""Read: a topic of events becomes batches of records, one partition each, in offset order.

One element is a batch because Beam's price is per element. The truth about what was done is in the store; a checkpoint mark
and the group's committed offsets are hints. Nothing here waits: neither for the broker nor for what happens to the records.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import apache_beam as beam
import msgspec
from apache_beam.coders import Coder
from apache_beam.io.unbounded_source import (
    CheckpointMark,
    ReadFromUnboundedSource,
    UnboundedReader,
    UnboundedSource,
)
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from transforms.archived_log import ArchivedLog, archived_log, close_archived_log
from transforms.batches import RecordBatch
from transforms.drain import DRAINING, TRACKED
from transforms.read_plan import GRACE_MS, ReadPlan, ReadSettings
from transforms.rewinds import REWINDS
from transforms.shared_log import Fetched, SharedLog, open_log, shared_log
from transforms.throttle import Throttle

LOG = logging.getLogger(__name__)

BATCHES_PER_BUNDLE = 16
"""A checkpoint and a finalisation for every batch cost 20 % of throughput."""
READ_S = 1.0
"""Longest bundle: the splits of a bundle run one after another."""
HEARTBEAT_S = 1.0
"""A partition without records is reported this often even where its end is not proven: the store then notices a lost shard."""


_FINISHED: dict[str, set[int]] = {}
"""Partitions read to their end, by plan."""
_THROTTLES: dict[str, Throttle] = {}
"""By plan: readers come and go."""


class ReadEvents(beam.PTransform):
    """Begin -> RecordBatch. `plan` comes from `plan_read`, which has checked it."""

    def __init__(self, settings: ReadSettings, plan: ReadPlan):
        super().__init__()
        self._settings, self._plan = settings, plan

    def expand(self, input_or_inputs):
        source = LogSource(self._settings, self._plan, tuple(range(self._plan.partitions)))
        return input_or_inputs | ReadFromUnboundedSource(
            source,
            poll_interval=self._settings.poll_s,
            max_records_per_bundle=BATCHES_PER_BUNDLE,
            max_read_time_seconds=READ_S,
        ).with_output_types(RecordBatch)


class LogSource(UnboundedSource):
    """Some partitions of a topic."""

    def __init__(self, settings: ReadSettings, plan: ReadPlan, partitions: tuple[int, ...]):
        self.settings, self.plan, self.partitions = settings, plan, partitions

    def split(self, desired_num_splits: int, options: object = None) -> "list[LogSource]":
        splits = min(self.settings.splits, desired_num_splits, len(self.partitions))
        return [LogSource(self.settings, self.plan, self.partitions[split::splits]) for split in range(splits)]

    def create_reader(self, options: object, checkpoint_mark: CheckpointMark | None) -> "LogReader":
        if isinstance(checkpoint_mark, LogMark):
            return LogReader(self, checkpoint_mark.offsets, checkpoint_mark.closed)
        return LogReader(self, {partition: self.plan.starts[partition] for partition in self.partitions})

    def get_checkpoint_mark_coder(self) -> "LogMarkCoder":
        return LogMarkCoder(self)

    def log(self) -> SharedLog | ArchivedLog:
        open_one = archived_log if self.settings.archive else shared_log
        return open_one(self.settings, self.plan, self.partitions)

    def finished(self) -> bool:
        """Notes that these partitions are read to their end; says whether now all of the topic are, in this process."""
        done = _FINISHED.setdefault(self.plan.id, set())
        done.update(self.partitions)
        return len(done) == self.plan.partitions


@dataclass
class LogMark(CheckpointMark):
    """Next offset by partition, and the partitions of a bounded read whose closing batch was handed out."""

    offsets: dict[int, int]
    source: LogSource
    closed: frozenset[int] = frozenset()

    def finalize_checkpoint(self) -> None:
        if not self.source.settings.done_when_read:
            return
        if (log := open_log(self.source.plan, self.source.partitions)) is not None:
            log.hint(self.offsets)


class LogMarkCoder(Coder):
    """Offsets alone; the source, which a mark needs to be finalised, is beside it in Beam's restriction."""

    def __init__(self, source: LogSource):
        self._source = source

    def encode(self, value: LogMark) -> bytes:
        return msgspec.msgpack.encode((sorted(value.offsets.items()), sorted(value.closed)))

    def decode(self, encoded: bytes) -> LogMark:
        offsets, closed = msgspec.msgpack.decode(encoded, type=tuple[list[tuple[int, int]], list[int]])
        return LogMark(dict(offsets), self._source, frozenset(closed))

    def is_deterministic(self) -> bool:
        return True


class LogReader(UnboundedReader):
    """Holds positions and batches that are read but not yet handed out; the consumer belongs to the process."""

    def __init__(self, source: LogSource, offsets: Mapping[int, int], closed: frozenset[int] = frozenset()):
        self._source = source
        self._plan, self._settings = source.plan, source.settings
        self._ends = source.plan.ends
        self._next = dict(offsets)
        """As far as handed out: what a mark says."""
        self._read = dict(offsets)
        """As far as taken from the consumer."""
        self._ready: deque[RecordBatch] = deque()
        self._current: RecordBatch | None = None
        now = time.monotonic()
        self._told_at = dict.fromkeys(offsets, now)
        self._proven_ms: dict[int, int] = {}
        self._closed = set(closed)
        self._to_close = {p for p in offsets if self._plan.closes(p)} - closed
        """Partitions of a bounded read whose end is still to be told."""
        self._finished = False

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        if DRAINING.is_set() and not self._finished:
            self._finish()
        if self._finished:
            return False
        self._rewind()
        if not self._ready:
            self._fill()
        if not self._ready:
            self._finish_at_end()
            return False
        self._current = batch = self._ready.popleft()
        self._next[batch.partition] = batch.next_offset
        if batch.closing:
            self._closed.add(batch.partition)
        return True

    def get_current(self) -> RecordBatch:
        assert self._current is not None
        return self._current

    def get_current_timestamp(self) -> Timestamp:
        """Nothing in the pipeline rests on Beam's event time: the log clock is in the batch."""
        assert self._current is not None
        return Timestamp(self._current.ingest_ms[-1] / 1000 if self._current.ingest_ms else time.time())

    def get_watermark(self) -> Timestamp:
        return MAX_TIMESTAMP if self._finished else MIN_TIMESTAMP

    def get_checkpoint_mark(self) -> LogMark:
        return LogMark(dict(self._next), self._source, frozenset(self._closed))

    def _rewind(self) -> None:
        for partition, offset in REWINDS.take(self._plan.topic, self._next).items():
            LOG.warning(
                "topic %s partition %d: reading again from offset %d (was at %d)",
                self._plan.topic,
                partition,
                offset,
                self._next[partition],
            )
            self._ready = deque(batch for batch in self._ready if batch.partition != partition)
            self._next[partition] = self._read[partition] = offset
            self._closed.discard(partition)

    def _fill(self) -> None:
        open_positions = {
            partition: at for partition, at in self._read.items() if self._ends is None or at < self._ends[partition]
        }
        log = self._source.log()
        most = self._settings.batch_records * min(BATCHES_PER_BUNDLE, max(1, len(open_positions)))
        now = time.monotonic()
        throttle = self._throttle()
        most = min(most, throttle.allowed(now)) if throttle else most
        fetched = log.read(open_positions, most) if open_positions and most else {}
        if throttle:
            throttle.took(sum(len(records.offsets) for records in fetched.values()))
        for partition, records in fetched.items():
            self._ready.extend(self._batches(partition, records))
            self._told_at[partition] = now
            self._to_close.add(partition)
        for partition in self._read.keys() - fetched.keys():
            if (tick := self._tick(log, partition, now)) is not None:
                self._ready.append(tick)
                self._told_at[partition] = now

    def _throttle(self) -> Throttle | None:
        rate = self._settings.records_per_s
        return _THROTTLES.setdefault(self._plan.id, Throttle(rate)) if rate else None

    def _batches(self, partition: int, records: Fetched) -> Iterable[RecordBatch]:
        size = self._settings.batch_records
        offsets, next_offset = records.offsets, records.next_offset
        if self._ends is not None and next_offset > self._ends[partition]:
            next_offset = self._ends[partition]
            offsets = [offset for offset in offsets if offset < next_offset]
        for first in range(0, len(offsets) or 1, size):
            last = first + size
            end = next_offset if last >= len(offsets) else offsets[last]
            yield RecordBatch(
                topic=self._plan.topic,
                topic_id=self._plan.topic_id,
                partition=partition,
                start_offset=self._read[partition],
                offsets=offsets[first:last],
                ingest_ms=records.ingest_ms[first : min(last, len(offsets))],
                values=records.values[first : min(last, len(offsets))],
                next_offset=end,
                lost=records.lost,
            )
            self._read[partition] = end

    def _tick(self, log: SharedLog | ArchivedLog, partition: int, now: float) -> RecordBatch | None:
        """An empty batch, where it is time for one: with proof of the end, as a heartbeat, or as the last of a bounded read."""
        position, progress_ms, closing = self._read[partition], None, False
        quiet_s = now - self._told_at[partition]
        if self._ends is not None and position >= self._ends[partition]:
            # At once: where a runner makes a new reader every 100 ms (Flink), one that waited would never come to it.
            if partition not in self._to_close:
                return None
            self._to_close.discard(partition)
            progress_ms, closing = self._plan.end_ms, True
        elif quiet_s < self._settings.tick_ms / 1000:
            return None
        else:
            idle_ms = None
            if self._ends is None and self._settings.log_clock == "append":
                idle_ms = log.proven_end(partition, position)
            if idle_ms is not None and idle_ms > self._proven_ms.get(partition, 0):
                self._proven_ms[partition] = idle_ms
                progress_ms = idle_ms - GRACE_MS
            elif quiet_s < HEARTBEAT_S:
                return None
        return RecordBatch(
            self._plan.topic, self._plan.topic_id, partition, position, [], [], [], position, progress_ms, closing
        )

    def _finish_at_end(self) -> None:
        if self._ends is None or self._to_close:
            return
        if all(at >= self._ends[partition] for partition, at in self._read.items()):
            self._finish()
            if self._source.finished():
                LOG.info("topic %s: read to its end", self._plan.topic)
                TRACKED.set()

    def _finish(self) -> None:
        self._finished = True
        if (log := open_log(self._plan, self._source.partitions)) is not None:
            log.read_out()
        close_archived_log(self._plan, self._source.partitions)
