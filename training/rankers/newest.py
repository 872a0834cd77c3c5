"""What shoppers did newest before some moments, as arrays: for moments of a log (to learn and tune on) and for cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.output import normalise
from training.log import Case, Log

SESSION_GAP_MS = 30 * 60_000
"""A pause of this length ends a session (TriggerPolicy.session_gap_ms)."""
NONE = -1
"""No such text, or one that the log does not know."""
MOST = 20
"""Newest behaviours, and newest searches, that are looked at."""


@dataclass(frozen=True)
class Newest:
    """Newest behaviours before each of n moments; row i is a moment, column 0 the newest. NONE where there are no more."""

    as_of_ms: np.ndarray
    """(n,) int64."""
    searches: np.ndarray
    """(n, MOST) int32: texts of the newest searches."""
    searched_ms: np.ndarray
    """(n, MOST) int64; 0 where there is none."""
    texts: np.ndarray
    """(n, MOST) int32: texts of the newest behaviours of any kind."""
    is_search: np.ndarray
    """(n, MOST) bool."""
    time_ms: np.ndarray
    """(n, MOST) int64."""
    categories: np.ndarray
    """(n, MOST) int32: of those; NONE for searches."""
    category: np.ndarray
    """(n,) int32: of the newest click among them."""
    category_ms: np.ndarray
    """(n,) int64: when."""

    def __len__(self) -> int:
        return len(self.as_of_ms)


@dataclass(frozen=True)
class ByShopper:
    """A log's rows in order of shopper, then time."""

    user: np.ndarray
    time_ms: np.ndarray
    text: np.ndarray
    is_search: np.ndarray
    by_themselves: np.ndarray
    """A search by themselves."""
    category: np.ndarray
    """NONE at searches, and where a click tells none."""
    start: np.ndarray
    """Place of the shopper's first row, at each place."""

    @staticmethod
    def of(log: Log) -> "ByShopper":
        rows = np.argsort(log.user, kind="stable")
        user, category = log.user[rows], log.category[rows]
        changes = np.flatnonzero(np.diff(user, prepend=-1))
        return ByShopper(
            user,
            log.time_ms[rows],
            log.text[rows],
            log.is_search[rows],
            (log.is_search & log.by_themselves)[rows],
            np.where(np.array([bool(name) for name in log.categories])[category], category, NONE),
            np.repeat(changes, np.diff(np.append(changes, len(user)))),
        )


def newest_in_log(by_shopper: ByShopper, places: np.ndarray, most: int = MOST) -> Newest:
    """Before the rows at these places."""
    everything = np.arange(len(by_shopper.user))
    texts, time_ms, where = _newest(by_shopper, places, most, everything)
    is_search = (where >= 0) & by_shopper.is_search[where]
    searches, searched_ms, _ = _newest(by_shopper, places, most, np.flatnonzero(by_shopper.is_search))
    category = np.where(where >= 0, by_shopper.category[where], NONE)
    clicked = _newest_click(is_search, time_ms, category)
    return Newest(by_shopper.time_ms[places], searches, searched_ms, texts, is_search, time_ms, category, *clicked)


def newest_in_cases(cases: Sequence[Case], categories: Sequence[str], text_numbers: dict[str, int]) -> Newest:
    """Before the cases' moments, from what they have seen. Queries that no log knew get a new number: they may be repeated."""
    n = len(cases)
    category_numbers = {name: i for i, name in enumerate(categories) if name}
    texts, time_ms = np.full((n, MOST), NONE, np.int32), np.zeros((n, MOST), np.int64)
    is_search, category = np.zeros((n, MOST), bool), np.full((n, MOST), NONE, np.int32)
    searches, searched_ms = np.full((n, MOST), NONE, np.int32), np.zeros((n, MOST), np.int64)
    for i, case in enumerate(cases):
        found = 0
        for k, behaviour in enumerate(reversed(case.seen)):
            search = behaviour.kind == "search"
            if search:
                number = text_numbers.setdefault(normalise(behaviour.text), len(text_numbers))
            else:
                number = text_numbers.get(behaviour.text, NONE)
            if k < MOST:
                texts[i, k], time_ms[i, k], is_search[i, k] = number, behaviour.time_ms, search
                category[i, k] = category_numbers.get(behaviour.category, NONE)
            if search and found < MOST:
                searches[i, found], searched_ms[i, found] = number, behaviour.time_ms
                found += 1
    as_of = np.array([case.as_of_ms for case in cases], dtype=np.int64)
    clicked = _newest_click(is_search, time_ms, category)
    return Newest(as_of, searches, searched_ms, texts, is_search, time_ms, category, *clicked)


def _newest(
    by_shopper: ByShopper, places: np.ndarray, most: int, among: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts, times and places of the newest rows before `places`, of the rows at `among` (places, ascending)."""
    if not len(among):
        shape = (len(places), most)
        return np.full(shape, NONE, np.int32), np.zeros(shape, np.int64), np.full(shape, NONE)
    behind = np.searchsorted(among, places)[:, None] - 1 - np.arange(most)[None, :]
    where = np.where(behind >= 0, among[np.maximum(behind, 0)], NONE)
    where = np.where(where >= by_shopper.start[places][:, None], where, NONE)
    there = where >= 0
    texts = np.where(there, by_shopper.text[where], NONE).astype(np.int32)
    return texts, np.where(there, by_shopper.time_ms[where], 0), where


def _newest_click(is_search: np.ndarray, time_ms: np.ndarray, category: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    clicked = (time_ms > 0) & ~is_search & (category >= 0)
    first, rows = clicked.argmax(axis=1), np.arange(len(clicked))
    there = clicked[rows, first]
    return np.where(there, category[rows, first], NONE).astype(np.int32), np.where(there, time_ms[rows, first], 0)
