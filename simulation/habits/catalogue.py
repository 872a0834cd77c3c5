"""Brands, their lines and what is sold: made of syllables, features and a price.

A title reads `brand | line noun with feature (look)`, as some shops write it.
"""

from dataclasses import dataclass
from random import Random

from schemas import Item
from simulation.habits.phrases import THEMES, invented, pick

BRANDS = 9
"""In a theme; a category holds some of them."""
TIERS = ("budget", "middle", "luxury")
PRICES = (9, 14, 24, 39, 59, 89, 149, 249, 399)
"""What a middling thing of a category costs."""


@dataclass(frozen=True, slots=True)
class Brand:
    number: int
    name: str
    tier: int
    """0 cheap .. 2 dear."""


@dataclass(frozen=True, slots=True)
class Line:
    """A brand's product line in one category, such as `kludyx sotall 40`."""

    name: str
    brand: Brand


@dataclass(frozen=True, slots=True)
class Good:
    """An item, and what the law knows of it."""

    item: Item
    line: Line
    price: int
    phrases: tuple[str, str]
    """Its feature and its look."""


def brands_of(rng: Random, taken: set[str], theme: int) -> list[Brand]:
    return [Brand(theme * BRANDS + at, invented(rng, taken, 2), at % 3) for at in range(BRANDS)]


def lines_of(rng: Random, taken: set[str], brands: list[Brand]) -> list[Line]:
    """Two lines of each of a category's brands: a named one, and one told by number."""
    lines = []
    for brand in brands:
        name = invented(rng, taken, 2)
        lines.append(Line(name, brand))
        lines.append(Line(f"{name} {10 * (2 + int(rng.random() * 60))}", brand))
    return lines


def goods_of(rng: Random, number: int, category: str, theme: int, noun: str, lines: list[Line]) -> list[Good]:
    """Two or three items of each line."""
    usual, goods = pick(rng, PRICES), []
    for line in lines:
        for _ in range(2 + (rng.random() < 0.4)):
            price = max(3, int(usual * (0.55, 1.0, 1.9)[line.brand.tier] * (0.8 + 0.4 * rng.random())))
            feature, look = pick(rng, THEMES[theme].features), pick(rng, THEMES[theme].looks)
            title = f"{line.brand.name.title()} | {line.name.title()} {noun} with {feature} ({look})"
            facts = {"brand": line.brand.name.title(), "features": f"{feature}, {look}", "price": f"{price}.99"}
            item = Item(f"h{number:03d}{len(goods):03d}", title, category, facts)
            goods.append(Good(item, line, price, (feature, look)))
    return goods
