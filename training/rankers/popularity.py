"""What everybody searches: the same list for all shoppers, and the filling of every other contender's list."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from training.log import Log
from training.rankers.newest import ByShopper, Newest
from training.rankers.scores import Scores, Window
from training.rankers.tuned import WINDOWS, TunedRanker


@dataclass(frozen=True)
class Nothing:
    """Finds nothing, so that popularity is all there is."""

    settings = (None,)

    def learn(self, log: Log, by_shopper: ByShopper, memory: Window) -> bool:
        return True

    def scores(self, learned: bool, moments: Newest, setting: None, texts: int) -> Scores:
        return Scores(csr_matrix((len(moments), texts)), np.ones(len(moments)))


def popularity(name: str, days: float | None) -> TunedRanker:
    """Of the last `days`, None for the whole log."""
    return TunedRanker(name, Nothing(), (Window(days),), (Window(),))


def popularity_tuned(name: str) -> TunedRanker:
    """With the window or half-life that did best on the log's last days."""
    return TunedRanker(name, Nothing(), WINDOWS, (Window(),))
