"""A rule as a contender: fitted on a log, its setting chosen on the log's own last days, every list filled with popularity.

The chosen setting is the one with the best HR@10 on the log's last two days, for which the rule is fitted on the days before; then
it is fitted on the whole log. Test days are never seen: a contender gets nothing later than its log.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, Protocol

import numpy as np

from training.log import Case, Log
from training.rankers.fitted import once
from training.rankers.newest import ByShopper, Newest, newest_in_cases, newest_in_log
from training.rankers.scores import DAY_MS, Scores, Window, best, shares

VALIDATION_MS = 2 * DAY_MS
"""As long as the test."""
MOST_MOMENTS = 4_000
FEWEST_MOMENTS = 100
"""With fewer there is nothing to choose by: the first setting, and the first window of popularity, are taken."""
WINDOWS = (
    Window(7),
    Window(),
    Window(3),
    Window(1),
    *(Window(half_life_days=days) for days in (0.25, 0.5, 1, 2, 4, 8)),
)
"""Of popularity."""
MEMORIES = (Window(), Window(half_life_days=7))
"""Of what a rule learns."""
CHUNK = 2_000


class Rule(Protocol):
    @property
    def settings(self) -> Sequence[Any]:
        """What is tuned; the first one is taken where a log is too short to tune."""
        ...

    def learn(self, log: Log, by_shopper: ByShopper, memory: Window) -> Any: ...

    def scores(self, learned: Any, moments: Newest, setting: Any, texts: int) -> Scores: ...


class TunedRanker:
    """`Ranker` by a rule. `windows` are what popularity may be counted over; `memories` what the rule may learn from."""

    def __init__(
        self, name: str, rule: Rule, windows: Sequence[Window] = WINDOWS, memories: Sequence[Window] = MEMORIES
    ):
        self.name = name
        self.setting: Any = rule.settings[0]
        self.window, self.memory = windows[0], memories[0]
        self._rule, self._windows, self._memories = rule, windows, memories
        self._learned: Any = None

    @once
    def fit(self, log: Log) -> None:
        self._tune(log)
        self._learn(log)

    def recount(self, log: Log) -> None:
        """`fit` in a tenth of the time, for statistics that are rebuilt daily: what the rule learns from and its setting stay as they are."""
        self.fitted_on = None  # the next fit is one
        if (split := self._last_days(log)) is not None:
            self._choose_window(log, *split)
        self._learn(log)

    def _learn(self, log: Log) -> None:
        by_shopper = ByShopper.of(log)
        self._popularity = shares(by_shopper, len(log.texts), self.window)
        self._learned = self._rule.learn(log, by_shopper, self.memory)
        self._texts, self._categories = log.texts, log.categories
        self._numbers = {text: i for i, text in enumerate(log.texts)}

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        if self._learned is None:
            raise RuntimeError(f"{self.name} ranks before it was fitted; call fit(log) first")
        made: list[tuple[str, ...]] = []
        for start in range(0, len(cases), CHUNK):
            numbers = dict(self._numbers)
            moments = newest_in_cases(cases[start : start + CHUNK], self._categories, numbers)
            texts = tuple(numbers)
            scores = self._rule.scores(self._learned, moments, self.setting, len(texts))
            made += [tuple(texts[i] for i in row) for row in best(scores, self._popularity, count)]
        return made

    def _tune(self, log: Log) -> None:
        if len(self._windows) * len(self._memories) * len(self._rule.settings) < 2:
            return
        if (split := self._last_days(log)) is None:
            return
        whole, earlier, places = split
        before, truth, moments = ByShopper.of(earlier), whole.text[places], newest_in_log(whole, places)
        popularities = self._choose_window(log, *split)
        learned = {memory: self._rule.learn(earlier, before, memory) for memory in self._memories}

        def hit_rate(tried: tuple[Window, Any]) -> float:
            scores = self._rule.scores(learned[tried[0]], moments, tried[1], len(log.texts))
            top = best(scores, popularities[self.window], 10)
            return float(np.mean([query in row for query, row in zip(truth, top, strict=True)]))

        self.memory, self.setting = max(product(self._memories, self._rule.settings), key=hit_rate)

    def _last_days(self, log: Log) -> tuple[ByShopper, Log, np.ndarray] | None:
        """The log, what was before its last days, and places of searches in those; None where there is too little."""
        if not len(log):
            return None
        from_ms = int(log.time_ms[-1]) + 1 - VALIDATION_MS
        whole, earlier = ByShopper.of(log), log.before(from_ms)
        places = some(np.flatnonzero(whole.by_themselves & (whole.time_ms >= from_ms)), MOST_MOMENTS)
        return None if min(len(places), len(earlier)) < FEWEST_MOMENTS else (whole, earlier, places)

    def _choose_window(self, log: Log, whole: ByShopper, earlier: Log, places: np.ndarray) -> dict[Window, np.ndarray]:
        """Sets the window that hits most of the last days' searches; returns every window's popularity."""
        truth, before = whole.text[places], ByShopper.of(earlier)
        found = {window: shares(before, len(log.texts), window) for window in self._windows}
        self.window = max(self._windows, key=lambda window: np.isin(truth, np.argsort(-found[window])[:10]).mean())
        return found

    def __str__(self) -> str:
        """What was chosen."""
        parts = [str(self.setting) if self.setting is not None else "", f"popularity of {self.window}"]
        learned = f"learned from {self.memory}" if len(self._memories) > 1 else ""
        return ", ".join(filter(None, [*parts, learned]))


def some(places: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of them, drawn evenly, the same ones each time."""
    if len(places) <= most:
        return places
    return np.sort(np.random.default_rng(0).choice(places, most, replace=False))
