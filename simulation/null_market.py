"""The null market: the same log, its contents dealt out anew among the shoppers and moments of each day.

Searches, clicks and exposures keep their shopper, time and id, and get what another of the same day had. What is left to learn is how often
a day sees what: whoever beats popularity there reads something that should not be in the log.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from msgspec.structs import replace

from simulation.play import CEILING_QUERIES, HINT, Did, Saw, normal

T = TypeVar("T")


class Dealer:
    """Days are dealt in order: a search after a clicked hint may lie in the day after its page."""

    def __init__(self, seed: int):
        self._rng = Random(f"{seed} null market")
        self._clicked_hint: dict[str, str] = {}
        """Of a page: the hint that is clicked there now."""

    def deal(self, did: Sequence[Did], saw: Sequence[Saw]) -> tuple[list[Did], list[Saw]]:
        """A day's records, by time, with other contents."""
        law_of_day = most_searched(did) if any(each.likeliest for each in saw) else ()
        pages = self._shuffled(saw, lambda each: bool(each.exposure.clicked), _with_page_of)
        pages = [replace(each, likeliest=law_of_day) if each.likeliest else each for each in pages]
        for each in pages:
            if each.exposure.clicked:
                self._clicked_hint[each.exposure.id + HINT] = each.exposure.hints[each.exposure.clicked[0]]
        dealt = self._shuffled(did, lambda each: (each.event.kind, each.by_themselves), _with_content_of)
        return [self._of_its_page(each) for each in dealt], pages

    def _of_its_page(self, did: Did) -> Did:
        """A search that a hint began is a search of that hint: with the page's contents, it has changed."""
        if did.by_themselves:
            return did
        return replace(did, event=replace(did.event, query=self._clicked_hint.pop(did.event.id)))

    def _shuffled(self, records: Sequence[T], kind: Callable[[T], object], put: Callable[[T, T], T]) -> list[T]:
        by_kind: dict[object, list[int]] = {}
        for position, record in enumerate(records):
            by_kind.setdefault(kind(record), []).append(position)
        dealt = list(records)
        for positions in by_kind.values():
            order = sorted((self._rng.random(), position) for position in positions)
            for position, (_, other) in zip(positions, order, strict=True):
                dealt[position] = put(records[position], records[other])
        return dealt


def most_searched(did: Sequence[Did]) -> tuple[tuple[str, float], ...]:
    """The null market's law of a day: every search by themselves is equally likely any of the day's."""
    counts = Counter(normal(each.event.query) for each in did if each.event.kind == "search" and each.by_themselves)
    best = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:CEILING_QUERIES]
    return tuple((query, count / counts.total()) for query, count in best)


def _with_content_of(mine: Did, other: Did) -> Did:
    return replace(mine, event=replace(mine.event, query=other.event.query, item=other.event.item), bought=other.bought)


def _with_page_of(mine: Saw, other: Saw) -> Saw:
    theirs = other.exposure
    exposure = replace(
        mine.exposure,
        hints=theirs.hints,
        clicked=theirs.clicked,
        ranked=theirs.ranked,
        scores=theirs.scores,
        propensities=theirs.propensities,
    )
    return replace(mine, exposure=exposure, appeal=other.appeal, probabilities=other.probabilities)
