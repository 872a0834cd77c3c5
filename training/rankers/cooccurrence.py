"""What goes together: queries that came soon after an item (or anything of a category) was clicked or a query was searched, over all of a shopper's newest behaviours.

The shares behind each behaviour are averaged, newer ones weighing more; a behaviour that few followed is drawn to popularity.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from training.log import Log
from training.rankers.bigrams import Level
from training.rankers.newest import SESSION_GAP_MS, ByShopper, Newest, newest_in_log
from training.rankers.repeats import RepeatRates
from training.rankers.scores import Following, Scores, Window, widened

WINDOW = 10
"""Behaviours before a search that it goes together with."""
Kinds = Literal["items", "queries", "categories"]


class Setting(NamedTuple):
    decay: float
    """Weight of a behaviour against the one after it."""
    distrust: float
    """Followers that popularity stands for."""
    repeats: float


@dataclass(frozen=True)
class Learned:
    following: Following
    contexts: int
    repeats: RepeatRates


@dataclass(frozen=True)
class Cooccurrence:
    kinds: Kinds
    level: Level
    settings = tuple(
        Setting(decay, distrust, repeats)
        for decay in (0.7, 0.4, 0.9)
        for distrust in (3.0, 20.0, 100.0, 300.0)
        for repeats in (1.0, 0.0)
    )

    def learn(self, log: Log, by_shopper: ByShopper, memory: Window) -> Learned:
        places, texts = np.flatnonzero(by_shopper.by_themselves), len(log.texts)
        moments = newest_in_log(by_shopper, places, most=WINDOW)
        contexts = len(log.categories) if self.kinds == "categories" else texts
        rows, columns = np.nonzero(self._used(moments, contexts))
        weight = memory.weights(by_shopper.time_ms[places], int(log.time_ms[-1]))[rows]
        context = self._contexts(moments)[rows, columns]
        following = Following.of(context, by_shopper.text[places][rows], contexts, texts, weight)
        return Learned(following, contexts, RepeatRates.of(by_shopper, texts))

    def scores(self, learned: Learned, moments: Newest, setting: Setting, texts: int) -> Scores:
        used, following = self._used(moments, learned.contexts), learned.following
        context = np.where(used, self._contexts(moments), 0)
        used &= following.seen[context] > 0
        weight = used * setting.decay ** np.cumsum(used, axis=1)
        weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
        trusted = weight * following.seen[context] / (following.seen[context] + setting.distrust)
        rows, columns = np.nonzero(used)
        contexts = csr_matrix(
            (trusted[rows, columns], (rows, context[rows, columns])), shape=(len(moments), learned.contexts)
        )
        found = widened(csr_matrix(contexts @ following.share), texts)
        return Scores(found, 1 - trusted.sum(axis=1)).plus(learned.repeats.scores(moments, texts), setting.repeats)

    def _contexts(self, moments: Newest) -> np.ndarray:
        return (moments.categories if self.kinds == "categories" else moments.texts)[:, :WINDOW]

    def _used(self, moments: Newest, contexts: int) -> np.ndarray:
        """Which of the newest behaviours count: of the right kind, known to the log, of this session where only that counts."""
        found = self._contexts(moments)
        of_kind = moments.is_search[:, :WINDOW] == (self.kinds == "queries")
        used = (found >= 0) & (found < contexts) & of_kind
        if self.level == "user":
            return used
        time_ms = moments.time_ms[:, :WINDOW]
        gaps = np.concatenate([moments.as_of_ms[:, None], time_ms[:, :-1]], axis=1) - time_ms
        return used & np.logical_and.accumulate(gaps < SESSION_GAP_MS, axis=1)
