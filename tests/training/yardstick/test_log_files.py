"""The log in columns says what the events said; a case holds nothing of its own future."""

from pathlib import Path

import numpy as np
import pytest

from inference.output import normalise
from schemas import BehaviourEvent, Exposure, Item
from tests.training.yardstick.small_market import DAY_MS, START_MS, events_and_pages, write_market
from training.log_files import (
    exposure_cases,
    log_of,
    read_log,
    read_profiles,
    search_cases,
)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market") / "m")


def test_an_archive_reads_as_its_events_do(market: Path):
    events, pages = events_and_pages(40, 12)
    read, made = read_log(market / "archive"), log_of(events, pages)
    assert len(read) == len(events)
    assert np.all(np.diff(read.time_ms) >= 0)
    rows = [
        [
            (log.users[log.user[i]], int(log.time_ms[i]), log.texts[log.text[i]], log.categories[log.category[i]],
             bool(log.is_search[i]), bool(log.by_themselves[i]))
            for i in range(len(log))
        ]
        for log in (read, made)
    ]  # fmt: skip
    assert sorted(rows[0]) == sorted(rows[1])
    assert {text for _, _, text, _, search, _ in rows[0] if search} == {normalise(e.query) for e in events if e.query}


def test_a_search_that_a_clicked_hint_began_is_not_by_themselves(market: Path):
    events, pages = events_and_pages(40, 12)
    log = log_of(events, pages)
    begun = sum(event.id.endswith("/hint") for event in events)
    assert begun > 5
    assert int((log.is_search & ~log.by_themselves).sum()) == begun


def test_a_hint_begins_only_the_same_query_of_the_same_shopper_within_a_minute():
    page = Exposure("p", "u", 1_000_000, ("usb c hub", "tv"), (0,))
    searches = [("u", 1_060_000, "USB-C hub"), ("u", 1_060_001, "usb c hub"), ("u", 999_999, "usb c hub")]
    searches += [("v", 1_010_000, "usb c hub"), ("u", 1_010_000, "tv")]
    log = log_of([BehaviourEvent(f"{i}", u, "search", t, query=q) for i, (u, t, q) in enumerate(searches)], [page])
    by_hint = {(log.users[log.user[i]], int(log.time_ms[i])) for i in np.flatnonzero(~log.by_themselves)}
    assert by_hint == {("u", 1_060_000)}


def test_cases_hold_the_past_before_and_the_future_after_their_moment(market: Path):
    log = read_log(market / "archive")
    cases = exposure_cases(market / "archive", log, START_MS + 10 * DAY_MS)
    assert len(cases) > 30
    for case in cases:
        assert all(b.time_ms < case.as_of_ms for b in case.seen)
        assert case.later[0] == case.next
        assert case.profile == {"n": str(int(case.user[1:]) % 3)}
    by_user = {c.user: c for c in cases if c.as_of_ms == min(d.as_of_ms for d in cases if d.user == c.user)}
    events, _ = events_and_pages(40, 12)
    for user, case in by_user.items():
        earlier = [e for e in events if e.user == user and e.time_ms < case.as_of_ms]
        texts = [
            normalise(e.query) if e.kind == "search" else e.item.title for e in earlier if e.kind == "search" or e.item
        ]
        assert [b.text for b in case.seen] == texts[-50:]


def test_a_case_ends_with_its_day():
    night = [("a", DAY_MS - 1_000), ("b", DAY_MS + 1_000)]
    log = log_of([BehaviourEvent(q, "u", "search", t, query=q) for q, t in night])
    assert [case.later for case in search_cases(log, 0)] == [("a",), ("b",)]


def test_a_click_is_no_search_by_themselves():
    events = [BehaviourEvent("1", "u", "click", 5, item=Item("i", "t"))]
    assert log_of(events).by_themselves.tolist() == [False]


def test_profiles_come_from_the_first_or_last_event_that_has_one(market: Path):
    profiles = read_profiles(market / "archive", START_MS + 12 * DAY_MS)
    assert profiles["u4"] == {"n": "1"}


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no events in the archive"):
        read_log(tmp_path)
