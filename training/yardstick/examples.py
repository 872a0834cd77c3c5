"""Ten cases as they were, drawn and not chosen: five that the judged contender hit at ten, five that it missed.

What a case was like, and who found what at which place, may stand on a page. The words that somebody searched may not, where a log's terms say
so: they go to a file of their own, which stays where it was made. Simulated shoppers have no such terms.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from inference.output import normalise
from training.log import Case

SHOWN = 10
LIKE_THE_LAST = 0.5
"""Share of common words from which a query rewords the last one."""


class Example(msgspec.Struct, frozen=True):
    """Without words."""

    hit: bool
    """By the judged contender, among ten."""
    part: str
    searches: int
    clicks: int
    """Before the case."""
    newest_age_h: float
    """Hours since the newest behaviour; 0 where there is none."""
    kind: str
    """What the next search was."""
    places: dict[str, int]
    """Contender -> the next query's place, from 1; 0 where it is not among its candidates."""


class Words(msgspec.Struct, frozen=True):
    """The same with words: for one's own eyes."""

    example: Example
    seen: tuple[str, ...]
    next: str
    lists: dict[str, tuple[str, ...]]


def examples(cases: Sequence[Case], lists: Mapping[str, Sequence[tuple[str, ...]]], judged: str, shown: Sequence[str], part_of: Mapping[str, str] | None = None, seed: int = 0) -> list[Words]:  # fmt: skip
    """Hits first. `shown` are the contenders whose places are told; `part_of` by shopper, where a log has parts."""
    hit = np.array([case.next in ranked[:10] for case, ranked in zip(cases, lists[judged], strict=True)], dtype=bool)
    rng = np.random.default_rng(seed)
    made = []
    for which in (True, False):
        rows = rng.permutation(np.flatnonzero(hit == which))[: SHOWN // 2]
        made += [_words(cases[i], {name: lists[name][i] for name in shown}, which, part_of or {}) for i in rows]
    return made


def _words(case: Case, lists: Mapping[str, tuple[str, ...]], hit: bool, part_of: Mapping[str, str]) -> Words:
    searches = [normalise(b.text) for b in case.seen if b.kind == "search"]
    places = {name: ranked.index(case.next) + 1 if case.next in ranked else 0 for name, ranked in lists.items()}
    example = Example(
        hit,
        part_of.get(case.user, ""),
        len(searches),
        len(case.seen) - len(searches),
        round((case.as_of_ms - case.seen[-1].time_ms) / 3_600_000, 1) if case.seen else 0.0,
        kind_of(case.next, searches),
        places,
    )
    seen = tuple(f"{b.kind} {b.text}" for b in case.seen[-6:])
    return Words(example, seen, case.next, {name: ranked[:10] for name, ranked in lists.items()})


def kind_of(query: str, searches: Sequence[str]) -> str:
    """`searches` are the shopper's own ones before, oldest first, normalised."""
    if query in searches:
        return "the last query again" if query == searches[-1] else "an own earlier query again"
    if searches:
        words, last = set(query.split()), set(searches[-1].split())
        if len(words & last) >= LIKE_THE_LAST * len(words | last):
            return "the last query reworded"
        if words & last:
            return "another query with a word of the last"
    return "something else"
