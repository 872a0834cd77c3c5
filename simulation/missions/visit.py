"""A visit: a mood, pages, searches, clicks, purchases; and what judges may ask about a page.

No log tells the mood (whether the shopper stays with a mission or roams, hunts for bargains), how open the shopper is to hints today, how eager to
buy, nor how much a price counts.
"""

from collections.abc import Iterator, Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, NamedTuple

from simulation.law import DAY_MS, Chance, Step
from simulation.missions.appeal import appeal_of
from simulation.missions.mission import BOUGHT, DROPPED, Mission
from simulation.missions.plans import NEW, Refill, Turn
from simulation.missions.shop import Product
from simulation.missions.taste import drawn
from simulation.missions.wording import BUY, COMPARE, REFILL, RESEARCH, RT, TYPO, Text, may_slip, mistyped

if TYPE_CHECKING:
    from simulation.missions.life import MissionsLife
LEAVES, ENDS, HOME, SATISFIED, RETYPED = 0.06, 0.4, 0.3, 0.45, 0.75
"""Chances: to leave a page without a search; that a search is the visit's last; to go on by way of the home page; that a clicked hint was enough; that
a slip of the hand is typed again."""
CLICKS = ((0.3, 0), (0.7, 1), (0.91, 2), (1.0, 3))
MOST_SEARCHES = 14
SECOND_MS = 1_000


class Mood(NamedTuple):
    stay: float
    roam: float
    bargain: bool


MOODS = ((Mood(1.5, 0.5, False), 0.5), (Mood(0.7, 1.6, False), 0.32), (Mood(1.0, 1.0, True), 0.18))


