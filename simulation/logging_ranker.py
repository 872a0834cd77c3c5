"""The ranker that a shop has before it has a generative one: candidates from public logs, scored by a logistic model of earlier days.

It knows what a shop knows: a shopper's own log up to the page (`History`) and yesterday's statistics of all (`ShopStatistics`).
No part of a law is in its reach, so what it logs cannot leak one. Which of its best are shown is drawn (Plackett-Luce), so that the log tells
what other hints would have earned; the probability of each shown hint at its place is logged, exactly.
"""

import math
from collections import deque
from itertools import accumulate
from random import Random
from typing import NamedTuple

import msgspec

HINTS, RANKED = 3, 20
TEMPERATURE = 0.6
"""Over the scores (log odds) of the ranked: below 1, the better is shown more often than its odds say."""
SESSION_MS = 30 * 60_000
DAY_MS = 86_400_000
OWN, LAST_QUERIES, LAST_CATEGORIES = 10, 2, 2
"""Candidates come from so many own queries, from what follows the last queries, from the categories of the last clicks."""
FEATURES = (
    "bias",
    "log user-days of 7 days",
    "yesterday against 7 days",
    "log click rate as a hint",
    "log own searches",
    "freshness of the own search",
    "searched in this session",
    "follows the last query",
    "follows the query before",
    "category of the last click",
    "category of earlier clicks",
    "shown lately without a click",
    "place 2",
    "place 3",
    "is a click's example",
)
"""Of a candidate at a page. The last three are of training examples only: at scoring they are 0."""
BY_POPULARITY = (0.0, 1.0) + (0.0,) * (len(FEATURES) - 2)
UNKNOWN = (1.0, 0.0, 0.0, math.log(0.05))
"""The features that do not depend on the page, of a query that nobody else searched (an own one)."""
PLACE_1 = FEATURES.index("place 2") - 1


class ShopStatistics(msgspec.Struct, frozen=True):
    """What the logs of earlier days say about queries. Made by `ranker_training`, once a day."""

    popular: tuple[str, ...]
    """Best first, of 7 days."""
    public: dict[str, tuple[float, ...]]
    """The page-independent features of every query that may be a candidate."""
    followers: dict[str, tuple[tuple[str, float], ...]]
    """What shoppers searched after a query, with its share; best first."""
    of_category: dict[str, tuple[str, ...]]
    """Queries after which an item of the category was clicked, most often first."""
    category: dict[str, str]
    """The category clicked most often after a query."""
    weights: tuple[float, ...] = BY_POPULARITY


class History:
    """One shopper's log, the newest part of it, as a shop's feature store holds it."""

    __slots__ = ("categories", "searches", "shown")

    def __init__(self) -> None:
        self.searches: deque[tuple[int, str]] = deque(maxlen=40)
        """(time, normalised query), oldest first."""
        self.categories: deque[str] = deque(maxlen=12)
        """Of clicked items, oldest first."""
        self.shown: deque[tuple[str, ...]] = deque(maxlen=8)
        """Hints of the last pages that were not clicked."""

    def add_search(self, time_ms: int, query: str) -> None:
        self.searches.append((time_ms, query))

    def add_click(self, category: str) -> None:
        self.categories.append(category)

    def add_page(self, hints: tuple[str, ...], clicked: int | None) -> None:
        self.shown.append(tuple(hint for place, hint in enumerate(hints) if place != clicked))


class Page(NamedTuple):
    """What is shown, and what is logged about it."""

    hints: tuple[str, ...]
    propensities: tuple[float, ...]
    ranked: tuple[str, ...]
    scores: tuple[float, ...]
    features: dict[str, dict[int, float]]
    """Of each candidate: the features that depend on this page, by position in FEATURES."""


