"""Archive: records become Parquet files by hour, each offset in exactly one of them, whatever kills the job.

What is archived is said by the files alone: at the start each partition goes on at its greatest next offset. What is
buffered but not written when the process ends is read from the log again.
"""

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import apache_beam as beam
import pyarrow as pa

from transforms.archive_columns import Columns
from transforms.archive_layout import (
    HOUR_MS,
    ArchivedFile,
    FileFacts,
    facts_of,
    files_of,
    hour_of,
    newest,
    write_file,
)
from transforms.batches import RecordBatch
from transforms.read_plan import ReadPlan

LOG = logging.getLogger(__name__)

MOST_BUFFERED_BYTES = 256 * 2**20
"""Of values, over all partitions: beyond it the largest buffer is written, however young. (With their columns they take twice that.)"""


@dataclass(frozen=True)
class Rolling:
    """When a file is closed, besides the end of its hour and the end of a bounded read."""

    records: int = 100_000
    seconds: float = 300.0
    """After its first record came: so much is read again after a crash."""


@dataclass
class Buffer:
    """What of a partition is read and not yet written."""

    first_offset: int
    next_offset: int
    clock_ms: int
    """Log clock at `next_offset`."""
    progress_ms: int
    """Log clock proven to have passed at `next_offset`."""
    told_ms: int
    """The same, as the newest file says."""
    batches: list[pa.RecordBatch] = field(default_factory=list)
    records: int = 0
    size: int = 0
    """Bytes of values."""
    began: float = 0.0
    """Monotonic seconds of the first thing in it."""
    appended_ms: int = 0
    """Append time of its last record: its hour, while every record of the partition is dead and none has told a log clock."""

    @property
    def hour_ms(self) -> int:
        if self.records:
            return hour_of(self.clock_ms or max(0, self.appended_ms))
        return hour_of(max(self.clock_ms, self.progress_ms))


@dataclass
class Archiver:
    """Writes one topic. One per process; a batch at a time."""

    root: str
    kind: str
    """Folder below the root: events, exposures, query-runs."""
    columns: Columns
    plan: ReadPlan
    rolling: Rolling
    rewind: Callable[[str, int, int], None]
    """Asks the reader to go back: topic, partition, offset."""
    hint: Callable[[ReadPlan, Mapping[int, int]], None]
    """Told how far the files reach, for lag monitors."""
    log_clock: str = "append"
    buffers: dict[int, Buffer] = field(default_factory=dict)
    files: int = 0
    records: int = 0
    """Written."""
    size: int = 0
    """Bytes of files written."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._archived = newest(files_of(self.root, self.kind))

    def take(self, batch: RecordBatch) -> None:
        """Buffers a batch, and writes what is ready to be. Raises what the file system raises."""
        with self._lock:
            at = self.buffers.get(batch.partition) or self._begin(batch.partition)
            if batch.start_offset > at.next_offset:
                # The runner goes on from a checkpoint that is ahead of the files: it outlived the process that had the buffer.
                LOG.warning(
                    "%s partition %d: offsets %d to %d were read and not written; reading them again",
                    self.kind,
                    batch.partition,
                    at.next_offset,
                    batch.start_offset - 1,
                )
                self.rewind(batch.topic, batch.partition, at.next_offset)
                return
            if batch.next_offset < at.next_offset:
                return  # read again, and held already
            if batch.lost:
                self._write(batch.partition, at)
                at.first_offset = at.next_offset = batch.next_offset
                return
            self._add(batch, at)
            if batch.progress_ms is not None:
                at.progress_ms = max(at.progress_ms, batch.progress_ms)
            if self._ready(batch.partition, at):
                self._write(batch.partition, at)
            self._bound_memory()

    def _begin(self, partition: int) -> Buffer:
        at = Buffer(self.plan.starts[partition], self.plan.starts[partition], 0, 0, 0)
        if (file := self._archived.get(partition)) is not None:
            facts = facts_of(file)
            at = Buffer(file.next_offset, file.next_offset, facts.clock_ms, facts.progress_ms, facts.progress_ms)
        self.buffers[partition] = at
        return at

    def _add(self, batch: RecordBatch, at: Buffer) -> None:
        batch = batch.from_offset(at.next_offset)
        if batch.next_offset > at.next_offset and not at.began:
            at.began = time.monotonic()
        if batch.offsets:
            rows, clocks = self.columns.rows(batch, at.clock_ms)
            sizes = [len(value or b"") for value in batch.values]
            first = 0
            while first < len(clocks):
                if at.records and at.clock_ms and hour_of(clocks[first]) != at.hour_ms:
                    at.next_offset = batch.offsets[first]
                    self._write(batch.partition, at)
                    at.began = time.monotonic()
                last = bisect_left(clocks, hour_of(clocks[first]) + HOUR_MS, first)
                at.batches.append(rows.slice(first, last - first))
                at.records += last - first
                at.size += sum(sizes[first:last])
                at.clock_ms, at.appended_ms = clocks[last - 1], batch.ingest_ms[last - 1]
                first = last
        at.next_offset = batch.next_offset

    def _ready(self, partition: int, at: Buffer) -> bool:
        ended = self.plan.ends is not None and at.next_offset >= self.plan.ends[partition]
        if hour_of(at.progress_ms) > hour_of(max(at.told_ms, at.clock_ms if at.records else 0)):
            return True  # an hour has passed: with its records, or with proof that there were none
        if at.next_offset == at.first_offset:
            return ended and at.progress_ms > at.told_ms
        old = time.monotonic() - at.began >= self.rolling.seconds
        return at.records >= self.rolling.records or old or ended

    def _write(self, partition: int, at: Buffer) -> None:
        """The buffer as a file; it begins anew where the file ends."""
        progress_ms = max(at.progress_ms, at.clock_ms)
        if (at.records or progress_ms) and (at.next_offset > at.first_offset or progress_ms > at.told_ms):
            file = ArchivedFile(partition, at.first_offset, at.next_offset, at.hour_ms)
            facts = FileFacts(
                self.plan.topic,
                self.plan.topic_id,
                self.plan.partitions,
                self.log_clock,
                at.records,
                at.clock_ms,
                progress_ms,
            )
            rows = pa.Table.from_batches(at.batches, self.columns.schema)
            self.size += write_file(self.root, self.kind, file, facts, rows, self.columns.dictionary)
            self.files += 1
            self.records += at.records
            self.hint(self.plan, {partition: at.next_offset})
        self.buffers[partition] = at
        at.first_offset, at.told_ms = at.next_offset, progress_ms
        at.batches, at.records, at.size, at.began = [], 0, 0, 0.0

    def _bound_memory(self) -> None:
        if sum(at.size for at in self.buffers.values()) > MOST_BUFFERED_BYTES:
            partition, largest = max(self.buffers.items(), key=lambda item: item[1].size)
            self._write(partition, largest)


class WriteArchive(beam.DoFn):
    """The archiver as a step of a pipeline. Emits nothing: its output is files."""

    def __init__(self, archiver_of_process: Callable[[], Archiver]):
        self._archiver_of_process = archiver_of_process

    def setup(self) -> None:
        self._archiver = self._archiver_of_process()

    def process(self, element: RecordBatch) -> Iterable[None]:
        self._archiver.take(element)
        return ()
