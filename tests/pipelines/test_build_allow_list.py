"""What `aigq allow-list` counts: real archive files in a folder of the test's own, exactly as the archive job writes them."""

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.allow_list import app
from inference.allow_list import AllowedQuery, AllowList
from inference.output import normalise
from pipelines.build_allow_list import build_allow_list
from pipelines.options import NearlineSettings
from schemas import BehaviourEvent, Exposure, Item
from schemas.codec import decoder_for, encoder_for
from transforms.archive_columns import Columns, event_columns, exposure_columns
from transforms.archive_layout import EVENTS, EXPOSURES, ArchivedFile, FileFacts, hour_of, write_file
from transforms.batches import RecordBatch

T0 = 1_763_949_600_000
HOUR_MS = 3_600_000


def archive(root: Path, events: list[BehaviourEvent], exposures: Sequence[Exposure] = (), cut: int = 10**9) -> str:
    """Files of at most `cut` records, one partition; the log clock is each record's time."""
    _write(root, EVENTS, event_columns(decoder_for(), "append"), events, encoder_for(BehaviourEvent), cut)
    _write(root, EXPOSURES, exposure_columns(), exposures, encoder_for(Exposure), cut)
    return str(root)


def _write(root: Path, kind: str, columns: Columns, records: Sequence, encode, cut: int) -> None:
    records = sorted(records, key=lambda record: record.time_ms)
    begin = 0
    while begin < len(records):
        hour = hour_of(records[begin].time_ms)
        end = next((i for i in range(begin, len(records)) if hour_of(records[i].time_ms) > hour), len(records))
        end = min(end, begin + cut)
        part = records[begin:end]
        offsets, times = list(range(begin, end)), [record.time_ms for record in part]
        rows, clocks = columns.rows(
            RecordBatch("t", "id", 0, begin, offsets, times, [encode(record) for record in part], end), 0
        )
        facts = FileFacts("t", "id", 1, "append", len(part), clocks[-1], clocks[-1])
        table = pa.Table.from_batches([rows])
        write_file(str(root), kind, ArchivedFile(0, begin, end, hour), facts, table, columns.dictionary)
        begin = end


def search(user: str, query: str, time_ms: int = T0) -> BehaviourEvent:
    return BehaviourEvent(f"{user} {query} {time_ms}", user, "search", time_ms, query=query)


def erase(user: str, time_ms: int) -> BehaviourEvent:
    return BehaviourEvent(f"erase {user} {time_ms}", user, "erase", time_ms)


def allowed(root: str, shoppers: int = 2, **more) -> dict[str, int]:
    return {row.query: row.shoppers for row in build_allow_list(root, shoppers, **more).allowed.rows}


def test_a_shopper_counts_once_and_spellings_of_a_query_count_together(tmp_path: Path):
    events = [
        search("ann", "Dell  Laptop"),
        *(search("bob", "diary", T0 + n) for n in range(9)),
        search("cy", "dell-laptop"),
    ]
    click = BehaviourEvent("c", "dan", "click", T0, item=Item("1", "dell laptop"))
    root = archive(tmp_path, [*events, click])
    assert allowed(root) == {"dell laptop": 2}
    assert allowed(root, 1) == {"dell laptop": 2, "diary": 1}


def test_a_query_is_written_as_most_type_it_but_never_as_too_few_do(tmp_path: Path):
    events = [search(f"u{n}", "USB-C cable") for n in range(3)] + [search(f"v{n}", "usb c cable") for n in range(2)]
    events += [search(f"w{n}", spelt) for n, spelt in enumerate(["t.v", "t-v", "t/v"])]
    rows = {row.query: row for row in build_allow_list(archive(tmp_path, events), 3).allowed.rows}
    assert (rows["usb c cable"].text, rows["usb c cable"].shoppers) == ("usb-c cable", 5)
    assert rows["t v"].text == "t v", "no spelling of three shoppers"


def test_an_erased_shopper_no_longer_counts_until_they_search_again(tmp_path: Path):
    events = [search("ann", "tv"), search("bob", "tv"), erase("bob", T0 + 30 * HOUR_MS)]
    assert allowed(archive(tmp_path / "1", events)) == {}
    assert allowed(archive(tmp_path / "2", events), until_ms=T0 + HOUR_MS) == {}, "erased after the list's time"
    again = [*events, search("bob", "tv", T0 + 31 * HOUR_MS)]
    assert allowed(archive(tmp_path / "3", again)) == {"tv": 2}


