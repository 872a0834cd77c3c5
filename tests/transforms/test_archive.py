"""Archiving without a broker: names, rolling, what is read twice, what is missing. Files are real, in a folder of the test's own."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.archive import app as cli
from schemas import BehaviourEvent, Item
from schemas.codec import decoder_for, encoder_for
from transforms.archive import Archiver, Rolling
from transforms.archive_bounds import archive_bounds
from transforms.archive_columns import event_columns
from transforms.archive_layout import (
    EVENTS,
    HOUR_MS,
    ArchivedFile,
    Span,
    covered_until,
    facts_of,
    files_of,
    merged,
    offset_at,
    remove_left_over,
    spans,
)
from transforms.archive_overview import overview, prune
from transforms.batches import RecordBatch
from transforms.files import BEING_WRITTEN
from transforms.log_position import ArchiveMismatch
from transforms.read_plan import ReadPlan

T0 = 1_763_949_600_000
"""2025-11-24T02:00:00Z: the begin of an hour."""
encode = encoder_for(BehaviourEvent)


def plan(start: int = 0, end: int | None = None) -> ReadPlan:
    return ReadPlan("behaviour", "id-1", {0: start}, {0: start}, None if end is None else {0: end})


def archiver(root: Path, rolling: Rolling = Rolling(), of: ReadPlan | None = None, clock: str = "append") -> Archiver:
    rewinds: list[tuple[str, int, int]] = []
    columns = event_columns(decoder_for(), clock)  # type: ignore[arg-type]
    made = Archiver(
        str(root), EVENTS, columns, of or plan(), rolling, lambda *where: rewinds.append(where), lambda *_: None, clock
    )
    made.rewinds = rewinds  # type: ignore[attr-defined]
    return made


def batch(first: int, times: list[int], next_offset: int | None = None) -> RecordBatch:
    offsets = list(range(first, first + len(times)))
    values = [encode(BehaviourEvent(f"e{n}", "ann", "search", T0, query="red shoes")) for n in offsets]
    end = first + len(times) if next_offset is None else next_offset
    return RecordBatch("behaviour", "id-1", 0, first, offsets, times, values, end)


def tick(at: int, progress_ms: int | None = None) -> RecordBatch:
    return replace(batch(at, []), progress_ms=progress_ms)


def archived(root: Path) -> list[int]:
    return [offset for file in files_of(str(root), EVENTS) for offset in pq.read_table(file.path)["offset"].to_pylist()]


def ranges(root: Path) -> list[tuple[int, int]]:
    return [(file.first_offset, file.next_offset) for file in files_of(str(root), EVENTS)]


def test_a_file_is_named_by_hour_partition_and_offsets_and_its_name_is_read_again(tmp_path: Path) -> None:
    archiver(tmp_path, of=plan(12_345, 13_000)).take(batch(12_345, [T0 + 5] * 655))
    (file,) = files_of(str(tmp_path), EVENTS)
    assert Path(file.path).relative_to(tmp_path).as_posix() == (
        "events/day=2025-11-24/hour=02/p00000-o000000012345-000000013000.parquet"
    )
    assert file == ArchivedFile(0, 12_345, 13_000, T0, file.path, Path(file.path).stat().st_size)
    facts = facts_of(file)
    assert (facts.topic, facts.topic_id, facts.partitions, facts.records) == ("behaviour", "id-1", 1, 655)
    assert (facts.clock_ms, facts.log_clock) == (T0 + 5, "append")


def test_rows_hold_the_bytes_and_for_people_the_fields_and_a_dead_record_is_kept(tmp_path: Path) -> None:
    click = BehaviourEvent("e2", "bob", "click", T0 + 1, item=Item("i", "Red Shoe", "Shoes"))
    values = [encode(BehaviourEvent("e1", "ann", "search", T0, query="red shoes")), b"{", None, encode(click)]
    archiver(tmp_path, of=plan(0, 4)).take(replace(batch(0, [T0, T0 + 9, T0 + 3, T0 + 4]), values=values))
    (file,) = files_of(str(tmp_path), EVENTS)
    rows = pq.read_table(file.path)
    assert rows["value"].to_pylist() == values
    assert rows["append_ms"].to_pylist() == [T0, T0 + 9, T0 + 3, T0 + 4]
    assert rows["clock_ms"].to_pylist() == [T0, T0 + 9, T0 + 9, T0 + 9]
    fields = zip(*(rows[name].to_pylist() for name in ("id", "user", "kind", "query", "item_title")), strict=True)
    assert list(fields) == [
        ("e1", "ann", "search", "red shoes", None),
        (None,) * 5,
        (None,) * 5,
        ("e2", "bob", "click", "", "Red Shoe"),
    ]


def test_an_imported_log_is_filed_by_its_own_time(tmp_path: Path) -> None:
    past = T0 - 1000 * HOUR_MS
    values = [encode(BehaviourEvent(str(n), "u", "search", past, query="q", ingest_ms=past + n)) for n in (5, 3, 7)]
    values.insert(1, b"{")
    archiver(tmp_path, of=plan(0, 4), clock="ingest_ms").take(replace(batch(0, [T0] * 4), values=values))
    (file,) = files_of(str(tmp_path), EVENTS)
    assert file.hour_ms == past
    assert pq.read_table(file.path)["clock_ms"].to_pylist() == [past + 5, past + 5, past + 5, past + 7]


def test_a_log_that_begins_with_dead_records_only_keeps_them_where_times_are_the_events_own(tmp_path: Path) -> None:
    past = T0 - 1000 * HOUR_MS
    live = [encode(BehaviourEvent(str(n), "u", "search", past, query="q", ingest_ms=past + n)) for n in range(2)]
    writer = archiver(tmp_path, Rolling(records=3), plan(0, 8), clock="ingest_ms")
    writer.take(replace(batch(0, [T0] * 3), values=[b"{"] * 3))
    writer.take(replace(batch(3, [T0] * 2), values=[b"{"] * 2))  # a dead one that waits for the first that has a time
    writer.take(replace(batch(5, [T0] * 3), values=[b"{", *live]))
    (found,) = overview(str(tmp_path))
    assert (archived(tmp_path), found.holes) == ([*range(8)], [])
    assert [(file.first_offset, file.hour_ms) for file in files_of(str(tmp_path), EVENTS)] == [(0, T0), (3, past)]
    assert offset_at(files_of(str(tmp_path), EVENTS), past) == 6


@given(
    steps=st.lists(st.sampled_from([0, 1, 900_000, HOUR_MS - 1, HOUR_MS]), min_size=1, max_size=60),
    cuts=st.integers(1, 20),
    most=st.integers(1, 30),
)
@settings(max_examples=30)
def test_any_batches_make_files_of_one_hour_each_that_meet_without_a_hole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], cuts: int, most: int
) -> None:
    root = tmp_path_factory.mktemp("archive")
    times, now = [], T0
    for step in steps:
        now += step
        times.append(now)
    writer = archiver(root, Rolling(records=most), plan(0, len(times)))
    for first in range(0, len(times), cuts):
        writer.take(batch(first, times[first : first + cuts]))
    files = files_of(str(root), EVENTS)
    assert archived(root) == list(range(len(times)))
    assert spans(files) == {0: [Span(0, len(times))]}
    for file in files:
        clocks = pq.read_table(file.path)["clock_ms"].to_pylist()
        assert {clock - clock % HOUR_MS for clock in clocks} == {file.hour_ms}
    for asked in {T0 - 1, *times, *(time + 1 for time in times)}:
        assert offset_at(files, asked) == next((n for n, time in enumerate(times) if time >= asked), None)


def test_a_file_is_closed_when_it_is_old_by_a_tick(tmp_path: Path) -> None:
    writer = archiver(tmp_path, Rolling(seconds=0))
    writer.take(batch(0, [T0] * 3))
    assert ranges(tmp_path) == [(0, 3)]
    later = archiver(tmp_path, Rolling(seconds=1_000))
    later.take(batch(3, [T0] * 2))
    later.take(tick(5, T0 + HOUR_MS - 1))
    assert ranges(tmp_path) == [(0, 3)]
    later.take(tick(5, T0 + HOUR_MS))  # the hour is proven to be over
    assert ranges(tmp_path) == [(0, 3), (3, 5)]


def test_a_quiet_hour_leaves_a_file_that_proves_it(tmp_path: Path) -> None:
    writer = archiver(tmp_path, Rolling(seconds=0))
    writer.take(batch(0, [T0] * 3))
    for minute in range(0, 180, 20):
        writer.take(tick(3, T0 + minute * 60_000))
    files = files_of(str(tmp_path), EVENTS)
    assert [(file.first_offset, file.next_offset, file.hour_ms - T0) for file in files] == [
        (0, 3, 0),
        (3, 3, HOUR_MS),
        (3, 3, 2 * HOUR_MS),
    ]
    assert facts_of(files[-1]).progress_ms == T0 + 2 * HOUR_MS
    assert archive_bounds(str(tmp_path), "behaviour").told(T0 + 2 * HOUR_MS, None, {0: 3}) == {0}


def test_what_was_buffered_when_the_process_died_is_taken_again_and_nothing_twice(tmp_path: Path) -> None:
    first = archiver(tmp_path, Rolling(records=4))
    first.take(batch(0, [T0] * 4))
    first.take(batch(4, [T0] * 3))  # dies with these
    second = archiver(tmp_path, Rolling(records=4))
    second.take(batch(2, [T0] * 7))
    second.take(batch(4, [T0] * 3))
    assert archived(tmp_path) == list(range(9))


def test_a_checkpoint_ahead_of_the_files_is_read_back(tmp_path: Path) -> None:
    archiver(tmp_path, Rolling(records=4)).take(batch(0, [T0] * 4))
    second = archiver(tmp_path, Rolling(records=4))
    second.take(batch(6, [T0] * 4))
    assert second.rewinds == [("behaviour", 0, 4)]  # type: ignore[attr-defined]
    second.take(batch(4, [T0] * 6))
    assert archived(tmp_path) == list(range(10))


def test_holes_of_the_log_are_covered_and_lost_records_are_not(tmp_path: Path) -> None:
    writer = archiver(tmp_path, Rolling(records=100), plan(0, 30))
    writer.take(batch(0, [T0] * 5, next_offset=7))  # a marker of a transaction at its end
    writer.take(replace(batch(7, [], next_offset=20), lost=True))
    writer.take(batch(20, [T0] * 10))
    assert ranges(tmp_path) == [(0, 7), (20, 30)]
    bounds = archive_bounds(str(tmp_path), "behaviour")
    assert list(bounds.holes(0, Span(0, 30), Span(0, 0))) == [Span(7, 20)]
    assert list(bounds.holes(0, Span(8, 40), Span(15, 40))) == [Span(8, 15)]
    assert list(bounds.holes(0, Span(0, 30), Span(7, 20))) == []
    assert list(bounds.holes(0, Span(0, 7), Span(0, 0))) == []


def test_a_half_written_file_is_none_and_goes_at_the_next_start(tmp_path: Path) -> None:
    archiver(tmp_path, of=plan(0, 3)).take(batch(0, [T0] * 3))
    left = (
        tmp_path / "events" / "day=2025-11-24" / "hour=02" / f"p00000-o000000000003-000000000009.parquet{BEING_WRITTEN}"
    )
    left.write_bytes(b"half")
    assert ranges(tmp_path) == [(0, 3)]
    assert remove_left_over(str(tmp_path), EVENTS) == 1
    assert not left.exists()
    assert archived(tmp_path) == [0, 1, 2]


def test_the_largest_buffer_is_written_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.archive.MOST_BUFFERED_BYTES", 500)
    writer = archiver(tmp_path)
    writer.take(batch(0, [T0] * 3))
    assert ranges(tmp_path) == []
    writer.take(batch(3, [T0] * 30))
    assert ranges(tmp_path) == [(0, 33)]


def test_an_archive_of_another_topic_or_clock_is_refused(tmp_path: Path) -> None:
    archiver(tmp_path, of=plan(0, 3)).take(batch(0, [T0] * 3))
    with pytest.raises(ArchiveMismatch, match=r"are of topic behaviour.*asked for is other"):
        archive_bounds(str(tmp_path), "other")
    with pytest.raises(ArchiveMismatch, match="--log_clock=append"):
        archive_bounds(str(tmp_path), "behaviour").offsets_at(T0, "ingest_ms")
    with pytest.raises(LookupError, match="aigq run archive"):
        archive_bounds(str(tmp_path / "nowhere"), "behaviour")


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12), st.integers(0, 70))
def test_spans_cover_what_their_parts_cover(parts: list[tuple[int, int]], at: int) -> None:
    whole = merged(Span(first, first + length) for first, length in parts)
    held = {offset for first, length in parts for offset in range(first, first + length)}
    assert {offset for span in whole for offset in range(*span)} == held
    assert all(before.next_offset < after.first_offset for before, after in pairwise(whole))
    assert covered_until(at, whole) == next(offset for offset in range(at, 200) if offset not in held)


def test_the_overview_counts_by_day_and_names_holes_and_overlaps(tmp_path: Path) -> None:
    for first, count, when in ((0, 10, T0), (10, 5, T0 + 30 * HOUR_MS), (20, 5, T0 + 30 * HOUR_MS)):
        writer = archiver(tmp_path, of=plan(first, first + count))
        writer._archived = {}
        writer.take(batch(first, [when] * count))
    (found,) = overview(str(tmp_path))
    assert (found.kind, found.topic, list(found.days)) == (EVENTS, "behaviour", ["2025-11-24", "2025-11-25"])
    (day,) = found.days["2025-11-25"]
    assert (day.files, day.records, day.offsets) == (2, 10, Span(10, 25))
    assert found.holes == [(0, Span(15, 20))]
    assert found.overlaps == []
    shown = CliRunner().invoke(cli, ["archive", "show", f"--archive={tmp_path}"], env={"COLUMNS": "200"})
    assert shown.exit_code == 1
    assert "HOLE: partition 0, offsets 15 to 19 are in no file" in shown.output
    assert "10 to 24" in shown.output
    as_json = CliRunner().invoke(cli, ["archive", "show", f"--archive={tmp_path}", "--json"])
    assert json.loads(as_json.output)[0]["holes"] == [[0, [15, 20]]]
    twice = archiver(tmp_path, of=plan(12, 18))
    twice._archived = {}
    twice.take(batch(12, [T0 + 30 * HOUR_MS] * 6))
    (found,) = overview(str(tmp_path))
    assert (found.holes, found.overlaps) == ([(0, Span(18, 20))], [(0, Span(12, 15))])


def test_a_shopper_is_taken_out_of_the_files_as_the_page_says_and_no_hole_is_left(tmp_path: Path) -> None:
    forget = BehaviourEvent("e9", "ann", "erase", T0)
    others = [BehaviourEvent(f"o{n}", "bob", "search", T0, query="lego") for n in range(3)]
    writer = archiver(tmp_path, of=plan(0, 7))
    values = [b"{", *map(encode, others), encode(forget)]
    writer.take(batch(0, [T0] * 2))
    writer.take(replace(batch(2, [T0] * 5), values=values))
    page = (Path(__file__).parents[2] / "docs" / "archive.md").read_text("utf-8")
    named: dict = {}
    (lines,) = [each for each in page.split("```") if "def take_out" in each]
    exec(lines.removeprefix("python\n"), named)
    named["take_out"](str(tmp_path), "ann")
    (file,) = files_of(str(tmp_path), EVENTS)
    rows = pq.read_table(file.path)
    assert list(zip(rows["offset"].to_pylist(), rows["id"].to_pylist(), strict=True)) == [
        (2, None),  # dead: it names nobody
        *((3 + n, f"o{n}") for n in range(3)),
        (6, "e9"),
    ]
    assert facts_of(file).topic == "behaviour"
    assert overview(str(tmp_path))[0].holes == []
    assert list(archive_bounds(str(tmp_path), "behaviour").holes(0, Span(0, 7), Span(0, 0))) == []


def test_pruning_is_a_preview_until_told_and_leaves_where_to_go_on(tmp_path: Path) -> None:
    writer = archiver(tmp_path, of=plan(0, 12))
    for number in range(4):  # three files of three hours, the last records in the fourth
        writer.take(batch(number * 3, [T0 + number * HOUR_MS] * 3))
    later = T0 + 2 * HOUR_MS + 86_400_000
    whole = ranges(tmp_path)
    (previewed,) = prune(str(tmp_path), 1, execute=False, now_ms=later)
    assert ranges(tmp_path) == whole
    asked = ["archive", "prune", f"--archive={tmp_path}", "--keep-days=1"]
    assert "--execute does it" in CliRunner().invoke(cli, asked).output
    assert ranges(tmp_path) == whole
    assert prune(str(tmp_path), 1, execute=True, now_ms=later) == [previewed]
    assert previewed.hours == [T0, T0 + HOUR_MS]
    assert archived(tmp_path) == [6, 7, 8, 9, 10, 11]
    assert not (tmp_path / "events" / "day=2025-11-24" / "hour=02").exists()

    assert prune(str(tmp_path), 1, execute=True, now_ms=later + 86_400_000)[0].files == 2
    assert ranges(tmp_path) == [(12, 12)]
    assert prune(str(tmp_path), 1, execute=True, now_ms=later + 86_400_000) == []
    again = archiver(tmp_path, of=plan(0, 15))
    again.take(batch(12, [T0] * 3))
    assert archived(tmp_path) == [12, 13, 14]
    (file,) = [file for file in files_of(str(tmp_path), EVENTS) if file.first_offset < file.next_offset]
    assert file.hour_ms == T0 + 3 * HOUR_MS, "the log clock does not go back behind what was pruned"
