"""The log as archive and broker hold it together, read like the broker's alone: below the archive's end from its files.

Row groups are fetched and unpacked ahead, on threads, so that a reader waits for a file system at its start only.
Where two files hold the same offsets, one of them is read; where neither files nor broker have an offset, it is refused.
"""

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.archive_layout import EVENTS, ArchivedFile, files_of
from transforms.files import open_file
from transforms.log_position import not_archived, skipped
from transforms.read_plan import ReadPlan, ReadSettings
from transforms.shared_log import Fetched, SharedLog, shared_log

LOG = logging.getLogger(__name__)

READ = ["offset", "append_ms", "value"]
AHEAD = 2
"""Row groups of each partition that are in memory or on their way."""
THREADS = 2


@dataclass(frozen=True)
class Rows:
    """Some rows of a file, in offset order."""

    table: pa.Table
    next_offset: int
    """Behind them: the next rows' first offset, or the end of the file's range."""


@dataclass
class Cursor:
    """One partition, from an offset on through a file."""

    file: ArchivedFile
    at: int
    """Next offset to hand out."""
    coming: Iterator["Future[Rows]"]
    ahead: deque["Future[Rows]"] = field(default_factory=deque)
    row: int = 0
    """Of the first rows ahead, those that are handed out."""

    def read_ahead(self) -> None:
        while len(self.ahead) < AHEAD and (rows := next(self.coming, None)) is not None:
            self.ahead.append(rows)


