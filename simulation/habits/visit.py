"""One stay of a shopper: home pages, searches, clicks.

A shopper who sees the home page and clicks no hint always searches at least once before the next page; after a hint, often not. So the
next search by themselves is drawn at the page's own moment, from a mixture that `likeliest` can tell to the last digit.
"""

from collections.abc import Iterator
from itertools import accumulate
from random import Random

from inference.output import normalise
from simulation.habits.catalogue import Good
from simulation.habits.mind import Mind, Mix
from simulation.habits.phrases import slip
from simulation.habits.wants import Want
from simulation.habits.world import World, draw
from simulation.law import Chance, Step

ANOTHER_PAGE = (0.36, 0.22, 0.0)
"""Chance of one more home page, by pages so far."""
ANOTHER_SEARCH = 0.36
SATISFIED = 0.5
"""Chance that a hint was all that they wanted at this page."""
RETYPED = 0.5
"""Chance that a slip of the hand is seen and typed again."""
CLICKS = (0.34, 0.78, 0.94)
"""Running chances of none, one, two clicks after a search."""
BUYS, BUYS_USED_UP = 0.1, 0.22
"""Chance to buy a clicked item that is not too dear."""
MOST_SEARCHES = 6
"""At a page."""
MOODS = (0.25, 0.7, 1.0)
"""How much a shopper looks at hints in a visit; no log tells."""


class HabitsVisit:
    def __init__(self, world: World, mind: Mind, rng: Random, begin_ms: int, day: int) -> None:
        self._world, self._mind, self._rng, self._day = world, mind, rng, day
        self._mood = MOODS[int(rng.random() * len(MOODS))]
        self._mix: Mix | None = None
        self._pages = 0
        self._followed = False
        self.now_ms = begin_ms
        """Time of what was last told."""

    def next_page(self) -> int | None:
        if self._pages:
            if self._rng.random() >= ANOTHER_PAGE[self._pages - 1]:
                return None
            self.now_ms += self._seconds(10, 90)
        self._pages += 1
        self._followed = False
        self._mix = self._mind.mix(self.now_ms, self._day)
        return self.now_ms

    def appeal(self, query: str) -> float:
        want = self._world.find(query)
        if want is None:
            return 0.0
        chance, liked = self._mind.attraction(self._at_page(), want)
        near = min(1.0, 2.5 * chance / (0.25 + chance))
        found = near * self._mood * liked / (liked + 0.6)
        return found * 0.25 if want.category in self._mind.taste.elsewhere else found

    def likeliest(self, count: int) -> list[Chance]:
        return self._mind.chances(self._at_page(), count)

    def follow(self, query: str) -> Iterator[Step]:
        self._followed = True
        self.now_ms += self._seconds(2, 20)
        yield Step(self.now_ms, query=query)
        want = self._world.find(query)
        if want is not None:
            known = self._world.wants.get(normalise(query))
            self._mind.searched(self._rng, want, known[1] if known else want.wordings[0], self.now_ms)
            yield from self._clicks(want)

    def steps(self) -> Iterator[Step]:
        rng, mind = self._rng, self._mind
        if self._followed and rng.random() < SATISFIED:
            return
        mix = mind.mix(self.now_ms, self._day) if self._followed else self._at_page()
        for _ in range(MOST_SEARCHES):
            want, wording = mind.draw(rng, mix)
            self.now_ms += self._seconds(5, 60)
            yield from self._typed(wording)
            mind.searched(rng, want, wording, self.now_ms)
            yield from self._clicks(want)
            if rng.random() >= ANOTHER_SEARCH:
                return
            mix = mind.mix(self.now_ms, self._day)

    def _at_page(self) -> Mix:
        if self._mix is None:
            raise RuntimeError("there is no home page yet: next_page() must be called first")
        return self._mix

    def _typed(self, wording: str) -> Iterator[Step]:
        rng, taste = self._rng, self._mind.taste
        typed = wording
        if rng.random() < taste.slips:
            slipped = slip(rng, wording)
            typed = wording if normalise(slipped) in self._world.wants else slipped
        yield Step(self.now_ms, query=typed.title() if taste.capitals else typed)
        if typed != wording and rng.random() < RETYPED:
            self.now_ms += self._seconds(4, 15)
            yield Step(self.now_ms, query=wording.title() if taste.capitals else wording)

    def _clicks(self, want: Want) -> Iterator[Step]:
        rng, mind = self._rng, self._mind
        category, luck = self._world.categories[want.category], rng.random()
        count = sum(luck >= upto for upto in CLICKS)
        weights = [self._fits(want, good) for good in category.goods]
        for _ in range(count):
            place = draw(rng, list(accumulate(weights)))
            good, weights[place] = category.goods[place], 0.0
            self.now_ms += self._seconds(5, 70)
            tier = good.line.brand.tier
            bought = tier <= mind.taste.budget and rng.random() < (BUYS_USED_UP if category.consumed else BUYS)
            mind.looked(tier, want.category)
            yield Step(self.now_ms, item=good.item, bought=bought)
            if bought:
                mind.bought(want.category)
                return

    def _fits(self, want: Want, good: Good) -> float:
        fit = 1.0 if good.line.brand.tier <= self._mind.taste.budget else 0.35
        if want.line is good.line:
            fit *= 40
        elif want.brand is good.line.brand:
            fit *= 12
        if want.phrase in good.phrases:
            fit *= 6
        return fit * (3 if want.tier != 1 and want.tier == good.line.brand.tier else 1)

    def _seconds(self, least: int, most: int) -> int:
        """Milliseconds."""
        return int(1000 * (least + (most - least) * self._rng.random()))
