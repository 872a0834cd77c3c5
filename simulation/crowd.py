"""A law's shoppers without home pages: events as they would come to a job, in the law's own time or in quick motion for a demo.

What shoppers do by themselves and nothing else: no hint is shown, so no ranker has to learn and a stream begins at once.
"""

import heapq
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from random import Random

from schemas import BehaviourEvent
from simulation.law import DAY_MS, Law, Life, Step
from simulation.market_folder import START_MS, law_of

SECOND_MS = 1_000
STEP_MS = (500, 2_000)
"""Between two behaviours in quick motion."""
AWAY_MS = 15 * SECOND_MS
"""Between two visits of a shopper in quick motion."""
BACK = 0.5
"""Share of visits that a shopper makes who was here before, if one is away for long enough."""
EVENTS_A_VISIT = 5
"""About: it sets how often visits begin."""


WORLD = 1
"""Seed of the market that the shipped model was trained on. Crowds live in it, and none of their shoppers was among the model's."""
FIRST = 1_000_000


class Crowd:
    """`law`, `seed` and `shoppers` fix everything: shopper n of a seed lives the same life on any machine."""

    def __init__(self, seed: int, shoppers: int = 100_000, law: str = "missions") -> None:
        self.seed, self.shoppers, self._law = seed, shoppers, law

    def events(self, start_ms: int, days: int) -> Iterator[BehaviourEvent]:
        """What all shoppers do in a span, by time. Lazy; memory grows with the number of shoppers."""
        world = self._world(start_ms)
        lives = (self._told(life, visits_of(life, days)) for life in self._lives(world))
        merged = heapq.merge(*lives, key=lambda event: (event.time_ms, event.id))
        return (event for event in merged if event.time_ms < start_ms + days * DAY_MS)

    def bursts(self, start_ms: int, rate_per_s: float, seconds: float) -> Iterator[BehaviourEvent]:
        """Visits in quick motion, by time: seconds within a visit, and every other one is of a shopper who comes back within the minute,
        with what the law has next for them. About `rate_per_s` events a second once the first seconds are over.

        Raises ValueError where there are too few shoppers for the rate.
        """
        rng = Random(f"{self.seed} crowd")
        end_ms = start_ms + int(seconds * SECOND_MS)
        newcomers = ((life, visits_of(life)) for life in self._lives(self._world(START_MS)))
        away: list[tuple[int, int, Life, Iterator[list[Step]]]] = []
        playing: list[tuple[int, int, Iterator[BehaviourEvent]]] = []
        arrival = start_ms
        number = 0
        while arrival < end_ms:
            number += 1
            rested = bool(away) and away[0][0] <= arrival
            someone = None if rested and rng.random() < BACK else next(newcomers, None)
            if someone is None and not rested:
                raise ValueError(f"{self.shoppers} shoppers are too few for {rate_per_s} events/s; take more")
            life, visits = someone or heapq.heappop(away)[2:]
            steps = _quickly(next(visits), arrival, rng)
            playing.append((arrival, number, self._told(life, [steps])))
            heapq.heappush(away, (steps[-1].time_ms + AWAY_MS, number, life, visits))
            arrival += int(2 * rng.random() * EVENTS_A_VISIT * SECOND_MS / rate_per_s)
        merged = heapq.merge(*(events for _, _, events in playing), key=lambda event: (event.time_ms, event.id))
        return (event for event in merged if event.time_ms < end_ms)

    def live(self, rate_per_s: float, seconds: float) -> Iterator[BehaviourEvent]:
        """`bursts` from now on, each event handed out when its time has come."""
        for event in self.bursts(int(time.time() * 1000), rate_per_s, seconds):
            time.sleep(max(0.0, event.time_ms / 1000 - time.time()))
            yield event

    def _world(self, start_ms: int) -> Law:
        return law_of(self._law, WORLD, 1.0, start_ms)

    def _lives(self, world: Law) -> Iterator[Life]:
        return (world.life(FIRST * self.seed + number) for number in range(self.shoppers))

    def _told(self, life: Life, visits: Iterable[list[Step]]) -> Iterator[BehaviourEvent]:
        for number, step in enumerate(chain.from_iterable(visits)):
            id = f"{life.user}-{step.time_ms}-{number}"
            kind = "search" if step.query else "click"
            yield BehaviourEvent(
                id, life.user, kind, step.time_ms, query=step.query, item=step.item, profile=life.profile
            )


def visits_of(life: Life, days: int | None = None) -> Iterator[list[Step]]:
    """What a shopper does on each visit by themselves; those without a step are left out. Endless without `days`."""
    day = 0
    while days is None or day < days:
        for visit in life.visits(day):
            steps: list[Step] = []
            while visit.next_page() is not None:
                steps += visit.steps()
            if steps:
                yield steps
        day += 1


def _quickly(steps: list[Step], start_ms: int, rng: Random) -> list[Step]:
    made, now = [], start_ms
    for step in steps:
        made.append(step._replace(time_ms=now))
        now += STEP_MS[0] + int(rng.random() * (STEP_MS[1] - STEP_MS[0]))
    return made
