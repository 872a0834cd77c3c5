"""Lists and truths as numbers of queries, so that metrics are numpy. Every contender has the same number of places."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from training.log import Case, Ranker, hidden

PLACES = 30
"""Candidates that every contender is asked for; HR@10 and HR@3 read the first of the same list."""
NONE = -1
"""No query at this place."""


class UnfairLists(ValueError):
    """A contender took more places than it was given, or one query twice."""


@dataclass
class Queries:
    """Numbers of queries, given as they come."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, query: str) -> int:
        return self.numbers.setdefault(query, len(self.numbers))

    def rows(self, lists: Iterable[Sequence[str]], width: int | None = None) -> np.ndarray:
        """(n, width) int32, NONE behind the end of a list; without a width that of the longest."""
        lists = list(lists)
        width = max([1, *map(len, lists)]) if width is None else width
        made = np.full((len(lists), width), NONE, np.int32)
        for row, each in zip(made, lists, strict=True):
            row[: len(each)] = [self.number(query) for query in each]
        return made

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Truths:
    """What the shoppers did, case by case."""

    shopper: np.ndarray
    """(n,) number of the shopper."""
    next: np.ndarray
    """(n,)."""
    later: np.ndarray
    """(n, most)."""
    clicked: np.ndarray
    """(n, most)."""

    @staticmethod
    def of(cases: Sequence[Case], queries: Queries) -> "Truths":
        users = {case.user: None for case in cases}
        number = {user: i for i, user in enumerate(users)}
        return Truths(
            np.array([number[case.user] for case in cases], dtype=np.int64),
            queries.rows([(case.next,) for case in cases])[:, 0],
            queries.rows([case.later for case in cases]),
            queries.rows([case.clicked for case in cases]),
        )


def asked(ranker: Ranker, cases: Sequence[Case], count: int = PLACES) -> list[tuple[str, ...]]:
    """A fitted contender's lists, checked; it sees the cases without their truth. Raises UnfairLists."""
    lists = [tuple(each) for each in ranker.rank([hidden(case) for case in cases], count)]
    if len(lists) != len(cases):
        raise UnfairLists(f"{ranker.name} gave {len(lists)} lists for {len(cases)} cases")
    for case, each in zip(cases, lists, strict=True):
        if len(each) > count:
            raise UnfairLists(f"{ranker.name} took {len(each)} places of {count} for {case.user} at {case.as_of_ms}")
        if len(set(each)) < len(each):
            raise UnfairLists(f"{ranker.name} lists a query twice for {case.user} at {case.as_of_ms}")
    return lists


def added(base: np.ndarray, channel: np.ndarray, reserved: int) -> np.ndarray:
    """The same number of candidates with `reserved` of them given to a channel: the base's first ones, then the channel's first
    that are not among them, then the base's next."""
    n, budget = base.shape
    made = np.full_like(base, NONE)
    kept = budget - reserved
    made[:, :kept] = base[:, :kept]
    for row in range(n):
        taken = set(made[row, :kept].tolist()) | {NONE}
        at, given = kept, 0
        for query in channel[row].tolist():
            if given == reserved:
                break
            if query not in taken:
                made[row, at] = query
                taken.add(query)
                at, given = at + 1, given + 1
        for query in base[row, kept:].tolist():
            if at == budget:
                break
            if query not in taken:
                made[row, at] = query
                at += 1
    return made
