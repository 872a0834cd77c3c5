"""What follows: after the last two queries, backed off to the last one, to the category last clicked, to popularity.

Each step is interpolated with the next by Witten and Bell's rule: a context with many followers of which few are new is trusted,
one with as many new followers as followers is not.

`SESSION` bigrams know contexts of the session alone (30 minutes). `USER` bigrams know older ones too, counted apart, because
what follows within minutes is a refinement and what follows a day later is another wish.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from training.log import Log
from training.rankers.newest import NONE, SESSION_GAP_MS, ByShopper, Newest, newest_in_log
from training.rankers.repeats import RepeatRates
from training.rankers.scores import Following, Scores, Window

Level = Literal["session", "user"]


class Setting(NamedTuple):
    distrust: float
    """Times Witten-Bell's count of distinct followers."""
    repeats: float
    """What an own query's probability to come again adds."""


@dataclass(frozen=True)
class Learned:
    steps: tuple[Following, ...]
    """From the narrowest context to the widest."""
    pairs: np.ndarray
    """Keys of the two-query contexts, ascending; a context's number is its place."""
    texts: int
    repeats: RepeatRates


@dataclass(frozen=True)
class Bigrams:
    level: Level
    settings = tuple(
        Setting(distrust, repeats) for distrust in (1.0, 0.3, 3.0, 10.0, 30.0) for repeats in (1.0, 0.0, 0.3)
    )

    def learn(self, log: Log, by_shopper: ByShopper, memory: Window) -> Learned:
        places, texts = np.flatnonzero(by_shopper.by_themselves), len(log.texts)
        moments = newest_in_log(by_shopper, places, most=4)
        followed = by_shopper.text[places]
        weight = memory.weights(by_shopper.time_ms[places], int(log.time_ms[-1]))
        keys = self._pair_keys(moments, texts)
        pairs = np.unique(keys[keys >= 0])
        last, category = self._last(moments, texts), self._category(moments)
        narrow = _numbers(keys, pairs)
        steps = tuple(
            Following.of(context[context >= 0], followed[context >= 0], size, texts, weight[context >= 0])
            for context, size in ((narrow, len(pairs)), (last, 2 * texts), (category, 3 * len(log.categories)))
            if size
        )
        return Learned(steps, pairs, texts, RepeatRates.of(by_shopper, texts))

    def scores(self, learned: Learned, moments: Newest, setting: Setting, texts: int) -> Scores:
        keys = self._pair_keys(moments, learned.texts)
        contexts = [self._last(moments, learned.texts), self._category(moments)]
        if len(learned.pairs):
            contexts.insert(0, _numbers(keys, learned.pairs))
        found, rest = None, np.ones(len(moments))
        for step, context in zip(learned.steps, contexts, strict=True):
            known = step.known(context)
            at = np.where(known, context, 0)
            trust = np.where(known, step.seen[at] / (step.seen[at] + setting.distrust * step.distinct[at] + 1e-9), 0.0)
            part = step.after(context, rest * trust, texts)
            found = part if found is None else found + part
            rest = rest * (1 - trust)
        assert found is not None
        return Scores(found, rest).plus(learned.repeats.scores(moments, texts), setting.repeats)

    def _last(self, moments: Newest, texts: int) -> np.ndarray:
        """The newest search's text and whether it is of this session, in one number."""
        text, now = moments.searches[:, 0].astype(np.int64), self._now(moments)
        known = (text >= 0) & (text < texts) & (now | (self.level == "user"))
        return np.where(known, 2 * text + now, NONE)

    def _pair_keys(self, moments: Newest, texts: int) -> np.ndarray:
        before, last = moments.searches[:, 1].astype(np.int64), self._last(moments, texts)
        close = moments.searched_ms[:, 0] - moments.searched_ms[:, 1] < SESSION_GAP_MS
        known = (last >= 0) & (before >= 0) & (before < texts) & (close | (self.level == "user"))
        return np.where(known, (last * texts + before) * 2 + close, NONE)

    def _category(self, moments: Newest) -> np.ndarray:
        """The category clicked last, and how long ago: this session, these days, earlier."""
        age = np.digitize(moments.as_of_ms - moments.category_ms, [SESSION_GAP_MS, 2 * 86_400_000])
        known = (moments.category >= 0) & ((age == 0) | (self.level == "user"))
        return np.where(known, moments.category.astype(np.int64) * 3 + age, NONE)

    def _now(self, moments: Newest) -> np.ndarray:
        return moments.as_of_ms - moments.searched_ms[:, 0] < SESSION_GAP_MS


def _numbers(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Place of each key among the known ones, NONE where it is not."""
    if not len(known):
        return np.full(len(keys), NONE)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[at] == keys, at, NONE)