def test_a_search_that_a_hint_began_does_not_vouch_for_it(tmp_path: Path):
    page = Exposure("e", "bob", T0, ("tv stand", "tv"), (1,))
    began = [search("ann", "tv"), search("bob", "TV", T0 + 5_000)]
    assert allowed(archive(tmp_path / "1", began, [page])) == {}
    own = [*began, search("bob", "tv", T0 + 90_000)]
    assert allowed(archive(tmp_path / "2", own, [page])) == {"tv": 2}
    other = [search("ann", "tv stand"), search("bob", "tv stand", T0 + 5_000)]
    assert allowed(archive(tmp_path / "3", other, [page])) == {"tv stand": 2}, "shown, and not clicked"


def test_only_what_came_before_until_counts(tmp_path: Path):
    root = archive(tmp_path, [search("ann", "tv", T0), search("bob", "tv", T0 + HOUR_MS)])
    assert allowed(root, until_ms=T0 + HOUR_MS) == {}
    assert allowed(root, until_ms=T0 + HOUR_MS + 1) == {"tv": 2}


@pytest.mark.parametrize("query", ["x", "<list>", "usb кабель", "a long query that nobody finishes " * 3, "!!"])
def test_what_a_list_could_not_show_whole_is_left_out(tmp_path: Path, query: str):
    root = archive(tmp_path, [search(user, each) for user in ("ann", "bob") for each in (query, "tv")])
    assert {found: n for found, n in allowed(root).items() if found != "list"} == {"tv": 2}
    assert allowed(root, blocked=frozenset({"tv", "list"})) == {}


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["tv", "TV", "tv-stand", "tv stand", "lap top", "laptop"]), st.integers(0, 5)), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=4),
    st.integers(1, 4),
    st.integers(1, 20),
)  # fmt: skip
def test_it_counts_what_a_plain_count_does_in_whatever_files(tmp_path_factory, searches, erases, least: int, cut: int):
    events = [search(f"u{user}", query, T0 + at * HOUR_MS) for user, query, at in searches]
    events += [erase(f"u{user}", T0 + at * HOUR_MS) for user, at in erases]
    random.Random(1).shuffle(events)
    gone = defaultdict(lambda: -1)
    for user, at in erases:
        gone[f"u{user}"] = max(gone[f"u{user}"], T0 + at * HOUR_MS)
    who = defaultdict(set)
    for event in events:
        if event.kind == "search" and event.time_ms > gone[event.user]:
            who[normalise(event.query)].add(event.user)
    expected = {query: len(users) for query, users in who.items() if len(users) >= least}
    whole, in_parts = (archive(tmp_path_factory.mktemp("a"), events, cut=size) for size in (10**9, cut))
    assert allowed(whole, least) == expected
    assert build_allow_list(whole, least) == build_allow_list(in_parts, least)


def test_the_command_writes_the_file_and_says_what_it_holds(tmp_path: Path):
    root = archive(tmp_path / "a", [search(f"u{n}", "tv") for n in range(5)] + [search("u1", "my diary")])
    done = CliRunner().invoke(app, ["--archive", root, "--out", str(tmp_path / "list")])
    assert done.exit_code == 0, done.output
    assert "1 of 2 queries were searched by at least 5 of 5 shoppers" in done.output
    assert AllowList.read(tmp_path / "list").queries == {"tv"}


def test_an_archive_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no events in the archive"):
        build_allow_list(str(tmp_path))


@pytest.mark.parametrize("held", ["nothing", "no query", "five"])
def test_a_job_whose_list_cannot_serve_does_not_start(tmp_path: Path, held: str):
    if held != "nothing":
        rows = [AllowedQuery(f"tv {n}", f"tv {n}", 5) for n in range(5 * (held == "five"))]
        AllowList.of(rows).write(tmp_path / "list")
    job = NearlineSettings(
        bootstrap="b:1", store="redis://s:1", model_server="http://m", allow_list=str(tmp_path / "list")
    )
    said = [each for each in job.errors() if each.startswith("--allow_list")]
    assert len(said) == (held != "five")
    assert all(str(tmp_path) in each for each in said)
