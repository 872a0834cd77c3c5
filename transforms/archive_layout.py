"""Where an archive keeps what: names of its files, what a file says of itself, and which offsets the files cover.

    ROOT/events/day=2026-11-24/hour=02/p00003-o000000012345-000000013000.parquet

is partition 3, offsets 12345 to 12999, all of one hour of the log clock (UTC). The files are the truth about what is archived.
A file without rows says that there was nothing: in a quiet hour, or in the hours that `prune` took away.
ROOT is a folder, or an object store's URL that Beam's FileSystems know (gs://, s3://).
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.files import BEING_WRITTEN, delete_files, is_object_store, list_files, open_file, write_whole

EVENTS, EXPOSURES, QUERY_RUNS = "events", "exposures", "query-runs"
SETS = (EVENTS, EXPOSURES, QUERY_RUNS)
"""Folders below ROOT; one topic each."""
SNAPSHOTS = "snapshots"
HOUR_MS = 3_600_000
FACTS_KEY = b"aigq"
ROW_GROUP = 16_384
"""Rows that are read at once: about 5 MB in memory."""
_NAME = re.compile(r"day=(\d{4})-(\d\d)-(\d\d)/hour=(\d\d)/p(\d+)-o(\d+)-(\d+)\.parquet$")


class Span(NamedTuple):
    """Offsets `first_offset` up to (not with) `next_offset`."""

    first_offset: int
    next_offset: int


class ArchivedFile(NamedTuple):
    """A file by its name. Sorts by partition and offset."""

    partition: int
    first_offset: int
    next_offset: int
    hour_ms: int
    """Begin of the hour of the log clock that all its rows lie in."""
    path: str = ""
    size: int = 0
    """Bytes."""

    @property
    def day(self) -> str:
        return datetime.fromtimestamp(self.hour_ms / 1000, UTC).strftime("%Y-%m-%d")

    @property
    def name(self) -> str:
        """Below the folder of its set."""
        at = datetime.fromtimestamp(self.hour_ms / 1000, UTC)
        return (
            f"day={at:%Y-%m-%d}/hour={at:%H}/"
            f"p{self.partition:05d}-o{self.first_offset:012d}-{self.next_offset:012d}.parquet"
        )


class FileFacts(msgspec.Struct, frozen=True):
    """What a file says of itself, in its footer."""

    topic: str
    topic_id: str
    partitions: int
    """Of the topic, when the file was written."""
    log_clock: str
    """append or ingest_ms: what clock_ms is made of."""
    records: int
    clock_ms: int
    """Log clock at the file's end: running maximum over everything archived of the partition."""
    progress_ms: int
    """Log clock proven to have passed at the file's end: no record behind it has an earlier one."""


def hour_of(clock_ms: int) -> int:
    return clock_ms - clock_ms % HOUR_MS


def files_of(root: str, kind: str) -> list[ArchivedFile]:
    """All files of a set, by partition and offset."""
    return sorted(
        filter(None, (_parse(*found) for found in list_files(f"{folder_of(root, kind)}/day=*/hour=*/p*.parquet")))
    )


def folder_of(root: str, kind: str) -> str:
    return f"{root.rstrip('/')}/{kind}"


def newest(files: Iterable[ArchivedFile]) -> dict[int, ArchivedFile]:
    """The file that reaches furthest, by partition."""
    return {file.partition: file for file in sorted(files, key=lambda file: (file.next_offset, file.hour_ms))}


def spans(files: Iterable[ArchivedFile]) -> dict[int, list[Span]]:
    """Offsets that are archived, by partition: one span where there is no hole."""
    found: dict[int, list[Span]] = defaultdict(list)
    for file in sorted(files):
        found[file.partition].append(Span(file.first_offset, file.next_offset))
    return {partition: merged(of_partition) for partition, of_partition in found.items()}


