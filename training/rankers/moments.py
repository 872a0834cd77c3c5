"""Moments to learn from, taken from a log itself: just before a search by themselves, what a shopper had done, and that search.

`moments` works on the log's columns (a million of them in about a second); `cases` makes of a few thousand what rankers see.
Both ways end in `Seen`, so that features of training moments and of test cases come from one code.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from inference.output import normalise
from schemas import Behaviour
from training.log import Case, Log

DAY_MS = 86_400_000
KEPT = 20
"""Newest behaviours that trained rankers look at, as many as a prompt shows (inference.prompt.MOST_BEHAVIOURS)."""


class Moments(NamedTuple):
    """n moments by time."""

    row: np.ndarray
    """int64 [n]: the log's row of the search that followed."""
    seen: np.ndarray
    """int64 [n, kept]: rows of what the shopper had done, newest first; -1 where there is no more."""


class Seen(NamedTuple):
    """What n shoppers had done, newest first. All are [n, kept]."""

    text: np.ndarray
    """int32: index of the text in the log's texts, behind them those that the log does not know; -1 where there is no more."""
    is_search: np.ndarray
    category: np.ndarray
    """int32: index in the log's categories."""
    age_ms: np.ndarray
    """int64: before the moment; 0 where there is no more."""


class Newest(NamedTuple):
    seen: Seen
    new_texts: tuple[str, ...]
    """Texts that the log does not know: the first has the index len(log.texts)."""


class Known(NamedTuple):
    """Queries that may be offered, most searched first."""

    text: np.ndarray
    """int64 [q]: index in the log's texts."""
    searches: np.ndarray
    """int64 [q]: searches of it by themselves."""
    of_text: np.ndarray
    """int64 [texts]: place among the known queries, -1 for all other texts."""

    def queries(self, log: Log) -> list[str]:
        return [log.texts[i] for i in self.text]


def compact(log: Log) -> Log:
    """The same log with only those users, texts and categories in its tables that it holds, in the order of the alphabet: a log
    that was cut (`Log.before`) still names what came later, and nothing may hang on that."""

    def kept(
        names: tuple[str, ...], column: np.ndarray, also: tuple[str, ...] = ()
    ) -> tuple[tuple[str, ...], np.ndarray]:
        there = {names[i] for i in np.unique(column)} | set(also)
        ordered = tuple(sorted(there))
        place = {name: i for i, name in enumerate(ordered)}
        numbers = np.array([place.get(name, -1) for name in names] or [0], dtype=np.int32)
        return ordered, numbers[column]

    users, user = kept(log.users, log.user)
    texts, text = kept(log.texts, log.text)
    categories, category = kept(log.categories, log.category, ("",))
    return Log(users, user, log.time_ms, log.is_search, texts, text, categories, category, log.by_themselves)


def known_queries(log: Log, min_shoppers: int) -> Known:
    """Queries that at least `min_shoppers` shoppers have searched by themselves."""
    rows = np.flatnonzero(log.is_search & log.by_themselves)
    text = log.text[rows].astype(np.int64)
    searches = np.bincount(text, minlength=len(log.texts))
    pairs = np.unique(text * max(1, len(log.users)) + log.user[rows])
    shoppers = np.bincount(pairs // max(1, len(log.users)), minlength=len(log.texts))
    found = np.flatnonzero((shoppers >= min_shoppers) & [bool(query) for query in log.texts])
    found = found[np.lexsort((found, -searches[found]))]  # texts of a compact log stand by the alphabet
    of_text = np.full(len(log.texts), -1, dtype=np.int64)
    of_text[found] = np.arange(len(found))
    return Known(found, searches[found], of_text)


def moments(log: Log, from_ms: int = 0, most: int | None = None, kept: int = KEPT, seed: int = 0) -> Moments:
    """Before every search by themselves from `from_ms` on; at most `most` of them, drawn evenly."""
    rows = np.flatnonzero(log.is_search & log.by_themselves & (log.time_ms >= from_ms))
    if most is not None and len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    order = np.argsort(log.user, kind="stable")
    place = np.empty(len(log), dtype=np.int64)
    place[order] = np.arange(len(log))
    first = np.searchsorted(log.user[order], log.user[rows])
    end = place[rows]
    while True:  # what happened in the very same millisecond was not seen before
        before = np.maximum(end - 1, 0)
        same = (end > first) & (log.time_ms[order[before]] == log.time_ms[rows])
        if not same.any():
            break
        end = np.where(same, before, end)
    at = end[:, None] - 1 - np.arange(kept)
    return Moments(rows, np.where(at >= first[:, None], order[np.maximum(at, 0)], -1))


def seen_of(log: Log, chosen: Moments) -> Seen:
    none = chosen.seen < 0
    rows = np.maximum(chosen.seen, 0)
    return Seen(
        np.where(none, -1, log.text[rows]).astype(np.int32),
        np.where(none, False, log.is_search[rows]),
        np.where(none, log.categories.index(""), log.category[rows]).astype(np.int32),
        np.where(none, 0, log.time_ms[chosen.row][:, None] - log.time_ms[rows]),
    )


def newest_of(log: Log, cases: Sequence[Case], kept: int = KEPT, numbers: Mapping[str, int] | None = None) -> Newest:
    """The same of cases. `numbers` is `text_numbers(log)`, for callers who have it already."""
    numbers = text_numbers(log) if numbers is None else numbers
    category_numbers = {category: i for i, category in enumerate(log.categories)}
    shape = (len(cases), kept)
    text = np.full(shape, -1, dtype=np.int32)
    is_search = np.zeros(shape, dtype=bool)
    category = np.full(shape, category_numbers[""], dtype=np.int32)
    age_ms = np.zeros(shape, dtype=np.int64)
    new: dict[str, int] = {}
    for i, case in enumerate(cases):
        for j, behaviour in enumerate(reversed(case.seen[-kept:])):
            search = behaviour.kind == "search"
            words = normalise(behaviour.text) if search else behaviour.text
            number = numbers.get(words, -1)
            text[i, j] = number if number >= 0 else new.setdefault(words, len(log.texts) + len(new))
            is_search[i, j] = search
            if not search and behaviour.category in category_numbers:
                category[i, j] = category_numbers[behaviour.category]
            age_ms[i, j] = case.as_of_ms - behaviour.time_ms
    return Newest(Seen(text, is_search, category, age_ms), tuple(new))


def text_numbers(log: Log) -> dict[str, int]:
    return {text: i for i, text in enumerate(log.texts)}


def cases(log: Log, chosen: Moments, profiles: Mapping[str, Mapping[str, str]] | None = None) -> list[Case]:
    """The moments as a contender sees them, with the search that followed as `next`. Profiles by user; a log has none."""
    made = []
    for row, seen in zip(chosen.row.tolist(), chosen.seen[:, ::-1].tolist(), strict=True):
        user = log.users[log.user[row]]
        behaviours = tuple(_behaviour(log, i) for i in seen if i >= 0)
        following = log.texts[log.text[row]]
        made.append(
            Case(user, int(log.time_ms[row]), dict((profiles or {}).get(user, {})), behaviours, following, (following,))
        )
    return made


def _behaviour(log: Log, i: int) -> Behaviour:
    kind = "search" if log.is_search[i] else "click"
    return Behaviour(int(log.time_ms[i]), i, kind, log.texts[log.text[i]], log.categories[log.category[i]])
