"""What is sold: some three hundred real leaf categories (CC0), with brands, attributes, prices and a few thousand products, drawn by seed.

Two things a shop's data does not say: what else is needed once something was bought (`complements`; drawn by seed, never sharing a word, so
that neither names nor paths give them away), and that the choice among those depends on the attribute that was bought.
"""

from itertools import accumulate
from math import sqrt
from random import Random
from typing import NamedTuple

from schemas import Item
from simulation.missions.departments import BRAND_TIERS, CONSUMED, DEPARTMENTS
from simulation.missions.leaves import VOWELS, Leaf, leaves_of, names_of_leaves

COMPLEMENTS = (5.0, 3.0, 2.0, 1.4, 0.8)
BOOST = 4.0
"""Of the complement that goes with the attribute that was bought."""
_CONSONANTS = "bcdfgklmnprstvxz"


class Product(NamedTuple):
    number: int
    category: int
    brand: str
    model: str
    """What the maker calls it; no two products share a model."""
    attribute: str
    tier: int
    weight: float
    """How much it is wanted among its category's, on day 0."""
    item: Item


class Category(NamedTuple):
    number: int
    name: str
    """As the shop writes it: `Canister Vacuums`."""
    names: tuple[str, ...]
    """As shoppers write it: `canister vacuum`, `canister vacuums`, and for some a third word."""
    department: int
    weight: float
    brands: tuple[str, ...]
    brand_weights: tuple[float, ...]
    attributes: tuple[str, ...]
    attribute_weights: tuple[float, ...]
    products: tuple[tuple[Product, ...], ...]
    """Of each brand."""
    complements: tuple[int, ...]
    complement_weights: tuple[tuple[float, ...], ...]
    """For each attribute: of each complement."""
    consumed: bool

    @property
    def term(self) -> str:
        return self.names[0]


class Shop(NamedTuple):
    categories: tuple[Category, ...]
    products: tuple[Product, ...]
    departments: tuple[tuple[int, ...], ...]
    """Categories of each department."""


def build_shop(seed: int) -> Shop:
    rng = Random(f"{seed} shop")
    leaves = leaves_of(rng)
    names = names_of_leaves(leaves)
    taken = {name for row in names for name in row}
    complements = [_complements(rng, leaves, i) for i in range(len(leaves))]
    models: set[str] = set()
    lines = {brand: _lines(rng) for row in DEPARTMENTS for brand in row.brands}
    categories: list[Category] = []
    products: list[Product] = []
    for i, leaf in enumerate(leaves):
        row = DEPARTMENTS[leaf.department]
        brands = _some(rng, row.brands, 4 + int(rng.random() * 3))
        free = [a for a in row.attributes if _readable(a, names[i], taken)]
        attributes = _some(rng, free, 5)
        first = len(products)
        for rank, brand in enumerate(brands):
            for _ in range(1 + int(rng.random() * 4)):
                made = _product(rng, len(products), i, leaf, brand, 1 / (rank + 1.5), attributes, lines[brand], models)
                products.append(made)
        sold = products[first:]
        categories.append(
            Category(
                number=i,
                name=leaf.name,
                names=names[i],
                department=leaf.department,
                weight=leaf.weight,
                brands=brands,
                brand_weights=tuple(1 / ((rank + 0.8) * sqrt(rank + 0.8)) for rank in range(len(brands))),
                attributes=attributes,
                attribute_weights=tuple(1 / ((rank + 0.7) * sqrt(rank + 0.7)) for rank in range(len(attributes))),
                products=tuple(tuple(p for p in sold if p.brand == brand) for brand in brands),
                complements=complements[i],
                complement_weights=_complement_weights(rng, len(attributes)),
                consumed=leaf.term.split()[-1] in CONSUMED,
            )
        )
    of_department = [tuple(c.number for c in categories if c.department == d) for d in range(len(DEPARTMENTS))]
    return Shop(tuple(categories), tuple(products), tuple(of_department))