def merged(parts: Iterable[Span]) -> list[Span]:
    """The same offsets in as few spans as there can be."""
    whole: list[Span] = []
    for part in sorted(parts):
        if whole and part.first_offset <= whole[-1].next_offset:
            whole[-1] = Span(whole[-1].first_offset, max(whole[-1].next_offset, part.next_offset))
        else:
            whole.append(part)
    return whole


def covered_until(offset: int, parts: Iterable[Span]) -> int:
    """The first offset from `offset` on that none of the (merged) spans holds."""
    return max((part.next_offset for part in parts if part.first_offset <= offset < part.next_offset), default=offset)


def facts_of(file: ArchivedFile) -> FileFacts:
    """Raises ValueError for a file that this product did not write."""
    with open_file(file.path) as stream:
        told = (pq.read_metadata(stream).metadata or {}).get(FACTS_KEY)
    if told is None:
        raise ValueError(f"{file.path} is no file of an archive: its footer names no topic. Take it out of the folder")
    return msgspec.json.decode(told, type=FileFacts)


def write_file(
    root: str, kind: str, file: ArchivedFile, facts: FileFacts, rows: pa.Table, dictionary: list[str]
) -> int:
    """A file is there whole or not at all. Returns its size in bytes."""
    ready = pa.BufferOutputStream()
    rows = rows.replace_schema_metadata({FACTS_KEY: msgspec.json.encode(facts)})
    # Offsets and times rise by little: as differences they take a byte or two. A dictionary only where texts repeat.
    deltas = {
        f.name: "DELTA_BINARY_PACKED" for f in rows.schema if pa.types.is_int64(f.type) and f.name not in dictionary
    }
    pq.write_table(
        rows,
        ready,
        compression="zstd",
        use_dictionary=dictionary,  # pyright: ignore[reportArgumentType] (a list of columns is as good as a bool)
        column_encoding=deltas,
        row_group_size=ROW_GROUP,
    )
    path, content = f"{folder_of(root, kind)}/{file.name}", ready.getvalue()
    write_whole(path, content)
    return content.size


def remove_left_over(root: str, kind: str) -> int:
    """What a crash left half written in a folder: no reader takes it for a file. Returns how many there were."""
    if is_object_store(root):
        return 0  # an upload that was cut off is in no listing; the bucket's lifecycle ends it (docs/archive.md)
    left = [path for path, _ in list_files(f"{folder_of(root, kind)}/day=*/hour=*/p*{BEING_WRITTEN}")]
    delete_files(left)
    return len(left)


def offset_at(files: Iterable[ArchivedFile], time_ms: int) -> int | None:
    """First offset of a partition whose log clock is `time_ms` or later; None where none is archived. `files`: of that partition."""
    for file in sorted(file for file in files if file.hour_ms >= hour_of(time_ms)):
        with open_file(file.path) as stream:
            table = pq.read_table(stream, columns=["offset", "clock_ms"])
        first = int(table["clock_ms"].to_numpy().searchsorted(time_ms))
        if first < table.num_rows:
            return table["offset"][first].as_py()
    return None


def snapshot_folder(root: str, namespace: str) -> str:
    return f"{folder_of(root, SNAPSHOTS)}/{namespace}"


def snapshot_manifests(root: str, namespace: str) -> list[str]:
    return [path for path, _ in list_files(f"{snapshot_folder(root, namespace)}/*/manifest.json")]


def snapshot_files(root: str) -> list[tuple[str, int, int]]:
    """(path, size, wall clock of the snapshot's begin) of every file of any snapshot, whole or not."""
    found = []
    for path, size in list_files(f"{folder_of(root, SNAPSHOTS)}/*/*/*"):
        taken = datetime.strptime(path.replace(os.sep, "/").split("/")[-2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        found.append((path, size, int(taken.timestamp() * 1000)))
    return found


def _parse(path: str, size: int) -> ArchivedFile | None:
    if (name := _NAME.search(path.replace(os.sep, "/"))) is None:
        return None
    year, month, day, hour, partition, first_offset, next_offset = map(int, name.groups())
    hour_ms = int(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1000)
    return ArchivedFile(partition, first_offset, next_offset, hour_ms, path, size)
