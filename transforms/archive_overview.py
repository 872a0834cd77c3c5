"""What an archive holds, day by day, and taking old hours away."""

import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from transforms.archive_layout import (
    SETS,
    SNAPSHOTS,
    ArchivedFile,
    Span,
    facts_of,
    files_of,
    folder_of,
    hour_of,
    newest,
    snapshot_files,
    spans,
    write_file,
)
from transforms.files import delete_files, is_local, open_file

DAY_MS = 86_400_000


@dataclass(frozen=True)
class PartitionOfDay:
    """Of one set, day and partition."""

    partition: int
    files: int
    records: int
    size: int
    """Bytes."""
    offsets: Span


@dataclass(frozen=True)
class SetOverview:
    """One set (events, exposures, query-runs)."""

    kind: str
    topic: str
    topic_id: str
    days: dict[str, list[PartitionOfDay]]
    holes: list[tuple[int, Span]]
    """(partition, offsets) between files: records that are archived nowhere."""
    overlaps: list[tuple[int, Span]]
    """The same offsets in two files: two jobs wrote at once. Readers take one of them."""


def overview(root: str) -> list[SetOverview]:
    """Of every set that has files. Raises LookupError where there is none. Reads the footer of every file."""
    found = [_set(root, kind, files) for kind in SETS if (files := files_of(root, kind))]
    if not found:
        raise LookupError(f"no archive in {root}: `aigq run archive --archive={root}` makes one; is --archive right?")
    return found


def _set(root: str, kind: str, files: list[ArchivedFile]) -> SetOverview:
    by_day: dict[str, dict[int, list[ArchivedFile]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        by_day[file.day][file.partition].append(file)
    days = {day: [_of_day(p, mine) for p, mine in sorted(by_day[day].items())] for day in sorted(by_day)}
    facts = facts_of(max(files, key=lambda file: file.hour_ms))
    holes = [
        (partition, Span(before.next_offset, after.first_offset))
        for partition, parts in spans(files).items()
        for before, after in pairwise(parts)
    ]
    return SetOverview(kind, facts.topic, facts.topic_id, days, holes, _overlaps(files))


def _of_day(partition: int, files: list[ArchivedFile]) -> PartitionOfDay:
    records = sum(facts_of(file).records for file in files)
    reach = Span(min(file.first_offset for file in files), max(file.next_offset for file in files))
    return PartitionOfDay(partition, len(files), records, sum(file.size for file in files), reach)


def _overlaps(files: Iterable[ArchivedFile]) -> list[tuple[int, Span]]:
    found, reach = [], {}
    for file in sorted(files):
        until = reach.get(file.partition, 0)
        if file.first_offset < min(until, file.next_offset):
            found.append((file.partition, Span(file.first_offset, min(until, file.next_offset))))
        reach[file.partition] = max(until, file.next_offset)
    return found


@dataclass(frozen=True)
class Pruned:
    """What is (or would be) taken away of one set."""

    kind: str
    hours: list[int]
    """Begins, ms."""
    files: int
    size: int
    """Bytes."""


def prune(root: str, keep_days: float, execute: bool, now_ms: int | None = None) -> list[Pruned]:
    """Deletes the hours that ended more than `keep_days` before now, whole; without `execute` only says which.

    Where the newest file of a partition goes, a file without rows stays: it says how far the partition is archived, which is
    where the archive job goes on. Snapshots that old go too. Half-written files of a crash are the job's to remove.
    """
    before_ms = hour_of((int(time.time() * 1000) if now_ms is None else now_ms) - int(keep_days * DAY_MS))
    pruned = []
    for kind in SETS:
        files = files_of(root, kind)
        last = newest(files)
        old = [
            file
            for file in files
            if file.hour_ms < before_ms and not (last[file.partition] == file and _is_empty(file))
        ]
        pruned.append(Pruned(kind, sorted({file.hour_ms for file in old}), len(old), sum(file.size for file in old)))
        if execute and old:
            for file in old:
                if last[file.partition] == file:
                    _mark(root, kind, file)
            delete_files([file.path for file in old])
            _remove_empty_folders(root, kind)
    snapshots = [found for found in snapshot_files(root) if found[2] < before_ms]
    hours = sorted({hour_of(taken_ms) for _, _, taken_ms in snapshots})
    pruned.append(Pruned(SNAPSHOTS, hours, len(snapshots), sum(size for _, size, _ in snapshots)))
    if execute and snapshots:
        # Manifests first: what is half deleted is no snapshot. By themselves: a store may take what is asked at once in any order.
        delete_files([path for path, _, _ in snapshots if path.endswith(".json")])
        delete_files([path for path, _, _ in snapshots if not path.endswith(".json")])
        _remove_empty_folders(root, SNAPSHOTS)
    return [each for each in pruned if each.files]


def _is_empty(file: ArchivedFile) -> bool:
    return file.first_offset == file.next_offset


def _mark(root: str, kind: str, file: ArchivedFile) -> None:
    """A file without rows and offsets that ends where `file` ends."""
    with open_file(file.path) as stream:
        schema = pq.read_schema(stream).remove_metadata()
    mark = ArchivedFile(file.partition, file.next_offset, file.next_offset, file.hour_ms)
    write_file(root, kind, mark, msgspec.structs.replace(facts_of(file), records=0), schema.empty_table(), [])


def _remove_empty_folders(root: str, kind: str) -> None:
    if is_local(root):  # an object store has none
        for folder in sorted(Path(folder_of(root, kind)).glob("**/"), key=lambda path: -len(path.parts)):
            with suppress(OSError):  # not empty
                folder.rmdir()
