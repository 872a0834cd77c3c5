"""The simulated market: shoppers who visit now and then for weeks (`events`), or all at once for a demo (`live`)."""

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from schemas import BehaviourEvent
from simulation.shopper import Search, Shopper, new_shopper

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

_PAUSES = (
    (0.15, HOUR_MS, 6 * HOUR_MS),
    (0.6, 14 * HOUR_MS, 2 * DAY_MS),
    (0.9, 2 * DAY_MS, 6 * DAY_MS),
    (1.0, 6 * DAY_MS, 15 * DAY_MS),
)
"""(chance of at most, shortest, longest) between two visits: back the same day, the next, that week, later. Uniform within a
row, because logarithms may differ in their last digit from one machine to another."""
_EVENTS_A_VISIT = 6


@dataclass(frozen=True)
class Market:
    """`seed` and `shoppers` fix everything: shopper n of a seed lives the same life on any machine."""

    seed: int
    shoppers: int = 1_000

    def events(self, start_ms: int, days: float) -> Iterator[BehaviourEvent]:
        """What all shoppers do in a span, by time. Lazy; memory grows with the number of shoppers (about 6 KB each)."""
        end_ms = start_ms + int(days * DAY_MS)
        lives = (self._life(n, start_ms, end_ms) for n in range(self.shoppers))
        return heapq.merge(*lives, key=lambda event: (event.time_ms, event.id))

    def bursts(self, start_ms: int, rate_per_s: float, seconds: float) -> Iterator[BehaviourEvent]:
        """Visits in quick motion, by time: seconds within a visit, and every other one is a shopper who comes back within the
        minute with another interest. About `rate_per_s` events a second once the first seconds are over."""
        rng = Random(f"{self.seed} bursts")
        end_ms = start_ms + int(seconds * SECOND_MS)
        visits: list[tuple[int, int, Iterator[BehaviourEvent]]] = []
        away: list[tuple[int, int, Shopper]] = []
        newcomers = iter(range(self.shoppers))
        arrival = start_ms
        visit = 0
        while arrival < end_ms:
            visit += 1
            back = away and away[0][0] <= arrival and rng.random() < 0.5
            number = next(newcomers, None) if not back else None
            if number is not None:
                shopper = self._shopper(number)
            elif away:
                shopper = heapq.heappop(away)[2]
                shopper.change()
            else:
                raise ValueError(f"{self.shoppers} shoppers are too few for {rate_per_s} events/s; take more")
            behaviours = list(self._visit(shopper, arrival, SECOND_MS // 2, 2 * SECOND_MS))
            heapq.heappush(visits, (arrival, visit, iter(behaviours)))
            heapq.heappush(away, (behaviours[-1].time_ms + 15 * SECOND_MS, visit, shopper))
            arrival += int(2 * rng.random() * _EVENTS_A_VISIT * SECOND_MS / rate_per_s)
        merged = heapq.merge(*(events for _, _, events in visits), key=lambda event: (event.time_ms, event.id))
        return (event for event in merged if event.time_ms < end_ms)

    def live(self, rate_per_s: float, seconds: float) -> Iterator[BehaviourEvent]:
        """`bursts` from now on, each event handed out when its time has come."""
        for event in self.bursts(int(time.time() * 1000), rate_per_s, seconds):
            time.sleep(max(0.0, event.time_ms / 1000 - time.time()))
            yield event

    def _shopper(self, number: int) -> Shopper:
        return new_shopper(f"shopper-{self.seed}-{number:05d}", f"{self.seed} {number}")

    def _life(self, number: int, start_ms: int, end_ms: int) -> Iterator[BehaviourEvent]:
        shopper = self._shopper(number)
        now = start_ms + int(shopper.rng.random() * 8 * DAY_MS)
        turn = start_ms + int(shopper.rng.random() * (end_ms - start_ms))
        while now < end_ms:
            if turn and now >= turn:
                shopper.change()
                turn = 0
            for event in self._visit(shopper, now, 4 * SECOND_MS, 90 * SECOND_MS):
                now = event.time_ms
                if now < end_ms:
                    yield event
            row = shopper.rng.random()
            shortest, longest = next((low, high) for most, low, high in _PAUSES if row < most)
            now += shortest + int(shopper.rng.random() * (longest - shortest))

    def _visit(self, shopper: Shopper, start_ms: int, shortest_ms: int, longest_ms: int) -> Iterator[BehaviourEvent]:
        now = start_ms
        for step in shopper.session():
            id = f"{shopper.name}-{now}"
            if isinstance(step, Search):
                yield BehaviourEvent(id, shopper.name, "search", now, query=step.query, profile=shopper.profile)
            else:
                yield BehaviourEvent(id, shopper.name, "click", now, item=step.item, profile=shopper.profile)
            now += shortest_ms + int(shopper.rng.random() * (longest_ms - shortest_ms))
