"""What a shopper may turn to at a moment, with weights: a mission under way, what goes with a purchase, what ran out, a hobby, something new.

Everything here is latent. A turn is either settled (a mission exists) or open (category, brand, attribute and model have yet to be drawn);
`start` draws an open one, `open_words` gives the distribution of its words: both from the same rows, so a test can compare them.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from simulation.law import DAY_MS
from simulation.missions.mission import Mission
from simulation.missions.shop import Category, Product, Shop
from simulation.missions.taste import Taste, drawn
from simulation.missions.trends import Day
from simulation.missions.wording import ACCESSORY, FORMS, REFILL, START, Parts, names_of, texts

MISSION, COMPLEMENT, RAN_OUT, HOBBY, NEW = range(5)
LAST, OTHER, DUE, OUT, HOBBIES, BLUE = 5.0, 1.2, 4.0, 4.0, 0.13, 3.5
"""Weights of the mission of the last search, of another one, of a complement, of what ran out, of a hobby, of something out of the blue."""
FINISHED = 0.02
"""What remains of the weight of a category out of the blue that was bought or given up lately, or is wanted now."""
SAME_BRAND = 0.7
"""Chance that a complement is wanted of the brand that was bought, where that is sold."""
MOST_MISSIONS, MOST_FINISHED, MISSION_DAYS, DUE_DAYS = 3, 60, 9.0, 9.0


class Purchase:
    """Something that was bought and may need things that go with it."""

    __slots__ = ("attribute", "category", "from_ms", "left", "product", "wanted")

    def __init__(self, category: Category, product: Product, attribute: int, wanted: int, from_ms: int):
        self.category, self.product, self.attribute = category, product, attribute
        self.wanted, self.from_ms = wanted, from_ms
        self.left = tuple(range(len(category.complements)))

    def shares(self) -> list[tuple[int, float]]:
        """(place among the category's complements, probability) of those that are left."""
        weights = self.category.complement_weights[self.attribute]
        total = sum(weights[k] for k in self.left)
        return [(k, weights[k] / total) for k in self.left]


class Refill(NamedTuple):
    category: Category
    product: Product
    attribute: str
    due_ms: int


class Turn(NamedTuple):
    weight: float
    kind: int
    what: Mission | Purchase | Refill | None = None


class Plans:
    """A shopper's latent state."""

    __slots__ = ("finished", "hobbies", "missions", "purchases", "refills", "taste")

    def __init__(self, taste: Taste, hobbies: tuple[Category, ...]):
        self.taste, self.hobbies = taste, hobbies
        self.missions: list[Mission] = []
        """The last searched one last."""
        self.purchases: list[Purchase] = []
        self.refills: list[Refill] = []
        self.finished: tuple[int, ...] = ()
        """Categories that were bought, or looked at and given up, lately."""

    def turns(self, now_ms: int, stay: float, roam: float) -> list[Turn]:
        """Weights need not sum to 1. stay, roam: factors of the visit's mood."""
        found: list[Turn] = []
        last = self.missions[-1] if self.missions else None
        for mission in self.missions:
            fresh = 1 / (1 + 0.5 * (now_ms - mission.last_ms) / DAY_MS)
            found.append(Turn((LAST if mission is last else OTHER) * fresh * stay, MISSION, mission))
        for purchase in self.purchases:
            if now_ms >= purchase.from_ms:
                found.append(Turn(DUE / (1 + 0.3 * (now_ms - purchase.from_ms) / DAY_MS), COMPLEMENT, purchase))
        found += [Turn(OUT, RAN_OUT, refill) for refill in self.refills if now_ms >= refill.due_ms]
        return [*found, Turn(HOBBIES * roam, HOBBY), Turn(BLUE * roam, NEW)]

    def start(self, turn: Turn, shop: Shop, day: Day, rng: Random) -> Mission:
        """The mission of a turn, which becomes the last one."""
        kind, what, dice = turn.kind, turn.what, rng.random
        if isinstance(what, Mission):
            self.missions.remove(what)
            mission = what
        elif isinstance(what, Refill):
            mission = Mission(what.category, what.product.brand, what.attribute, what.product, REFILL)
            self.refills.remove(what)
        elif isinstance(what, Purchase):
            place = drawn(what.shares(), dice())
            mission = self.complement(what, place, shop, day, rng)
        elif kind == HOBBY:
            mission = self.begin(drawn(self._hobby_shares(), dice()), START, day, rng)
        else:
            blocked = self._blocked()
            category = self.taste.category(shop, day, rng)
            while category.number in blocked and dice() >= FINISHED:
                category = self.taste.category(shop, day, rng)
            mission = self.begin(category, START, day, rng)
        self.missions = [*self.missions[-MOST_MISSIONS + 1 :], mission]
        return mission

    def begin(self, category: Category, phase: int, day: Day, rng: Random, brand: str = "") -> Mission:
        brand = brand or drawn(self.taste.of_brands(category), rng.random())
        attribute = drawn(self.taste.of_attributes(category), rng.random())
        product = drawn(self.taste.of_products(category, brand, day), rng.random())
        return Mission(category, brand, attribute, product, phase)

    def complement(self, purchase: Purchase, place: int, shop: Shop, day: Day, rng: Random) -> Mission:
        category = shop.categories[purchase.category.complements[place]]
        own = purchase.product.brand
        brand = own if own in category.brands and rng.random() < SAME_BRAND else ""
        mission = self.begin(category, ACCESSORY, day, rng, brand)
        mission.owner, mission.owner_model = own, purchase.product.model
        self.done(purchase, place)
        return mission

    def done(self, purchase: Purchase, place: int) -> None:
        """One of its complements is being looked for."""
        purchase.left = tuple(k for k in purchase.left if k != place)
        purchase.wanted -= 1
        if purchase.wanted <= 0 or not purchase.left:
            self.purchases.remove(purchase)

    def finish(self, mission: Mission) -> None:
        """It was bought or given up."""
        self.missions.remove(mission)
        self.finished = (*self.finished[-MOST_FINISHED + 1 :], mission.category.number)

    def forget(self, now_ms: int) -> None:
        """What nobody came back to."""
        self.missions = [m for m in self.missions if now_ms - m.last_ms < MISSION_DAYS * DAY_MS]
        self.purchases = [p for p in self.purchases if now_ms - p.from_ms < DUE_DAYS * DAY_MS]
        self.refills = [r for r in self.refills if now_ms - r.due_ms < DUE_DAYS * DAY_MS]

    def categories(self, turn: Turn, shop: Shop, day: Day) -> Sequence[tuple[Category, float]]:
        """Of an open turn, with probabilities; likeliest first for something new."""
        if isinstance(turn.what, Purchase):
            return [(shop.categories[turn.what.category.complements[k]], p) for k, p in turn.what.shares()]
        if turn.kind == HOBBY:
            return self._hobby_shares()
        weights = [self.taste.weight(category, day) for category in shop.categories]
        for number in self._blocked():
            weights[number] *= FINISHED
        total = sum(weights)
        order = sorted(range(len(weights)), key=weights.__getitem__, reverse=True)
        return [(shop.categories[i], weights[i] / total) for i in order]

    def open_words(self, turn: Turn, category: Category, day: Day, bargain: bool) -> Iterator[tuple[str, float]]:
        """What the first search of an open turn may be, given its category; sums to 1. A text may come several times."""
        taste, habits = self.taste, self.taste.habits
        brands = taste.of_brands(category)
        owner = owner_model = ""
        phase = START
        if isinstance(turn.what, Purchase):
            phase, owner, owner_model = ACCESSORY, turn.what.product.brand, turn.what.product.model
            if owner in category.brands:
                brands = [(b, (1 - SAME_BRAND) * p + (SAME_BRAND if b == owner else 0.0)) for b, p in brands]
        models: list[tuple[str, str, float]] = []
        if phase == START:
            models = [(b, made.model, p * q) for b, p in brands for made, q in taste.of_products(category, b, day)]
        parts = Parts(names_of(category, habits), brands, taste.of_attributes(category), models, (), owner, owner_model)
        for row in texts(FORMS[phase][habits.style][bargain], parts, habits, bargain):
            yield row.text, row.weight

    def _hobby_shares(self) -> Sequence[tuple[Category, float]]:
        first, second = self.hobbies
        return ((first, 0.65), (second, 0.35))

    def _blocked(self) -> set[int]:
        return {*self.finished, *(mission.category.number for mission in self.missions)}
