"""Reading an archive without a broker: what any files hold comes out once, in offset order; what they do not hold is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.test_archive import T0, archiver, batch, plan, tick
from transforms import archive_layout, archived_log, read_plan
from transforms.archive import Rolling
from transforms.archive_layout import EVENTS, HOUR_MS, files_of
from transforms.archive_overview import DAY_MS, prune
from transforms.batches import RecordBatch
from transforms.drain import TRACKED
from transforms.kafka_clients import TopicFacts
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


HOUR_OF_TEN = HOUR_MS // 10


def pruned(root: Path, hours: int) -> ReadSettings:
    """Eight hours of ten records each, of which the first are pruned."""
    write(root, [(0, 80)], HOUR_OF_TEN)
    prune(str(root), 1, execute=True, now_ms=T0 + hours * HOUR_MS + DAY_MS)
    return from_archive(root)


def at(hour: int) -> str:
    return str(T0 + hour * HOUR_MS)


@pytest.mark.parametrize("end", [3, 6])
def test_a_window_that_begins_before_what_is_held_is_refused_and_never_shortened(tmp_path: Path, end: int) -> None:
    whole = pruned(tmp_path, 4)
    window = replace(whole, start=at(1), end=at(end))
    with pytest.raises(
        RecordsLost, match=r"the read begins at 2025-11-24T03:00.*held from offset 40 only, from 2025-11-24T06:00"
    ):
        plan_read(window)
    assert plan_read(replace(window, on_lost_records="skip")).starts == {0: 40}
    held = plan_read(replace(whole, start=at(4), end=at(6)))
    assert (held.starts, held.ends) == ({0: 40}, {0: 60}), "hours are pruned whole: all of the first one is there"


def test_a_history_is_refused_where_what_counts_is_lost_and_read_where_it_counts_no_more(tmp_path: Path) -> None:
    whole = pruned(tmp_path, 4)
    assert plan_read(whole).starts == {0: 40}
    assert plan_read(replace(whole, horizon_ms=3 * HOUR_MS)).starts == {0: 40}
    day = replace(whole, horizon_ms=DAY_MS)
    with pytest.raises(
        RecordsLost, match=r"behaviours count for 1 days.*offsets 0 to 39.*--archive.*--on_lost_records=skip"
    ):
        plan_read(day)
    with pytest.raises(RecordsLost, match="here since 2025-11-23T07:00"):
        plan_read(replace(day, end=at(5)))
    assert plan_read(replace(day, on_lost_records="skip")).starts == {0: 40}


def test_where_everything_is_pruned_what_is_left_says_until_when_records_were_lost(tmp_path: Path) -> None:
    nothing = pruned(tmp_path, 8)
    writer = archiver(tmp_path, of=plan(0, 80))
    writer.take(tick(80, T0 + 12 * HOUR_MS))
    assert plan_read(replace(nothing, start=at(8), end=at(10))).starts == {0: 80}
    with pytest.raises(RecordsLost, match="held from offset 80 only"):
        plan_read(replace(nothing, start=at(7), end=at(10)))


def test_a_record_that_comes_while_a_time_is_asked_for_is_not_in_a_window_that_ended_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broker:
        end = 5

        def listed_ends(self, partitions: int) -> dict[int, int]:
            return {0: self.end}

        def offsets_at(self, partitions: int, time_ms: int) -> dict[int, int]:
            self.end += 1  # it comes right after the answer, with a later time
            return {}

    monkeypatch.setattr(read_plan, "reachable_ends", lambda kafka, topic, listed, within_s: dict(listed))
    log = read_plan._Log(from_archive(Path()), administration=Broker())  # type: ignore[arg-type]
    log.__dict__["facts"] = TopicFacts("id", 1, "LogAppendTime")
    assert log.offsets_at(T0, "end") == {0: 5}
