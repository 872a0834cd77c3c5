"""What the train days say about each query: how many shoppers searched it, and the category they then clicked.

A query that few shoppers searched is nobody else's hint: it is no label, wherever it comes from (privacy, and mostly it is mistyped).
Searches that a clicked hint began do not count: else what the ranker shows would vouch for itself.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import apache_beam as beam
import msgspec

from transforms.make_samples_life import Life

AFTER_MS = 300_000
"""A click so long after a search, with no other search between, is one on its results."""

Partial = dict[str, tuple[int, dict[str, int]]]
"""normalised query -> (shoppers, clicks by category), of some shoppers."""


class QueryFacts(msgspec.Struct, frozen=True):
    """Made by `MergeFacts`."""

    category: dict[str, str] = {}
    """Every query that may be a label (normalised): leaf category of most clicks after it; empty where nobody clicked."""


@dataclass
class FactsCounter:
    """Counts shoppers one after another."""

    test_from_ms: int
    found: Partial = field(default_factory=dict)

    def add(self, life: Life) -> None:
        before = [each for each in life.searches if each.time_ms < self.test_from_ms]
        times = [each.time_ms for each in before]
        clicks: dict[str, Counter[str]] = {each.normal: Counter() for each in before}
        for click in life.clicks:
            place = bisect_right(times, click.time_ms) - 1
            if click.category and click.time_ms < self.test_from_ms and place >= 0:
                search = before[place]
                if click.time_ms - search.time_ms <= AFTER_MS:
                    clicks[search.normal][click.category] += 1
        _merge(self.found, {query: (1, dict(of_query)) for query, of_query in clicks.items() if query})


class MergeFacts(beam.CombineFn):
    """Partial counts of disjoint shoppers -> QueryFacts of the queries that `fewest_shoppers` or more searched."""

    def __init__(self, fewest_shoppers: int):
        self._fewest = fewest_shoppers

    def create_accumulator(self) -> Partial:
        return {}

    def add_input(self, mutable_accumulator: Partial, element: Partial, *args, **kwargs) -> Partial:
        return _merge(mutable_accumulator, element)

    def merge_accumulators(self, accumulators: Iterable[Partial], *args, **kwargs) -> Partial:
        merged: Partial = {}
        for each in accumulators:
            _merge(merged, each)
        return merged

    def extract_output(self, accumulator: Partial, *args, **kwargs) -> QueryFacts:
        admitted = {query: clicks for query, (count, clicks) in sorted(accumulator.items()) if count >= self._fewest}
        return QueryFacts({q: min(clicks, key=lambda c: (-clicks[c], c), default="") for q, clicks in admitted.items()})


def _merge(into: Partial, more: Partial) -> Partial:
    for query, (shoppers, clicks) in more.items():
        known = into.get(query)
        if known is None:
            into[query] = (shoppers, dict(clicks))
            continue
        for category, count in clicks.items():
            known[1][category] = known[1].get(category, 0) + count
        into[query] = (known[0] + shoppers, known[1])
    return into
