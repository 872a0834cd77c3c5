"""The first law of shoppers: missions.

A shopper comes with a mission, one thing that is wanted: looks around with broad words, compares brands and attributes, buys a model, and later, at
once or after days, looks for what goes with it. Several missions may be under way; hobbies come back for ever; what is used up is bought again in the
same words. Each part of the law has a file and says there in words what it is: `shop` (what is sold), `trends` (what moves by the day), `taste` (what a
shopper likes for months), `mission` (phases), `plans` (what may come next, and its distribution), `wording` (how it becomes a query), `visit` (mood,
pages, searches, clicks), `appeal` (how welcome a hint is), `life` (when a shopper comes).

What the next search depends on, more than the last query: the phase, seen in clicks as much as in words; the brand, seen in clicks across categories;
the purse, seen in prices; what was bought, and with which attribute; how many days ago a mission was left; habits of wording.
"""

from collections.abc import Iterator

from schemas import Item
from simulation.missions.life import MissionsLife
from simulation.missions.meaning import Reader
from simulation.missions.shop import build_shop
from simulation.missions.trends import Trends


class Missions:
    """A `simulation.law.Law`. drift: 0 nothing moves; 1: popularity frozen for one to three weeks loses
    a quarter to two fifths of its hits (trends.py)."""

    name = "missions"

    def __init__(self, seed: int, drift: float, start_ms: int):
        self.seed, self.drift, self.start_ms = seed, drift, start_ms
        self.shop = build_shop(seed)
        self.trends = Trends(self.shop, seed, drift)
        self.reader = Reader(self.shop)

    def items(self) -> Iterator[Item]:
        return (product.item for product in self.shop.products)

    def category(self, query: str) -> str:
        number = self.reader.read(query).category
        return self.shop.categories[number].name if number >= 0 else ""

    def life(self, number: int) -> MissionsLife:
        return MissionsLife(self, number)


__all__ = ["Missions"]
