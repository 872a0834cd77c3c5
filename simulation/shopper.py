"""A simulated shopper: a profile, a few interests of which nobody is told, and how they become searches and clicks.

The law in words (docs/simulation.md): a session is about one interest. The shopper searches, often makes the query
narrower by the brand or feature that this shopper likes, clicks on what fits, and goes on to what is bought along with it.
Some queries are mistyped and typed again. Interests grow old and are replaced, and once in a life nearly all change.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from schemas import Item
from simulation.catalogue import Category, catalogue

T = TypeVar("T")
CITIES = "austin,boston,chicago,denver,houston,miami,new york,phoenix,portland,seattle".split(",")
# Share of women and middle of the ages among those who like a department; the rest of the departments are for everybody.
LIKED_BY = {
    "Health, Fitness & Beauty": (0.7, 45),
    "Video Games": (0.3, 24),
    "Appliances": (0.6, 50),
    "Car Electronics & GPS": (0.25, 40),
}
COLD_INTEREST = 0.35
"""Chance that a session is about an interest other than the last one."""
CLICKS = (0.35, 0.75, 0.95)
"""Chance of at most 0, 1, 2 clicks on a search; three are the most."""
BORED = 0.7
"""Chance that a query searched before gives way to one about what goes along with it."""
TYPO = 0.06
SWAPPED = 0.08
"""Chance that a query of several words comes in another order."""


@dataclass(frozen=True)
class Search:
    query: str


@dataclass(frozen=True)
class Click:
    item: Item


@dataclass(frozen=True)
class Need:
    """What one interest is about."""

    category: Category
    brand: str
    feature: str


@dataclass
class Shopper:
    name: str
    profile: dict[str, str]
    rng: Random = field(repr=False)
    """Only `random()` is called: it is the one method that every version of Python promises to repeat."""
    interests: list[Need] = field(default_factory=list)
    """The newest last."""
    told: set[str] = field(default_factory=set)
    """Queries searched before."""

    def session(self) -> Iterator[Search | Click]:
        """One visit: about 3 searches and 3 clicks."""
        if self._chance(COLD_INTEREST):
            self._warm_up(self.interests[int(self.rng.random() * len(self.interests))])
        need = self.interests[-1]
        query = self._first_query(need)
        while True:
            if query in self.told and self._chance(BORED):
                need = self._along_with(need)
                query = self._first_query(need)
            yield from self._search(query, need)
            if self._chance(0.35):
                break
            way = self.rng.random()
            if way < 0.45:
                query = self._narrower(need, query)
            elif way < 0.7:
                need = self._along_with(need)
                query = self._first_query(need)
            elif way < 0.8:
                need = Need(need.category, self._one_of(need.category.brands), need.feature)
                query = f"{need.brand} {need.category.term}"
            elif way < 0.85:
                need = self._one_of(self.interests)
                query = self._first_query(need)
            else:
                need = new_need(self.rng, self.profile, self.interests)
                query = need.category.term
        self._grow_older(need)

    def change(self) -> None:
        """Once in a life nearly all interests change."""
        self.interests = [
            self.interests[0],
            *(new_need(self.rng, self.profile, self.interests) for _ in self.interests[1:]),
        ]

    def _search(self, query: str, need: Need) -> Iterator[Search | Click]:
        typed = self._mistyped(query) if self._chance(TYPO) else query
        yield Search(typed)
        if typed != query and self._chance(0.7):
            yield Search(query)
        self.told.add(query)
        for _ in range(bisect_right(CLICKS, self.rng.random())):
            yield Click(self._item(need))

    def _first_query(self, need: Need) -> str:
        """Broad or narrow; seldom one that this shopper has searched before."""
        term = need.category.term
        query = ""
        for _ in range(3):
            form = self.rng.random()
            if form < 0.55:
                query = term
            elif form < 0.8:
                query = f"{need.brand} {term}"
            elif form < 0.93:
                query = f"{need.feature} {term}"
            else:
                query = f"{need.brand} {need.feature} {term}"
            if query not in self.told:
                break
        return self._swapped(query)

    def _narrower(self, need: Need, query: str) -> str:
        term = need.category.term
        if self._chance(0.25):
            return f"{need.brand} {_model(need.brand, need)}"
        if need.brand in query or need.feature in query:
            return self._swapped(f"{need.brand} {need.feature} {term}")
        return self._swapped(f"{need.brand if self._chance(0.6) else need.feature} {term}")

    def _along_with(self, need: Need) -> Need:
        companions = need.category.companions
        category = catalogue().categories[companions[min(int(self.rng.random() * self.rng.random() * 4), 2)]]
        return _need_in(self.rng, category, self.interests)

    def _grow_older(self, last: Need) -> None:
        """What the visit ended with may become an interest, in place of the coldest; now and then one comes out of the blue."""
        if last not in self.interests and self._chance(0.5):
            self.interests = [*self.interests[1:], last]
        elif self._chance(0.2):
            self.interests = [*self.interests[1:], new_need(self.rng, self.profile, self.interests)]

    def _warm_up(self, need: Need) -> None:
        self.interests = [*(other for other in self.interests if other != need), need]

    def _item(self, need: Need) -> Item:
        brand = need.brand if self._chance(0.7) else self._one_of(need.category.brands)
        feature = need.feature if self._chance(0.6) else self._one_of(need.category.features)
        model = _model(brand, need)
        title = f"{_shown(brand)} - {_shown(feature)} {need.category.name} - {model.upper()}"
        id = f"{brand}-{feature}-{need.category.term}-{model}".replace(" ", "_")
        return Item(id, title, need.category.name, {"brand": brand, "feature": feature})

    def _mistyped(self, query: str) -> str:
        """One letter left out, doubled, or two changed about."""
        at = int(self.rng.random() * (len(query) - 1))
        way = self.rng.random()
        if way < 0.4:
            return query[:at] + query[at + 1 :]
        if way < 0.6:
            return query[:at] + query[at] + query[at:]
        return query[:at] + query[at + 1] + query[at] + query[at + 2 :]

    def _swapped(self, query: str) -> str:
        words = query.split()
        return " ".join(words[1:] + words[:1]) if self._chance(SWAPPED) else query

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _one_of(self, things: Sequence[T]) -> T:
        return things[int(self.rng.random() * len(things))]


def new_shopper(name: str, seed: str) -> Shopper:
    """The same name and seed give the same shopper, with the same life ahead."""
    rng = Random(seed)
    profile = {
        "gender": "F" if rng.random() < 0.5 else "M",
        "age": str(18 + int(rng.random() * 30) + int(rng.random() * 30)),
        "location": CITIES[int(rng.random() * rng.random() * len(CITIES))],
    }
    shopper = Shopper(name, profile, rng)
    for _ in range(2 + int(rng.random() * 3)):
        shopper.interests.append(new_need(rng, profile, shopper.interests))
    return shopper


def new_need(rng: Random, profile: dict[str, str], interests: Sequence[Need]) -> Need:
    """An interest as popular categories and this profile make it likely."""
    shop = catalogue()
    while True:
        category = shop.categories[bisect_right(shop.popularity, rng.random() * shop.popularity[-1])]
        if rng.random() < _liking(category.department, profile):
            return _need_in(rng, category, interests)


def _liking(department: str, profile: dict[str, str]) -> float:
    women, age = LIKED_BY.get(department, (0.5, 40))
    by_gender = women if profile["gender"] == "F" else 1 - women
    return by_gender * max(0.2, 1 - abs(int(profile["age"]) - age) / 40)


def _need_in(rng: Random, category: Category, interests: Sequence[Need]) -> Need:
    """A shopper's brand of one category is the brand of the next, where it is sold; else the first brands are bought most."""
    known = [need for need in interests if need.category.department == category.department]
    loyal = known and known[-1].brand in category.brands and rng.random() < 0.8
    taste = known and known[-1].feature in category.features and rng.random() < 0.7
    brand = known[-1].brand if loyal else category.brands[int(rng.random() * rng.random() * len(category.brands))]
    feature = (
        known[-1].feature if taste else category.features[int(rng.random() * rng.random() * len(category.features))]
    )
    return Need(category, brand, feature)


def _model(brand: str, need: Need) -> str:
    """What the maker calls its product; each has one a category and feature."""
    number = sum(map(ord, brand + need.feature)) % 9 + 1
    return "".join(word[0] for word in need.category.term.split()) + f"{number}00"


def _shown(name: str) -> str:
    return " ".join(word.upper() if len(word) <= 2 else word.capitalize() for word in name.split())
