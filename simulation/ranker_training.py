"""The logging ranker's day: yesterday's log becomes statistics, yesterday's pages train the logistic model.

A log goes in, statistics and weights come out; nothing here knows a law. Sums are made without a linear algebra library and weights
are rounded, so that the same log gives the same ranker whatever the machine does in parallel.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simulation.logging_ranker import BY_POPULARITY, FEATURES, UNKNOWN, ShopStatistics

DAYS = 7
TRAINED_ON_DAYS = 3
"""Examples of so many days; about 25,000 pages a day are plenty for 15 weights."""
FIRST_TRAINED_DAY = 2
"""Before it: popularity."""
POPULAR, FOLLOWERS, OF_CATEGORY = 40, 8, 8
FEWEST_USER_DAYS = 2
"""A query that was searched less is nobody else's candidate: mostly a slip of the hand."""
PRIOR_SHOWN, PRIOR_RATE = 20.0, 0.05
RIDGE = 3.0


class LoggedSearch(NamedTuple):
    shopper: int
    query: str
    """Normalised."""
    by_themselves: bool


class LoggedClick(NamedTuple):
    shopper: int
    category: str


class LoggedPage(NamedTuple):
    hints: tuple[str, ...]
    clicked: int | None


@dataclass
class _Day:
    searched: set[tuple[int, str]] = field(default_factory=set)
    follows: Counter[tuple[str, str]] = field(default_factory=Counter)
    categories: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(category, query)"""
    shown: Counter[str] = field(default_factory=Counter)
    clicked: Counter[str] = field(default_factory=Counter)
    examples: np.ndarray = field(default_factory=lambda: np.zeros((0, len(FEATURES) + 1), np.float32))


class ShopLog:
    """What a shop has logged, as far as its ranker needs it: seven days of counts, and each shopper's last query."""

    def __init__(self, categories: Iterable[str]):
        """categories: normalised names of what is sold, those with most items first: all that a shop without a log can show."""
        self._categories = tuple(categories)[:POPULAR]
        self._days: deque[_Day] = deque(maxlen=DAYS)
        self._last: dict[int, str] = {}
        self._ended_days = 0

    def add_day(self, log: Iterable[LoggedSearch | LoggedClick | LoggedPage], examples: np.ndarray) -> None:
        """A whole day, by time. examples: rows of LoggingRanker.example, in an order that does not depend on who played them."""
        day = _Day(examples=examples)
        for each in log:
            if isinstance(each, LoggedSearch):
                last = self._last.get(each.shopper)
                if each.by_themselves:
                    day.searched.add((each.shopper, each.query))
                    if last is not None and last != each.query:
                        day.follows[last, each.query] += 1
                self._last[each.shopper] = each.query
            elif isinstance(each, LoggedClick):
                if each.category and (last := self._last.get(each.shopper)) is not None:
                    day.categories[each.category, last] += 1
            else:
                day.shown.update(each.hints)
                if each.clicked is not None:
                    day.clicked[each.hints[each.clicked]] += 1
        self._days.append(day)
        self._ended_days += 1

    def statistics(self) -> ShopStatistics:
        """For the day that comes."""
        if not self._days:
            count = len(self._categories)
            public = {name: (1.0, math.log1p(count - i), 0.0, UNKNOWN[3]) for i, name in enumerate(self._categories)}
            return ShopStatistics(self._categories, public, {}, {}, {})
        week = [Counter(query for _, query in day.searched) for day in self._days]
        popularity = _summed(week)
        known = {query: count for query, count in popularity.items() if count >= FEWEST_USER_DAYS}
        shown, clicked = _summed(day.shown for day in self._days), _summed(day.clicked for day in self._days)
        public = {
            query: (
                1.0,
                math.log1p(count),
                math.log((week[-1][query] + 1) / (count / len(week) + 1)),
                math.log((clicked[query] + PRIOR_RATE * PRIOR_SHOWN) / (shown[query] + PRIOR_SHOWN)),
            )
            for query, count in known.items()
        }
        follows, categories = _summed(day.follows for day in self._days), _summed(day.categories for day in self._days)
        after = _best(((a, b, count) for (a, b), count in follows.items() if count > 1 and b in known), FOLLOWERS)
        inside = _best(
            ((name, query, count) for (name, query), count in categories.items() if query in known), OF_CATEGORY
        )
        of_query = _best(((query, name, count) for (name, query), count in categories.items()), 1)
        followed = Counter[str]()
        for (query, _), count in follows.items():
            followed[query] += count
        return ShopStatistics(
            popular=tuple(sorted(known, key=lambda query: (-known[query], query))[:POPULAR]),
            public=public,
            followers={a: tuple((b, count / followed[a]) for b, count in found) for a, found in after.items()},
            of_category={name: tuple(query for query, _ in found) for name, found in inside.items()},
            category={query: found[0][0] for query, found in of_query.items()},
            weights=self._weights(),
        )

    def _weights(self) -> tuple[float, ...]:
        if self._ended_days < FIRST_TRAINED_DAY:
            return BY_POPULARITY
        examples = np.concatenate([day.examples for day in list(self._days)[-TRAINED_ON_DAYS:]])
        if not 0 < examples[:, 0].sum() < len(examples):
            return BY_POPULARITY
        return fit_logistic(examples[:, 1:].astype(np.float64), examples[:, 0].astype(np.float64))


def fit_logistic(features: np.ndarray, labels: np.ndarray, steps: int = 12) -> tuple[float, ...]:
    """Weights of a logistic model with a ridge, by Newton's method. features: (examples, features)."""
    weights = np.zeros(features.shape[1])
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-np.einsum("ij,j->i", features, weights)))
        gradient = np.einsum("ij,i->j", features, labels - chance) - RIDGE * weights
        curvature = np.einsum("ij,i,ik->jk", features, chance * (1 - chance), features) + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights = np.clip(weights + step, -20, 20)
        if np.abs(step).max() < 1e-5:
            break
    return tuple(round(float(weight), 3) + 0.0 for weight in weights)


def _summed(counters: Iterable[Counter]) -> Counter:
    total: Counter = Counter()
    for each in counters:
        total.update(each)
    return total


def _best(counted: Iterable[tuple[str, str, int]], most: int) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for key, value, count in counted:
        found.setdefault(key, []).append((value, count))
    for key, values in found.items():
        values.sort(key=lambda pair: (-pair[1], pair[0]))
        found[key] = values[:most]
    return found