class LoggingRanker:
    """The ranker of one day."""

    def __init__(self, statistics: ShopStatistics):
        self._statistics, self._weights = statistics, statistics.weights
        weights = statistics.weights
        self._base = {query: sum(map(float.__mul__, weights, values)) for query, values in statistics.public.items()}
        self._unknown = sum(map(float.__mul__, weights, UNKNOWN))

    def page(self, history: History, now_ms: int, rng: Random) -> Page:
        features = self._candidates(history, now_ms)
        base, weights, unknown = self._base, self._weights, self._unknown
        scored = [
            (round(base.get(query, unknown) + sum(weights[i] * value for i, value in own.items()), 6), query)
            for query, own in features.items()
        ]
        scored.sort(key=lambda pair: (-pair[0], pair[1]))
        del scored[RANKED:]
        scores, ranked = tuple(pair[0] for pair in scored), tuple(pair[1] for pair in scored)
        places, propensities = draw(scores, HINTS, rng)
        return Page(tuple(ranked[place] for place in places), propensities, ranked, scores, features)

    def example(self, page: Page, query: str, place: int | None, label: bool) -> tuple[float, ...]:
        """A row to learn from: the label, then FEATURES. place: of a hint that was shown, and clicked or not; None for a search."""
        row = [*self._statistics.public.get(query, UNKNOWN), *[0.0] * (len(FEATURES) - len(UNKNOWN))]
        for position, value in page.features[query].items():
            row[position] = value
        if place is not None:
            row[-1] = 1.0
            if place:
                row[PLACE_1 + place] = 1.0
        return (float(label), *row)

    def _candidates(self, history: History, now_ms: int) -> dict[str, dict[int, float]]:
        statistics = self._statistics
        found: dict[str, dict[int, float]] = {query: {} for query in statistics.popular}
        queries: list[str] = []
        for time_ms, query in reversed(history.searches):
            if query in queries:
                found[query][4] += 1
            elif len(queries) < OWN:
                queries.append(query)
                own = found.setdefault(query, {})
                own[4], own[5] = 1.0, 1 / (1 + (now_ms - time_ms) / DAY_MS)
                if now_ms - time_ms < SESSION_MS:
                    own[6] = 1.0
        for query in queries:
            found[query][4] = math.log1p(found[query][4])
        for feature, query in zip((7, 8), queries[:LAST_QUERIES], strict=False):
            for follower, share in statistics.followers.get(query, ()):
                found.setdefault(follower, {})[feature] = share
        last = list(dict.fromkeys(reversed(history.categories)))
        for name in last[:LAST_CATEGORIES]:
            for query in statistics.of_category.get(name, ()):
                found.setdefault(query, {})
        if last:
            for query, own in found.items():
                if (name := statistics.category.get(query)) in last:
                    own[9 if name == last[0] else 10] = 1.0
        for hints in history.shown:
            for hint in hints:
                if hint in found:
                    found[hint][11] = found[hint].get(11, 0.0) + 1
        return found


def draw(scores: tuple[float, ...], count: int, rng: Random) -> tuple[list[int], tuple[float, ...]]:
    """Positions to show, without repetition, by Plackett-Luce; and of each the probability that it stands at its place, over all draws.

    scores: falling. count: at most 3.
    """
    if not scores:
        return [], ()
    weights = [max(math.exp((score - scores[0]) / TEMPERATURE), 1e-12) for score in scores]
    left, drawn = list(range(len(weights))), []
    for _ in range(min(count, len(weights))):
        row = rng.random() * sum(weights[i] for i in left)
        chosen = next((i for i in left if (row := row - weights[i]) < 0), left[-1])
        left.remove(chosen)
        drawn.append(chosen)
    return drawn, tuple(_at_place(weights, shown, place) for place, shown in enumerate(drawn))


def _at_place(weights: list[float], shown: int, place: int) -> float:
    """Plackett-Luce: the probability that `shown` is drawn at `place` (0, 1, 2), summed over all that may be drawn before it.

    Sums without one are made without subtracting: beside a weight that outweighs all others, a difference has no digits left.
    """
    mine, total = weights[shown], sum(weights)
    if place == 0:
        return mine / total
    found = 0.0
    for first, left in enumerate(_without_each(weights)):
        if first == shown:
            continue
        before = weights[first] / total
        if place == 1:
            found += before * mine / left
            continue
        rest = weights[:first] + weights[first + 1 :]
        at = shown - (shown > first)
        second = sum(w / sums for i, (w, sums) in enumerate(zip(rest, _without_each(rest), strict=True)) if i != at)
        found += before / left * second * mine
    return found


def _without_each(weights: list[float]) -> list[float]:
    """For each, the sum of all others."""
    before = accumulate(weights[:-1], initial=0.0)
    behind = accumulate(weights[:0:-1], initial=0.0)
    return [a + b for a, b in zip(before, reversed(list(behind)), strict=True)]