class ArchivedLog:
    """Some partitions of a topic, read from an archive and, where it ends, from the broker."""

    def __init__(self, settings: ReadSettings, plan: ReadPlan, partitions: tuple[int, ...]):
        self._settings, self._plan, self._partitions = settings, plan, partitions
        self._pool = ThreadPoolExecutor(THREADS, "archive")
        self._files: dict[int, list[ArchivedFile]] = {}
        self._cursors: dict[int, Cursor] = {}
        self._left_at: dict[int, int] = {}
        """Offsets at which partitions went over to the broker: from there on, the archive is not asked again."""
        self._lock = threading.Lock()
        self._list()

    def read(self, positions: Mapping[int, int], most: int) -> dict[int, Fetched]:
        """What lies behind `positions`, about `most` records. Waits for files, never for the broker. Raises ReadRefused."""
        with self._lock:
            try:
                return self._fetch(positions, most)
            except FileNotFoundError:  # `prune` took it: what is left of it, if anything, is found anew
                self._cursors.clear()
                self._list()
                return {}

    def _fetch(self, positions: Mapping[int, int], most: int) -> dict[int, Fetched]:
        fetched: dict[int, Fetched] = {}
        from_broker: dict[int, int] = {}
        from_files: dict[int, Cursor] = {}
        for partition, at in positions.items():
            if (cursor := self._cursor(partition, at)) is not None:
                cursor.read_ahead()
                from_files[partition] = cursor
            elif self._broker_holds(partition, at):
                self._left_at[partition] = min(at, self._left_at.get(partition, at))
                from_broker[partition] = at
            else:
                fetched[partition] = self._skip(partition, at)
        if from_files and not from_broker and not fetched:
            wait([cursor.ahead[0] for cursor in from_files.values()], return_when=FIRST_COMPLETED)
        each = max(1, most // max(1, len(positions)))
        for partition, cursor in from_files.items():
            if cursor.ahead[0].done():
                fetched[partition] = self._take(partition, cursor, each)
        if from_broker:
            fetched |= self._broker().read(from_broker, most)
        return fetched

    def proven_end(self, partition: int, position: int) -> int | None:
        """See SharedLog. While a partition is read from files, nothing is proven of its end."""
        left_at = self._left_at.get(partition)
        return None if left_at is None or position < left_at else self._broker().proven_end(partition, position)

    def close(self) -> None:
        """Lets go of what is read ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _broker(self) -> SharedLog:
        return shared_log(self._settings, self._plan, self._partitions)

    def _broker_holds(self, partition: int, at: int) -> bool:
        return self._plan.held is not None and at >= self._plan.held[partition]

    def _cursor(self, partition: int, at: int) -> Cursor | None:
        """Where to read on in the files; None where they do not have that offset."""
        if at >= self._left_at.get(partition, at + 1):
            return None
        cursor = self._cursors.get(partition)
        if cursor is not None and cursor.at == at < cursor.file.next_offset:
            return cursor
        self._cursors.pop(partition, None)
        file = self._file(partition, at)
        if file is None:
            self._list()  # what was archived since
            file = self._file(partition, at)
        if file is None:
            return None
        self._cursors[partition] = cursor = Cursor(file, at, self._rows(file, at))
        return cursor

    def _list(self) -> None:
        found: dict[int, list[ArchivedFile]] = defaultdict(list)
        for file in files_of(self._settings.archive, EVENTS):
            found[file.partition].append(file)
        self._files = found

    def _file(self, partition: int, at: int) -> ArchivedFile | None:
        """The one that leads furthest from `at`."""
        holding = [file for file in self._files.get(partition, ()) if file.first_offset <= at < file.next_offset]
        return max(holding, key=lambda file: file.next_offset, default=None)

    def _rows(self, file: ArchivedFile, at: int) -> "Iterator[Future[Rows]]":
        """The file's row groups from `at` on, each on its way as soon as it is asked for."""
        shape = self._pool.submit(_shape, file).result()
        first = next((n for n, (_, last) in enumerate(shape) if last >= at), len(shape))
        if first == len(shape):  # no row, but a range: a hole that the log itself had
            done: Future[Rows] = Future()
            done.set_result(Rows(pa.table({name: [] for name in READ}), file.next_offset))
            yield done
        for number in range(first, len(shape)):
            next_offset = shape[number + 1][0] if number + 1 < len(shape) else file.next_offset
            yield self._pool.submit(_read, file, number, at, next_offset)

    def _take(self, partition: int, cursor: Cursor, most: int) -> Fetched:
        rows = cursor.ahead[0].result()
        first, last = cursor.row, min(cursor.row + most, rows.table.num_rows)
        taken = rows.table.slice(first, last - first)
        if last == rows.table.num_rows:
            cursor.at, cursor.row = rows.next_offset, 0
            cursor.ahead.popleft()
            if cursor.at == cursor.file.next_offset:
                self._begin_next(partition, cursor)
        else:
            cursor.at, cursor.row = rows.table["offset"][last].as_py(), last
        return Fetched(*(_list_of(taken[name]) for name in READ), next_offset=cursor.at)

    def _begin_next(self, partition: int, cursor: Cursor) -> None:
        """The next file's rows are fetched while those in hand are worked on."""
        file = self._file(partition, cursor.at)
        if file is None:
            del self._cursors[partition]
        else:
            self._cursors[partition] = following = Cursor(file, cursor.at, self._rows(file, cursor.at))
            following.read_ahead()

    def _skip(self, partition: int, at: int) -> Fetched:
        """Over a hole, where told to. (Most are found by plan_read; this one came about since: `prune`, or retention.)"""
        held = [] if self._plan.held is None else [self._plan.held[partition]]
        ends = [] if self._plan.ends is None else [self._plan.ends[partition]]
        archived = [file.first_offset for file in self._files.get(partition, ())]
        following = min(offset for offset in [*archived, *held, *ends] if offset > at)
        lost = not_archived(self._plan.topic, partition, at, following, self._settings.archive)
        if self._settings.on_lost_records == "fail":
            raise lost
        LOG.error(skipped(lost))
        return Fetched([], [], [], following, lost=True)


def _shape(file: ArchivedFile) -> list[tuple[int, int]]:
    """First and last offset of each row group."""
    with open_file(file.path) as stream:
        footer = pq.read_metadata(stream)
    column = footer.schema.to_arrow_schema().get_field_index("offset")
    groups = [footer.row_group(number).column(column).statistics for number in range(footer.num_row_groups)]
    return [(group.min, group.max) for group in groups if group is not None and group.has_min_max]


def _read(file: ArchivedFile, row_group: int, at: int, next_offset: int) -> Rows:
    with open_file(file.path) as stream:
        table = pq.ParquetFile(stream).read_row_group(row_group, columns=READ, use_threads=False)
    first = int(table["offset"].to_numpy().searchsorted(at))
    return Rows(table.slice(first), next_offset)


def _list_of(column: pa.ChunkedArray) -> list:
    # numpy's way to a list takes a third of pyarrow's own.
    return column.to_numpy().tolist()


_LOGS: dict[tuple[str, tuple[int, ...]], ArchivedLog] = {}
_LOGS_LOCK = threading.Lock()


def archived_log(settings: ReadSettings, plan: ReadPlan, partitions: tuple[int, ...]) -> ArchivedLog:
    """The one of this process, made where there is none yet."""
    with _LOGS_LOCK:
        key = (plan.id, partitions)
        if key not in _LOGS:
            _LOGS[key] = ArchivedLog(settings, plan, partitions)
        return _LOGS[key]


def close_archived_log(plan: ReadPlan, partitions: tuple[int, ...]) -> None:
    """Where it is open: nobody reads on."""
    with _LOGS_LOCK:
        log = _LOGS.pop((plan.id, partitions), None)
    if log is not None:
        log.close()
