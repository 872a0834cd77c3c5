"""The law of habits: shoppers as mixtures of communities in a taste space, driven by threads, cycles and crazes (see `mind`)."""

from collections.abc import Iterator
from functools import lru_cache
from random import Random

from schemas import Item
from simulation.habits.fashion import Fashion
from simulation.habits.mind import Mind
from simulation.habits.taste import born
from simulation.habits.visit import HabitsVisit
from simulation.habits.world import World, draw
from simulation.law import DAY_MS

HOUR_MS = 3_600_000
WEEKDAY = (1.0, 0.95, 0.9, 0.95, 1.05, 1.2, 1.15)
"""By day of the week since the start."""
COMES_AGAIN, WITHIN_MS = 1.7, 36 * HOUR_MS
"""Factor on the rate of visits for those who were there a short time ago."""
PAUSE_MS = HOUR_MS // 2
"""At least between two visits."""


class Habits:
    """A world of shoppers. `drift` moves what is popular by the day, 0 is a stationary world; `start_ms` is midnight of day 0."""

    name = "habits"

    def __init__(self, seed: int, drift: float, start_ms: int) -> None:
        if drift < 0:
            raise ValueError(f"drift must be 0 or above, is {drift}")
        self.seed, self.start_ms = seed, start_ms
        self.world = _world(seed)
        self.fashion = Fashion(self.world, seed, drift)

    def items(self) -> Iterator[Item]:
        return (good.item for category in self.world.categories for good in category.goods)

    def category(self, query: str) -> str:
        want = self.world.find(query)
        return self.world.categories[want.category].name if want else ""

    def life(self, number: int) -> "HabitsLife":
        return HabitsLife(self, number)


class HabitsLife:
    def __init__(self, law: Habits, number: int) -> None:
        self.user = f"h{number:06d}"
        self._law, self._text = law, f"habits {law.seed} shopper {number}"
        rng = Random(self._text)
        self.taste, self.profile = born(rng, law.world)
        self._mind = Mind(law.world, law.fashion, self.taste)
        self._mind.born_cycles(rng, law.start_ms)
        self._last_ms = law.start_ms - 100 * DAY_MS

    def visits(self, day: int) -> Iterator[HabitsVisit]:
        rng = Random(f"{self._text} day {day}")
        begins = self._begins(rng, day)
        for begin_ms in begins:
            visit = HabitsVisit(self._law.world, self._mind, rng, max(begin_ms, self._last_ms + PAUSE_MS), day)
            yield visit
            self._last_ms = visit.now_ms

    def _begins(self, rng: Random, day: int) -> list[int]:
        midnight_ms = self._law.start_ms + day * DAY_MS
        rate = self.taste.rate * WEEKDAY[day % 7]
        if midnight_ms - self._last_ms < WITHIN_MS:
            rate *= COMES_AGAIN
        begins = []
        # Four quarters of the rate: never more than four visits a day.
        for _ in range(4):
            if rng.random() < rate / 4:
                begins.append(midnight_ms + int((draw(rng, self.taste.hours) + rng.random()) * HOUR_MS))
        return sorted(begins)


@lru_cache(maxsize=4)
def _world(seed: int) -> World:
    """It never changes once made, so laws of one seed and several drifts share it."""
    return World(seed)
