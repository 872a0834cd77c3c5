"""Reading an archive without a broker: what any files hold comes out once, in offset order; what they do not hold is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.test_archive import T0, archiver, batch, plan, tick
from transforms import archive_layout, archived_log
from transforms.archive import Rolling
from transforms.archive_layout import EVENTS, HOUR_MS, files_of
from transforms.batches import RecordBatch
from transforms.drain import TRACKED
from transforms.log_position import RecordsLost
from transforms.read_events import LogReader, LogSource
from transforms.read_plan import ReadSettings, plan_read
from transforms.rewinds import REWINDS


@pytest.fixture(autouse=True)
def _the_process_is_not_at_its_end() -> Iterator[None]:
    """A bounded read that ends says so to the whole process."""
    yield
    TRACKED.clear()


def from_archive(root: Path) -> ReadSettings:
    """Of an archive alone."""
    return ReadSettings({"bootstrap.servers": ""}, "behaviour", start="earliest", end="now", archive=str(root))


def reader_of(settings: ReadSettings) -> LogReader:
    found = plan_read(settings)
    return LogSource(settings, found, tuple(range(found.partitions))).create_reader(None, None)


def read(reader: LogReader) -> list[RecordBatch]:
    batches = []
    while reader.get_watermark() < MAX_TIMESTAMP:
        if reader.advance():
            batches.append(reader.get_current())
    return batches


def offsets(batches: list[RecordBatch]) -> list[int]:
    return [offset for each in batches for offset in each.offsets]


def write(root: Path, parts: list[tuple[int, int]], minute_ms: int = 60_000, most: int = 10_000) -> None:
    """A file (or more) for each (first offset, count); record n has the log clock T0 + n minutes."""
    for first, count in parts:
        writer = archiver(root, Rolling(records=most), plan(first, first + count))
        writer._archived = {}
        writer.take(batch(first, [T0 + n * minute_ms for n in range(first, first + count)]))


@given(
    first=st.integers(1, 30),
    steps=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 40)), max_size=6),
    size=st.integers(1, 50),
    group=st.integers(1, 30),
)
@settings(max_examples=15)
def test_any_overlapping_files_give_every_offset_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, first: int, steps: list[tuple[int, int]], size: int, group: int
) -> None:
    root, end, parts = tmp_path_factory.mktemp("archive"), first, [(0, first)]
    for back, count in steps:
        begin = max(0, end - back)
        parts.append((begin, count))
        end = max(end, begin + count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive_layout, "ROW_GROUP", group)
        write(root, parts)
    batches = read(reader_of(replace(from_archive(root), batch_records=size)))
    assert offsets(batches) == list(range(end))
    assert [value for each in batches for value in each.values] == batch(0, [T0] * end).values
    assert [ms for each in batches for ms in each.ingest_ms] == [T0 + n * 60_000 for n in range(end)]
    at = 0
    for each in batches:
        assert each.start_offset == at
        at = each.next_offset


def test_a_hole_is_refused_with_its_offsets_or_skipped_as_one(tmp_path: Path) -> None:
    write(tmp_path, [(0, 10), (15, 10), (30, 5)])
    with pytest.raises(RecordsLost, match="partition 0: offsets 10 to 14 are neither in the archive"):
        plan_read(from_archive(tmp_path))
    batches = read(reader_of(replace(from_archive(tmp_path), on_lost_records="skip")))
    assert offsets(batches) == [*range(10), *range(15, 25), *range(30, 35)]
    assert [(each.start_offset, each.next_offset) for each in batches if each.lost] == [(10, 15), (25, 30)]


def test_a_hole_that_comes_about_while_reading_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [(0, 10), (10, 10), (20, 10)])
    reader = reader_of(replace(from_archive(tmp_path), batch_records=5))
    assert reader.advance()
    Path(files_of(str(tmp_path), EVENTS)[1].path).unlink()
    with pytest.raises(RecordsLost, match="offsets 10 to 19 are neither in the archive"):
        read(reader)


def test_a_window_outside_the_hole_is_read(tmp_path: Path) -> None:
    write(tmp_path, [(0, 10), (15, 10)])
    window = replace(from_archive(tmp_path), start=str(T0 + 17 * 60_000), end=str(T0 + 20 * 60_000))
    batches = read(reader_of(window))
    assert offsets(batches) == [17, 18, 19]
    assert (batches[-1].progress_ms, batches[-1].closing) == (T0 + 20 * 60_000, True)


def test_what_is_asked_for_again_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, [(0, 40), (40, 40)], most=20)
    reader = reader_of(replace(from_archive(tmp_path), batch_records=10))
    seen = [reader.get_current() for _ in range(6) if reader.advance()]
    REWINDS.ask("behaviour", 0, 13)
    assert offsets(seen + read(reader)) == [*range(60), *range(13, 80)]


def test_a_quiet_partition_has_an_empty_window_and_one_never_archived_is_refused(tmp_path: Path) -> None:
    two = replace(plan(0, 6), starts={0: 0, 1: 0}, ends={0: 6, 1: 0})
    writer = archiver(tmp_path, of=two)
    writer.take(batch(0, [T0 + n for n in range(6)]))
    window = replace(from_archive(tmp_path), start=str(T0 + 2), end=str(T0 + 5))
    with pytest.raises(ValueError, match=r"in partitions \[1\] of topic behaviour.*no --bootstrap is named"):
        plan_read(window)
    writer.take(replace(tick(0, T0 + HOUR_MS), partition=1))
    found = plan_read(window)
    assert (found.starts, found.ends, found.end_ms) == ({0: 2, 1: 0}, {0: 5, 1: 0}, T0 + 5)
    with pytest.raises(ValueError, match=r"in partitions \[0\].*Name an --archive"):
        plan_read(replace(window, end=str(T0 + 6)))


def test_without_a_broker_there_must_be_an_archive_and_an_end(tmp_path: Path) -> None:
    write(tmp_path, [(0, 10)])
    for wrong in (replace(from_archive(tmp_path), end=""), replace(from_archive(tmp_path), archive="")):
        with pytest.raises(ValueError, match="name --archive, and an --end"):
            plan_read(wrong)


def test_row_groups_below_the_start_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_layout, "ROW_GROUP", 10)
    write(tmp_path, [(0, 55)])
    opened: list[int] = []
    whole = archived_log._read
    monkeypatch.setattr(
        archived_log, "_read", lambda file, group, *more: opened.append(group) or whole(file, group, *more)
    )
    assert offsets(read(reader_of(replace(from_archive(tmp_path), start=str(T0 + 33 * 60_000))))) == [*range(33, 55)]
    assert opened == [3, 4, 5]