def _complements(rng: Random, leaves: list[Leaf], i: int) -> tuple[int, ...]:
    words = set(leaves[i].term.split())
    scored: list[tuple[float, int]] = []
    for j, other in enumerate(leaves):
        near = 4.0 if other.department == leaves[i].department else 1.0
        cheaper = 2.0 if other.price < 0.6 * leaves[i].price else 0.7
        score = rng.random() * near * cheaper * sqrt(sqrt(other.weight))
        if j != i and not words & set(other.term.split()):
            scored.append((-score, j))
    return tuple(j for _, j in sorted(scored)[: len(COMPLEMENTS)])


def _complement_weights(rng: Random, attributes: int) -> tuple[tuple[float, ...], ...]:
    rows: list[tuple[float, ...]] = []
    for _ in range(attributes):
        boosted = int(rng.random() * len(COMPLEMENTS))
        rows.append(tuple(weight * (BOOST if k == boosted else 1.0) for k, weight in enumerate(COMPLEMENTS)))
    return tuple(rows)


def _readable(attribute: str, names: tuple[str, ...], taken: set[str]) -> bool:
    """Whether it says something that the name does not, and together with it does not name another category."""
    said = {word for name in names for word in name.split()}
    return not said & set(attribute.split()) and not any(f"{attribute} {name}" in taken for name in names)


def _product(
    rng: Random,
    number: int,
    category: int,
    leaf: Leaf,
    brand: str,
    share: float,
    attributes: tuple[str, ...],
    lines: tuple[str, ...],
    models: set[str],
) -> Product:
    model = ""
    while not model or model in models:
        line, digit = lines[int(rng.random() * len(lines))], 1 + int(rng.random() * 9)
        model = f"{line} {digit}" if len(line) > 2 else f"{line}{digit}{int(rng.random() * 10)}0"
        if len(models) > 20 and rng.random() < 0.1:
            model += "x"
    models.add(model)
    first = int(rng.random() * rng.random() * len(attributes))
    second = (first + 1 + int(rng.random() * (len(attributes) - 1))) % len(attributes)
    tier = BRAND_TIERS[brand]
    cents = int(100 * leaf.price * (0.65, 1.0, 1.6)[tier] * (0.75 + 0.6 * rng.random()))
    features = f"{attributes[first]}, {attributes[second]}"
    title = f"{_shown(brand)} - {_shown(model)} {_shown(attributes[first])} {leaf.name} - {_shown(attributes[second])}"
    price = f"{max(cents, 299) // 100}.{max(cents, 299) % 100:02d}"
    item = Item(f"p{number:05d}", title, leaf.name, {"brand": brand, "features": features, "price": price})
    weight = share * (1 / (rng.random() + 0.03) - 0.9)
    return Product(number, category, brand, model, attributes[first], tier, weight, item)


def _lines(rng: Random) -> tuple[str, ...]:
    """A maker's families of products: words that mean nothing, or two letters."""

    def syllable() -> str:
        return _CONSONANTS[int(rng.random() * len(_CONSONANTS))] + VOWELS[int(rng.random() * len(VOWELS))]

    letters = rng.random() < 0.4
    made = []
    for _ in range(12):
        made.append(
            syllable()[0] + syllable()[0]
            if letters
            else syllable() + syllable() + syllable()[: 1 + int(rng.random() * 2)]
        )
    return tuple(made)


def _some(rng: Random, names: tuple[str, ...] | list[str], most: int) -> tuple[str, ...]:
    """`most` of the names; those that stand first in the table rather than others, and rather first."""
    return tuple(names[i] for i in sorted(range(len(names)), key=lambda i: (i + 3) * rng.random())[:most])


def _shown(name: str) -> str:
    return " ".join(
        word.upper() if len(word) <= 2 or any(map(str.isdigit, word)) else word.capitalize() for word in name.split()
    )


def running(weights: tuple[float, ...] | list[float]) -> list[float]:
    """Totals so far, for `bisect_right(totals, totals[-1] * random())`."""
    return list(accumulate(weights))
