"""How popularity moves by the day: random walks, and crazes that come and go; with a drift of 0 nothing moves.

A day multiplies or divides the weight of every category and every product by 1 + STEP x drift x u, u drawn from 0..1, within a factor FURTHEST of
where it began. Besides, some have a craze (a launch, a season, a present that everybody gives): for some days the weight is up to 1 + HEIGHT x drift as
large.
"""

from random import Random
from typing import NamedTuple

from simulation.missions.shop import Shop, running

STEP, PRODUCT_STEP, FURTHEST = 0.5, 1.4, 25.0
CRAZES, PRODUCT_CRAZES, HEIGHT = 0.3, 0.15, 80.0
WITHIN_DAYS, LEAST_DAYS, MOST_DAYS = 40, 3.0, 9.0


class Day(NamedTuple):
    categories: tuple[list[float], ...]
    """For each department: running totals of its categories' weights."""
    weights: list[float]
    """Of each category."""
    products: list[float]
    """Weights of all products, by number."""


class _Craze(NamedTuple):
    what: int
    peak_day: float
    days: float
    """From nothing to the peak, and from there to nothing."""
    height: float

    def factor(self, day: int) -> float:
        return 1 + self.height * max(0.0, 1 - abs(day - self.peak_day) / self.days)


class Trends:
    def __init__(self, shop: Shop, seed: int, drift: float):
        self._shop, self._drift = shop, drift
        self._rng = Random(f"{seed} trends")
        self._categories = [1.0] * len(shop.categories)
        self._products = [1.0] * len(shop.products)
        self._crazes = self._drawn(len(shop.categories), CRAZES)
        self._product_crazes = self._drawn(len(shop.products), PRODUCT_CRAZES)
        self._days = [self._today(0)]

    def day(self, number: int) -> Day:
        while self._drift and len(self._days) <= number:
            self._walk(self._categories, STEP * self._drift)
            self._walk(self._products, PRODUCT_STEP * self._drift)
            self._days.append(self._today(len(self._days)))
        return self._days[number if self._drift else 0]

    def _drawn(self, count: int, share: float) -> list[_Craze]:
        dice = self._rng.random
        crazes: list[_Craze] = []
        for what in range(count):
            if dice() < share:
                days = LEAST_DAYS + (MOST_DAYS - LEAST_DAYS) * dice()
                crazes.append(_Craze(what, WITHIN_DAYS * dice(), days, HEIGHT * dice() * self._drift))
        return crazes

    def _walk(self, factors: list[float], step: float) -> None:
        dice = self._rng.random
        for i, factor in enumerate(factors):
            move = 1 + step * dice()
            moved = factor * move if dice() < 0.5 else factor / move
            factors[i] = min(max(moved, 1 / FURTHEST), FURTHEST)

    def _today(self, day: int) -> Day:
        weights = [c.weight * factor for c, factor in zip(self._shop.categories, self._categories, strict=True)]
        products = [p.weight * factor for p, factor in zip(self._shop.products, self._products, strict=True)]
        for crazes, wanted in ((self._crazes, weights), (self._product_crazes, products)):
            for craze in crazes:
                wanted[craze.what] *= craze.factor(day)
        totals = tuple(running([weights[c] for c in row]) for row in self._shop.departments)
        return Day(totals, weights, products)