class MissionsVisit:
    def __init__(self, life: "MissionsLife", start_ms: int):
        self._life, self._law, self._plans, self._rng = life, life.law, life.plans, life.rng
        dice = self._rng.random
        self._now = start_ms
        self._day = self._law.trends.day((start_ms - self._law.start_ms) // DAY_MS)
        self._mood = drawn(MOODS, dice())
        self.openness = 0.6 + 0.6 * dice()
        self.thrift = dice() * (1.0, 0.7, 0.35)[life.plans.taste.habits.level] + 0.3 * self._mood.bargain
        self._eager = 0.6 + 0.8 * dice()
        self._home, self._followed, self._searches = True, False, 0
        self._turns: list[Turn] | None = None
        self._plans.forget(start_ms)

    def next_page(self) -> int | None:
        if not self._home:
            return None
        if self._searches or self._followed:
            self._pass(8, 70)
        self._home, self._followed, self._turns = False, False, None
        return self._now

    @property
    def ended_ms(self) -> int:
        return self._now

    def appeal(self, query: str) -> float:
        meaning = self._law.reader.read(query)
        return appeal_of(query, meaning, self._now_turns(), self._plans, self._law.shop, self._day, self)

    def follow(self, query: str) -> Iterator[Step]:
        self._followed = True
        self._turns = None
        self._pass(2, 20)
        yield Step(self._now, query)
        self._searches += 1
        mission = self._led_to(query)
        if mission is not None:
            yield from self._clicks(mission, Text(query, 1.0, -1))

    def steps(self) -> Iterator[Step]:
        dice = self._rng.random
        if self._followed:
            if dice() < SATISFIED:
                self._home = dice() < HOME and self._searches < MOST_SEARCHES
                return
        elif dice() < LEAVES:
            return
        while True:
            yield from self._search()
            if dice() < ENDS or self._searches >= MOST_SEARCHES:
                return
            if dice() < HOME:
                self._home = True
                return

    def likeliest(self, count: int) -> Sequence[Chance]:
        plans, shop, habits, bargain = self._plans, self._law.shop, self._plans.taste.habits, self._mood.bargain
        found: dict[str, float] = {}
        turns = self._now_turns()
        total = sum(turn.weight for turn in turns)
        for turn in turns:
            share = turn.weight / total
            if isinstance(turn.what, Mission | Refill):
                mission = turn.what
                if isinstance(mission, Refill):
                    mission = Mission(
                        mission.category, mission.product.brand, mission.attribute, mission.product, REFILL
                    )
                for row in mission.words(habits, bargain, self._life.visit):
                    found[row.text] = found.get(row.text, 0.0) + share * row.weight
                continue
            enough = 0.0
            for rank, (category, likely) in enumerate(plans.categories(turn, shop, self._day)):
                if share * likely < enough:  # no text of this category, nor of any after it, can be among the best
                    break
                for text, weight in plans.open_words(turn, category, self._day, bargain):
                    found[text] = found.get(text, 0.0) + share * likely * weight
                if turn.kind == NEW and rank in (7, 15, 31, 63):
                    enough = sorted(found.values())[-count] if len(found) >= count else 0.0
        right = [p * (1 - TYPO) if may_slip(text) else p for text, p in found.items()]
        best = nlargest(count, zip(right, found, strict=True))
        return [Chance(text, p) for p, text in best]

    def _now_turns(self) -> list[Turn]:
        if self._turns is None:
            self._turns = self._plans.turns(self._now, self._mood.stay, self._mood.roam)
        return self._turns

    def _search(self) -> Iterator[Step]:
        rng, plans = self._rng, self._plans
        turns = self._now_turns()
        self._turns = None
        total = sum(turn.weight for turn in turns)
        turn = drawn([(turn, turn.weight / total) for turn in turns], rng.random())
        mission = plans.start(turn, self._law.shop, self._day, rng)
        rows = mission.words(plans.taste.habits, self._mood.bargain, self._life.visit)
        row = drawn([(row, row.weight) for row in rows], rng.random())
        self._pass(3, 45)
        typed = mistyped(row.text, rng) if rng.random() < TYPO else row.text
        yield Step(self._now, typed)
        if typed != row.text and rng.random() < RETYPED:
            self._pass(3, 15)
            yield Step(self._now, row.text)
        self._searches += 1
        yield from self._clicks(mission, row)

    def _clicks(self, mission: Mission, row: Text) -> Iterator[Step]:
        """Clicks after a search, perhaps the purchase, and what it does to the mission."""
        rng, plans = self._rng, self._plans
        mission.told[row.text] = self._life.visit
        roll = rng.random()
        clicks = next(count for most, count in CLICKS if roll < most)
        for _ in range(clicks):
            product = self._looked_at(mission, row)
            self._pass(6, 70)
            mission.liked(product, rng)
            yield Step(self._now, item=product.item)
        mission.last_ms = self._now
        outcome = mission.advance(row.form, clicks, self._eager, rng)
        if outcome == BOUGHT:
            self._pass(20, 120)
            mission.last_ms = self._now
            yield Step(self._now, item=mission.product.item, bought=True)
            self._life.bought(mission, self._now)
        if outcome in (BOUGHT, DROPPED):
            plans.finish(mission)

    def _looked_at(self, mission: Mission, row: Text) -> Product:
        rng, taste = self._rng, self._plans.taste
        dice = rng.random()
        if mission.phase in (BUY, REFILL) and dice < 0.65:
            return mission.product
        brand = row.brand if row.form == RT else mission.brand if dice < 0.72 else ""
        brand = brand or drawn(taste.of_brands(mission.category), rng.random())
        products = taste.of_products(mission.category, brand, self._day)
        weights = [(p, q * (2.0 if p.attribute == mission.attribute else 1.0)) for p, q in products]
        total = sum(q for _, q in weights)
        return drawn([(p, q / total) for p, q in weights], rng.random())

    def _led_to(self, query: str) -> Mission | None:
        """The mission that a clicked hint takes up or begins."""
        plans, meaning, shop = self._plans, self._law.reader.read(query), self._law.shop
        if meaning.category < 0:
            return None
        category = shop.categories[meaning.category]
        mission = next((m for m in plans.missions if m.category is category), None)
        if mission is not None:
            plans.missions.remove(mission)
        else:
            mission = plans.begin(
                category, RESEARCH, self._day, self._rng, meaning.brand if meaning.brand in category.brands else ""
            )
            plans.refills = [refill for refill in plans.refills if refill.category is not category]
            for purchase in list(plans.purchases):
                place = (
                    purchase.category.complements.index(meaning.category)
                    if meaning.category in purchase.category.complements
                    else -1
                )
                if place in purchase.left:
                    mission.owner, mission.owner_model = purchase.product.brand, purchase.product.model
                    plans.done(purchase, place)
                    break
        if meaning.product >= 0:
            mission.product, mission.phase = shop.products[meaning.product], BUY
            mission.brand = mission.product.brand
        elif meaning.brand in category.brands:
            if mission.brand != meaning.brand:
                mission.brand = meaning.brand
                mission.product = drawn(plans.taste.of_products(category, meaning.brand, self._day), self._rng.random())
            mission.phase = max(mission.phase, COMPARE)
        if meaning.attribute in category.attributes:
            mission.attribute = meaning.attribute
        plans.missions = [*plans.missions[-2:], mission]
        return mission

    def _pass(self, least_s: int, most_s: int) -> None:
        self._now += SECOND_MS * least_s + int(self._rng.random() * (most_s - least_s) * SECOND_MS)
