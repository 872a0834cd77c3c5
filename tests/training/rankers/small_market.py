"""A small simulated log with its test cases, and what every trained contender must keep."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np

from schemas import BehaviourEvent
from tests.training.rankers.small_world import events as events_of
from training.log import Case, Log, Ranker, hidden
from training.log_files import log_of, search_cases
from training.rankers.moments import DAY_MS

START_MS = 1_764_547_200_000
DAYS = 24
SHOPPERS = 350


class Small(NamedTuple):
    log: Log
    cases: list[Case]
    """Of the day after the log."""
    profiles: dict[str, dict[str, str]]
    whole: Log
    """The log and that day."""


@cache
def small() -> Small:
    events = _events()
    profiles = {event.user: event.profile for event in events if event.profile}
    whole = log_of(events)
    end_ms = START_MS + DAYS * DAY_MS
    cases = [msgspec.structs.replace(case, profile=profiles.get(case.user, {})) for case in search_cases(whole, end_ms)]
    return Small(whole.before(end_ms), cases, profiles, whole)


@cache
def _events() -> list[BehaviourEvent]:
    return list(events_of(3, SHOPPERS, START_MS, DAYS + 1))


@cache
def another_future() -> Log:
    """The same log up to the cut-off, made together with a different day after it; names of texts and users included."""
    end_ms = START_MS + DAYS * DAY_MS
    past = [event for event in _events() if event.time_ms < end_ms]
    future = [
        msgspec.structs.replace(event, id=f"new-{event.id}", user=f"a {event.user}", query=f"a{i % 7} {event.query}" if event.query else "")
        for i, event in enumerate(events_of(99, 60, end_ms, 1))
    ]  # fmt: skip
    # The later ones are read first, so that their texts and users get the first numbers.
    return log_of([*future, *past]).before(end_ms)


def hit_rate(ranker: Ranker, cases: list[Case], count: int = 10) -> float:
    made = ranker.rank([hidden(case) for case in cases], count)
    return float(np.mean([case.next in row for case, row in zip(cases, made, strict=True)]))


@cache
def popularity_hit_rate() -> float:
    log = small().log
    counts = np.bincount(log.text[log.is_search], minlength=len(log.texts))
    popular = {log.texts[i] for i in np.argsort(-counts, kind="stable")[:10]}
    return float(np.mean([case.next in popular for case in small().cases]))


def check_lists(ranker: Ranker, cases: list[Case]) -> None:
    """Distinct queries, as many as were asked for at most."""
    for count in (1, 10):
        for row in ranker.rank([hidden(case) for case in cases], count):
            assert len(set(row)) == len(row) <= count
            assert all(row)


def check_no_peeking_and_again(make: Callable[[], Ranker], fitted: Ranker, cases: list[Case]) -> None:
    """A log with another future behind its end gives the very same lists; so fitting again does too."""
    other = make()
    other.fit(another_future())
    shown = [hidden(case) for case in cases]
    assert other.rank(shown, 10) == fitted.rank(shown, 10)
