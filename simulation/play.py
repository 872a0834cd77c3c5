"""Plays some of a market's shoppers, day by day: they open pages, are shown hints, click or not, and do what their law says.

The three know different things. The ranker gets a shopper's `History`, which holds what was logged; the click law gets the true appeal;
the law is told only which hint was clicked.
"""

from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random

import msgspec
import numpy as np

from inference.output import normalise
from schemas import BehaviourEvent, Exposure
from simulation.click_law import Clicker
from simulation.law import DAY_MS, Law, Life, Step, Visit
from simulation.logging_ranker import FEATURES, History, LoggingRanker, Page, ShopStatistics

HINT = "/hint"
"""Ends the id of a search that a clicked hint began; before it stands the exposure's id."""
FOLLOWS_WITHIN_MS = 60_000
CEILING_DAYS = 2
CEILING_QUERIES = 30
OTHERS = 4
"""Candidates that were not searched, beside each that was, among a search's examples."""
normal = lru_cache(200_000)(normalise)


class Did(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A behaviour event, with what no event says."""

    time_ms: int
    shopper: int
    number: int
    """Of this shopper's records, in the order in which they came about."""
    event: BehaviourEvent
    bought: bool = False

    @property
    def by_themselves(self) -> bool:
        return not self.event.id.endswith(HINT)


class Saw(msgspec.Struct, frozen=True, array_like=True):
    """A page, with what only judges are told."""

    time_ms: int
    shopper: int
    number: int
    exposure: Exposure
    appeal: tuple[float, ...]
    """Of each hint."""
    probabilities: tuple[float, ...]
    """Of a click on each hint."""
    likeliest: tuple[tuple[str, float], ...] = ()
    """The law's own best for the next search, normalised; on the last days only."""


class PlayedDay(msgspec.Struct):
    """What some shoppers did on visits of one day. Visits over midnight reach into the next."""

    did: list[Did]
    saw: list[Saw]
    examples: list[tuple[int, int, bytes]]
    """(shopper, number of the page's record, rows as float32): what the ranker may learn from this day."""


def rows_of(examples: Sequence[tuple[int, int, bytes]]) -> np.ndarray:
    """The ranker's examples as one array, in an order that does not depend on who played which shopper."""
    joined = b"".join(rows for _, _, rows in sorted(examples))
    return np.frombuffer(joined, np.float32).reshape(-1, len(FEATURES) + 1)


class Shoppers:
    """Some shoppers of a market. What they do does not depend on which others are in the same object."""

    def __init__(self, law: Law, seed: int, numbers: Sequence[int], start_ms: int, days: int):
        self._start_ms, self._end_ms = start_ms, start_ms + days * DAY_MS
        self._shoppers = [_Shopper(law.life(number), number, seed) for number in numbers]

    def play(self, day: int, statistics: ShopStatistics) -> PlayedDay:
        """Days are played in order. statistics: of the days before."""
        played = PlayedDay([], [], [])
        ends_ms = self._start_ms + (day + 1) * DAY_MS
        ranker = LoggingRanker(statistics)
        for shopper in self._shoppers:
            shopper.play(day, ranker, played, ends_ms, self._end_ms - CEILING_DAYS * DAY_MS)
        return played


class _Shopper:
    __slots__ = ("_clicker", "_dice", "_history", "_life", "_next", "_number", "_ranker_dice")

    def __init__(self, life: Life, number: int, seed: int):
        self._life, self._number, self._next = life, number, 0
        self._history = History()
        self._clicker = Clicker(Random(f"{seed} clicks {number}"))
        self._ranker_dice = Random(f"{seed} ranker {number}")
        self._dice = Random(f"{seed} examples {number}")

    def play(self, day: int, ranker: LoggingRanker, played: PlayedDay, ends_ms: int, ceiling_from_ms: int) -> None:
        for visit in self._life.visits(day):
            now_ms = 0
            while (at_ms := visit.next_page()) is not None:
                self._in_order(now_ms, at_ms)
                now_ms = self._page(visit, at_ms, ranker, played, ends_ms, at_ms >= ceiling_from_ms)

    def _page(
        self, visit: Visit, at_ms: int, ranker: LoggingRanker, played: PlayedDay, ends_ms: int, judged: bool
    ) -> int:
        """One page and what follows it. Returns the time of its last step."""
        page = ranker.page(self._history, at_ms, self._ranker_dice)
        appeal = tuple(visit.appeal(hint) for hint in page.hints)
        decision = self._clicker.decide(page.hints, appeal)
        number, clicked = self._taken(), decision.clicked
        exposure = Exposure(
            id=f"{self._life.user}-x{number}",
            user=self._life.user,
            time_ms=at_ms,
            hints=page.hints,
            clicked=() if clicked is None else (clicked,),
            ranked=page.ranked,
            scores=page.scores,
            propensities=page.propensities,
        )
        likeliest = _likeliest(visit) if judged else ()
        played.saw.append(Saw(at_ms, self._number, number, exposure, appeal, decision.probabilities, likeliest))
        examples = [ranker.example(page, hint, place, place == clicked) for place, hint in enumerate(page.hints)]
        self._history.add_page(page.hints, clicked)
        last_ms, asked = at_ms, clicked is not None
        steps = visit.steps() if clicked is None else self._followed(visit, page.hints[clicked], at_ms)
        for position, step in enumerate(steps):
            self._in_order(last_ms, step.time_ms)
            last_ms = step.time_ms
            if step.query and not asked:  # the first search after a page tells what was wanted there
                asked = True
                if step.time_ms < ends_ms:
                    examples += self._of_search(ranker, page, normal(step.query))
            of_hint = clicked is not None and position == 0
            self._do(step, exposure.id + HINT if of_hint else "", played)
        if at_ms < ends_ms:
            flat = array("f", [value for row in examples for value in row])
            played.examples.append((self._number, number, flat.tobytes()))
        return last_ms

    def _followed(self, visit: Visit, hint: str, at_ms: int) -> Iterator[Step]:
        steps = visit.follow(hint)
        first = next(steps, None)
        if first is None or normal(first.query) != hint or not at_ms < first.time_ms <= at_ms + FOLLOWS_WITHIN_MS:
            raise ValueError(
                f"{self._life.user}: a click on {hint!r} at {at_ms} must be followed within 60 s by its search, not {first}"
            )
        yield first
        yield from steps
        yield from visit.steps()

    def _of_search(self, ranker: LoggingRanker, page: Page, query: str) -> list[tuple[float, ...]]:
        if query not in page.features:
            return []
        others = [each for each in page.ranked if each != query]
        some = [others[int(self._dice.random() * len(others))] for _ in range(OTHERS if others else 0)]
        return [ranker.example(page, query, None, True), *(ranker.example(page, each, None, False) for each in some)]

    def _do(self, step: Step, id: str, played: PlayedDay) -> None:
        life, item, number = self._life, step.item, self._taken()
        if bool(step.query) == (item is not None):
            raise ValueError(f"{life.user}: a step is a search or a click, not {step}")
        if item is None:
            self._history.add_search(step.time_ms, normal(step.query))
        else:
            self._history.add_click(item.category)
        event = BehaviourEvent(
            id or f"{life.user}-{number}",
            life.user,
            "click" if item else "search",
            step.time_ms,
            step.query,
            item,
            step.time_ms,
            life.profile,
        )
        played.did.append(Did(step.time_ms, self._number, number, event, step.bought))

    def _in_order(self, before_ms: int, now_ms: int) -> None:
        if now_ms < before_ms:
            raise ValueError(f"{self._life.user} goes back in time, from {before_ms} to {now_ms}: the law must not")

    def _taken(self) -> int:
        self._next += 1
        return self._next - 1


def _likeliest(visit: Visit) -> tuple[tuple[str, float], ...]:
    found: dict[str, float] = {}
    for query, probability in visit.likeliest(CEILING_QUERIES):
        found[normal(query)] = found.get(normal(query), 0.0) + probability
    return tuple(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
