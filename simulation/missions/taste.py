"""What a shopper likes for months: departments by profile and by chance, three brands wherever they are sold, two attributes, a purse, habits of wording.

A brand that was liked in one category is liked in the next, so clicks tell the brand of a query that has yet to come.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import sqrt
from random import Random
from typing import TypeVar

from simulation.missions.departments import BRAND_TIERS, DEPARTMENTS, LOCATIONS
from simulation.missions.shop import Category, Product, Shop, running
from simulation.missions.trends import Day
from simulation.missions.wording import Habits

Thing = TypeVar("Thing")
FAVOURITE_BRANDS = (9.0, 5.0, 3.0)
FAVOURITE_ATTRIBUTES = (5.0, 2.5)
_FIT = ((1.0, 0.55, 0.15), (0.45, 1.0, 0.45), (0.12, 0.7, 1.4))
"""[purse][tier of the brand]."""
_SEX = ("F", "M")
LOCAL = tuple(tuple(0.6 + Random(f"{place} {row.name}").random() for row in DEPARTMENTS) for place in LOCATIONS)
"""[location][department]: some things are wanted more in some places."""


class Taste:
    __slots__ = ("attributes", "brands", "departments", "habits")

    def __init__(self, rng: Random, profile: dict[str, str], day: Day):
        dice = rng.random
        age, place = int(profile["age"]), LOCATIONS.index(profile["location"])
        weights: list[float] = []
        for d, row in enumerate(DEPARTMENTS):
            sex = row.women if profile["gender"] == "F" else 1 - row.women
            young = max(0.15, 1 - abs(age - row.age) / 40)
            personal = min(1 / sqrt(dice() + 0.02) - 0.8, 5.0)
            weights.append(row.share * sex * young * LOCAL[place][d] * personal)
        self.departments = tuple(weights)
        level = bisect_right((0.35, 0.75), dice())
        self.habits = Habits(bisect_right((0.4, 0.72), dice()), dice() < 0.8, dice() < 0.1, dice() < 0.12, level)
        self.brands: tuple[str, ...] = ()
        while len(self.brands) < len(FAVOURITE_BRANDS):
            made = DEPARTMENTS[self.department(day, dice())].brands
            brand = made[int(dice() * dice() * len(made))]
            if brand not in self.brands and dice() < _FIT[level][BRAND_TIERS[brand]]:
                self.brands += (brand,)
        self.attributes: tuple[str, ...] = ()
        while len(self.attributes) < len(FAVOURITE_ATTRIBUTES):
            named = DEPARTMENTS[self.department(day, dice())].attributes
            attribute = named[int(dice() * len(named))]
            if attribute not in self.attributes:
                self.attributes += (attribute,)

    def department(self, day: Day, row: float) -> int:
        totals = running([own * wanted[-1] for own, wanted in zip(self.departments, day.categories, strict=True)])
        return bisect_right(totals, row * totals[-1])

    def weight(self, category: Category, day: Day) -> float:
        """Of the category, for a mission out of the blue; not normalised."""
        return self.departments[category.department] * day.weights[category.number]

    def category(self, shop: Shop, day: Day, rng: Random) -> Category:
        """Of a mission out of the blue."""
        d = self.department(day, rng.random())
        totals = day.categories[d]
        return shop.categories[shop.departments[d][bisect_right(totals, rng.random() * totals[-1])]]

    def of_brands(self, category: Category) -> list[tuple[str, float]]:
        """Each with its probability."""
        fit, own = _FIT[self.habits.level], self.brands
        weights = [
            weight * fit[BRAND_TIERS[brand]] * (FAVOURITE_BRANDS[own.index(brand)] if brand in own else 1.0)
            for brand, weight in zip(category.brands, category.brand_weights, strict=True)
        ]
        total = sum(weights)
        return [(brand, weight / total) for brand, weight in zip(category.brands, weights, strict=True)]

    def of_attributes(self, category: Category) -> list[tuple[str, float]]:
        own = self.attributes
        weights = [
            weight * (FAVOURITE_ATTRIBUTES[own.index(attribute)] if attribute in own else 1.0)
            for attribute, weight in zip(category.attributes, category.attribute_weights, strict=True)
        ]
        total = sum(weights)
        return [(attribute, weight / total) for attribute, weight in zip(category.attributes, weights, strict=True)]

    def of_products(self, category: Category, brand: str, day: Day) -> list[tuple[Product, float]]:
        made = category.products[category.brands.index(brand)]
        weights = [day.products[p.number] * (2.5 if p.attribute in self.attributes else 1.0) for p in made]
        total = sum(weights)
        return [(product, weight / total) for product, weight in zip(made, weights, strict=True)]


def new_profile(rng: Random) -> dict[str, str]:
    dice = rng.random
    return {
        "gender": _SEX[int(dice() * 2)],
        "age": str(18 + int(dice() * 30) + int(dice() * 30)),
        "location": LOCATIONS[int(dice() * dice() * len(LOCATIONS))],
    }


def drawn(rows: Sequence[tuple[Thing, float]], row: float) -> Thing:
    """rows: (thing, probability); row: 0..1."""
    for thing, probability in rows:
        row -= probability
        if row < 0:
            return thing
    return rows[-1][0]
