"""Whether a shopper clicks a hint: examination of its place x appeal (the law's) x fatigue x attention to the page.

A shopper looks from the first hint down and clicks at most one (a cascade): the hint at place k is clicked where none above it was.
Attention is the page's own, drawn anew each time, and in no log: the best click model stays wrong about it.
"""

from collections import deque
from random import Random
from typing import NamedTuple

EXAMINATION = (0.8, 0.56, 0.4)
"""Chance that the hint at this place is looked at, where the page is. First against third: two to one, as in logs of short lists."""
ATTENTION = ((0.4, 0.15), (0.8, 0.75), (1.0, 1.0))
"""(chance of at most, attention): on two pages in five shoppers know what they will type and hardly look."""
FATIGUE = 0.75
"""Of each time that the hint was shown lately and not clicked."""
PAGES = 8
"""Of these pages a shopper remembers the hints."""


class Decision(NamedTuple):
    clicked: int | None
    """Place, 0 is the first."""
    probabilities: tuple[float, ...]
    """Of a click on each hint, before the dice fell; they sum to at most 1."""


class Clicker:
    """One shopper's memory of hints. Draws from a stream of its own: what is shown moves nothing else in the shopper's life."""

    def __init__(self, rng: Random):
        self._rng = rng
        self._remembered: deque[tuple[str, ...]] = deque(maxlen=PAGES)

    def decide(self, hints: tuple[str, ...], appeals: tuple[float, ...]) -> Decision:
        row = self._rng.random()
        attention = next(value for most, value in ATTENTION if row < most)
        probabilities: list[float] = []
        nothing_yet = 1.0
        for hint, appeal, examination in zip(hints, appeals, EXAMINATION, strict=False):
            seen = sum(hint in page for page in self._remembered)
            chance = attention * examination * appeal * FATIGUE**seen
            probabilities.append(nothing_yet * chance)
            nothing_yet *= 1 - chance
        clicked = self._drawn(probabilities)
        self._remember(hints, clicked)
        return Decision(clicked, tuple(probabilities))

    def _drawn(self, probabilities: list[float]) -> int | None:
        row = self._rng.random()
        for place, probability in enumerate(probabilities):
            row -= probability
            if row < 0:
                return place
        return None

    def _remember(self, hints: tuple[str, ...], clicked: int | None) -> None:
        if clicked is not None:  # it was of use: nobody is tired of it
            taken = hints[clicked]
            pages = [tuple(hint for hint in page if hint != taken) for page in self._remembered]
            self._remembered = deque(pages, maxlen=PAGES)
            hints = tuple(hint for hint in hints if hint != taken)
        self._remembered.append(hints)
