"""The world that shoppers share: a taste space, categories and communities in it, what is sold and asked for there.

The taste space has eight dimensions. A category's place is that of its theme, plus its shelf's, plus its own; a community's place lies
between two shelves of different themes, so it likes things together that no name puts together. Whole numbers all through: weights
are products of them, and the same on every machine.
"""

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isqrt
from random import Random

from inference.output import normalise
from simulation.habits.catalogue import Brand, Good, brands_of, goods_of, lines_of
from simulation.habits.phrases import CONSUMED, THEMES, leaves, pick, shuffled
from simulation.habits.wants import Want, wants_of

DIMENSIONS = 8
CATEGORIES = 200
COMMUNITIES = 12
NEIGHBOURS = (9, 6, 5, 4, 3, 2, 1)
"""Weights of a category's neighbours, by nearness. One more, the companion, is drawn by chance: a neighbour by behaviour alone."""
COMPANION = 9
MOST, MOST_CONSUMED = 10**16, 3 * 10**16
"""Squares of the popularity of a category before it is divided by its rank to the power of 2.5."""
UNASKED = 30
"""Weight of a popular category for a taste that does not care for it."""
INDIFFERENT = 55
"""Inner product of a taste and a category up to which the taste does not care for it."""
MORE_JOINTS = (" for ", " with ")
"""Before what people add to a wording."""
REGIONS = ("north", "south", "east", "west", "centre", "islands")
AGES = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")


@dataclass(frozen=True, slots=True, eq=False)
class Category:
    number: int
    name: str
    theme: int
    consumed: bool
    place: tuple[int, ...]
    popularity: int
    wants: list[Want]
    goods: list[Good]


@dataclass(frozen=True, slots=True, eq=False)
class Community:
    place: tuple[int, ...]
    women: float
    """Share."""
    age: int
    """Most common one, of AGES."""
    region: int
    brands: tuple[int, ...]
    """Numbers of the brands that are in favour here, one a theme."""
    thrift: float
    """0 .. 1."""


def taste(place: tuple[int, ...], categories: list[Category]) -> list[int]:
    """Weight of every category for a taste at this place; where it cares for none, popularity alone."""
    weights = []
    for category in categories:
        nearness = sum(a * b for a, b in zip(place, category.place, strict=True)) - INDIFFERENT
        weights.append(category.popularity * (UNASKED + nearness * nearness // 32 if nearness > 0 else UNASKED))
    return weights


class World:
    """Everything that a seed settles before the first shopper comes."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(f"habits {seed} world")
        taken: set[str] = set()
        chosen = shuffled(rng, leaves())[:CATEGORIES]
        themes = [_place(rng, 4) for _ in THEMES]
        shelves = {
            (theme, shelf): _sum(themes[theme], _place(rng, 5))
            for _, theme, shelf in sorted(chosen, key=lambda leaf: leaf[1:])
        }
        self.brands: list[list[Brand]] = [brands_of(rng, taken, theme) for theme in range(len(THEMES))]
        self.categories: list[Category] = []
        for number, (name, theme, shelf) in enumerate(chosen):
            noun = " ".join(name.lower().replace("-", " ").split())
            brands = shuffled(rng, self.brands[theme])[:4]
            lines = lines_of(rng, taken, brands)
            wants = wants_of(rng, number, theme, noun, brands, lines)
            goods = goods_of(rng, number, name, theme, name, lines)
            place = _sum(shelves[theme, shelf], _place(rng, 4))
            # Zipf's law over the order of the draw; things that are used up are asked for by more people.
            popularity = isqrt((MOST_CONSUMED if name in CONSUMED else MOST) // (number + 2) ** 5)
            self.categories.append(Category(number, name, theme, name in CONSUMED, place, popularity, wants, goods))
        self.neighbours = [self._neighbours(category) for category in self.categories]
        self.communities = [self._community(shelves) for _ in range(COMMUNITIES)]
        self.wants: dict[str, tuple[Want, str]] = {}
        """By normalised wording: the want and the wording as typed."""
        for category in self.categories:
            for want in category.wants:
                for wording in want.wordings:
                    self.wants.setdefault(normalise(wording), (want, wording))
        self._misspelt: dict[str, list[str]] = {}

    def _neighbours(self, category: Category) -> tuple[list[int], list[int]]:
        """Numbers and running sums of weights."""
        near = sorted(
            (-sum(a * b for a, b in zip(category.place, other.place, strict=True)), other.number)
            for other in self.categories
            if other is not category
        )
        shares: dict[int, int] = dict(zip((number for _, number in near), NEIGHBOURS, strict=False))
        companion = int(self.rng.random() * CATEGORIES)
        if companion != category.number:
            shares[companion] = shares.get(companion, 0) + COMPANION
        # Of neighbours as near as each other the popular one is searched more.
        found = {number: share * self.categories[number].popularity for number, share in shares.items()}
        return list(found), list(accumulate(found.values()))

    def _community(self, shelves: dict[tuple[int, str], tuple[int, ...]]) -> Community:
        rng, keys = self.rng, list(shelves)
        one = pick(rng, keys)
        other = pick(rng, [key for key in keys if key[0] != one[0]])
        place = _sum(_sum(shelves[one], shelves[other]), _place(rng, 2))
        brands = tuple(pick(rng, theme).number for theme in self.brands)
        women = 0.15 + 0.7 * rng.random()
        age, region = int(rng.random() * len(AGES)), int(rng.random() * len(REGIONS))
        return Community(place, women, age, region, brands, rng.random())

    def find(self, query: str) -> Want | None:
        """What a query asks for, slips of the hand forgiven."""
        typed = normalise(query)
        cuts = (cut(joint)[0] for joint in MORE_JOINTS if joint in typed for cut in (typed.partition, typed.rpartition))
        readings = list(dict.fromkeys((typed, *cuts)))
        for reading in readings:
            if reading in self.wants:
                return self.wants[reading][0]
        return next((want for reading in readings if (want := self._forgive(reading))), None)

    def _forgive(self, typed: str) -> Want | None:
        """A slip costs one letter: words that agree after one letter is left out of either may be the same word."""
        if not self._misspelt:
            for word in sorted({word for wording in self.wants for word in wording.split(" ") if len(word) > 3}):
                for shorter in _shorter(word):
                    self._misspelt.setdefault(shorter, []).append(word)
        words = typed.split(" ")
        for place, word in enumerate(words):
            for shorter in _shorter(word):
                for meant in self._misspelt.get(shorter, ()):
                    found = self.wants.get(" ".join((*words[:place], meant, *words[place + 1 :])))
                    if found:
                        return found[0]
        return None


def _place(rng: Random, spread: int) -> tuple[int, ...]:
    return tuple(int(rng.random() * (2 * spread + 1)) - spread for _ in range(DIMENSIONS))


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _shorter(word: str) -> list[str]:
    return [word, *(word[:at] + word[at + 1 :] for at in range(len(word)))]


def total(numbers: Iterable[float]) -> float:
    """One after the other: from Python 3.12 on sum() adds decimals otherwise."""
    whole = 0.0
    for number in numbers:
        whole += number
    return whole


def draw(rng: Random, sums: Sequence[float]) -> int:
    """A place, by running sums of weights."""
    return min(bisect(sums, rng.random() * sums[-1]), len(sums) - 1)
