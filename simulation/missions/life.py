"""A shopper's life: who they are, when they come, what a purchase leads to.

Few shoppers make most of the visits: a shopper's rate is RATE x (1 / sqrt(u) - 0.75), u drawn from 0..1, at most MOST, so a fifth of the shoppers make
nearly half of the visits, and nobody sees all that is in fashion within a week. Visits come in bursts: a shopper in the midst of something comes back sooner. One in six is new in the course of the month.
"""

from collections.abc import Iterator
from math import sqrt
from random import Random
from typing import TYPE_CHECKING

from simulation.law import DAY_MS
from simulation.missions.mission import Mission
from simulation.missions.plans import Plans, Purchase, Refill
from simulation.missions.taste import Taste, new_profile
from simulation.missions.visit import MissionsVisit

if TYPE_CHECKING:
    from simulation.missions import Missions

RATE, MOST = 0.27, 0.45
AGAIN = 0.42
"""Chance factor of one more visit on the same day."""
WEEK = (0.9, 0.88, 0.9, 0.95, 1.05, 1.2, 1.12)
"""From the weekday of the market's begin, a Monday."""
MIDST, IDLE = 1.9, 0.75
"""Factors on the rate: with something under way since the day before yesterday; else."""
HOUR_MS = 3_600_000
WANTED = (0.22, 0.55, 0.82)
"""Chance of at most 0, 1, 2 complements after a purchase; three are the most."""
AT_ONCE = 0.55
"""Chance that complements come to mind at once, not days later."""


class MissionsLife:
    __slots__ = ("_begins", "_free_ms", "_hours", "_rate", "law", "plans", "profile", "rng", "user", "visit")

    def __init__(self, law: "Missions", number: int):
        self.law = law
        self.user = f"missions-{law.seed}-{number:05d}"
        self.rng = rng = Random(f"{law.seed} missions {number}")
        self.profile = new_profile(rng)
        day = law.trends.day(0)
        taste = Taste(rng, self.profile, day)
        self.plans = Plans(taste, (taste.category(law.shop, day, rng), taste.category(law.shop, day, rng)))
        self._rate = RATE * (1 / sqrt(rng.random() + 0.002) - 0.75)
        self._begins = int(max(0.0, rng.random() * 36 - 30) * 5)
        self._hours = (7 + 8 * rng.random(), 15 + 7 * rng.random())
        self._free_ms = law.start_ms
        self.visit = 0
        """Number of visits until now."""

    def visits(self, day: int) -> Iterator[MissionsVisit]:
        dice = self.rng.random
        midnight = self.law.start_ms + day * DAY_MS
        missions = self.plans.missions
        midst = (missions and midnight - missions[-1].last_ms < 2 * DAY_MS) or self.plans.purchases
        rate = min(MOST, self._rate * WEEK[day % 7] * (MIDST if midst else IDLE))
        times: list[int] = []
        while day >= self._begins and len(times) < 4 and dice() < rate:
            rate *= AGAIN
            hour = self._hours[dice() < 0.6] + 3 * (dice() + dice() - 1)
            times.append(midnight + int(min(max(hour, 0.1), 23.5) * HOUR_MS))
        for time_ms in sorted(times):
            self.visit += 1
            visit = MissionsVisit(self, max(time_ms, self._free_ms))
            yield visit
            self._free_ms = visit.ended_ms + HOUR_MS // 2

    def bought(self, mission: Mission, now_ms: int) -> None:
        """The mission ended with a purchase: things that go with it may be wanted, and what is used up will run out."""
        dice, plans, category = self.rng.random, self.plans, mission.category
        if category.consumed:
            due_ms = now_ms + int((5 + 8 * dice()) * DAY_MS)
            plans.refills.append(Refill(category, mission.product, mission.attribute, due_ms))
        row = dice()
        wanted = sum(row >= most for most in WANTED)
        if wanted and not mission.owner:
            delay_days = 0.0 if dice() < AT_ONCE else 0.5 + 5 * dice()
            attribute = category.attributes.index(mission.attribute)
            plans.purchases.append(
                Purchase(category, mission.product, attribute, wanted, now_ms + int(delay_days * DAY_MS))
            )
