"""Shoppers search again what they searched before: how often, by how long ago, how many searches ago, and how many times."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from training.log import Log
from training.rankers.newest import ByShopper, Newest, newest_in_log
from training.rankers.scores import Scores, Window, widened
from training.rankers.tuned import some

AGES_MS = np.array([5 * 60_000, 30 * 60_000, 12 * 3_600_000, 3 * 86_400_000, 10 * 86_400_000])
LAGS = np.array([1, 2, 3, 6, 11])
MOST_TIMES = 3
MOMENTS = 100_000
SMOOTHED_BY = 20
"""A cell's rate is drawn to the rate of all cells by this many imagined searches."""


@dataclass(frozen=True)
class RepeatRates:
    """Probability that a shopper's next search is an own earlier one."""

    rates: np.ndarray
    """(cells,)."""

    @staticmethod
    def of(by_shopper: ByShopper, texts: int) -> "RepeatRates":
        places = some(np.flatnonzero(by_shopper.by_themselves), MOMENTS)
        moments = newest_in_log(by_shopper, places)
        newest, cells = _cells(moments)
        again = newest & (moments.searches == by_shopper.text[places][:, None])
        size = _CELLS
        tried = np.bincount(cells[newest], minlength=size)
        hit = np.bincount(cells[again], minlength=size)
        overall = hit.sum() / max(1, tried.sum())
        return RepeatRates((hit + SMOOTHED_BY * overall) / (tried + SMOOTHED_BY))

    def scores(self, moments: Newest, texts: int) -> csr_matrix:
        newest, cells = _cells(moments)
        rows, columns = np.nonzero(newest)
        made = csr_matrix(
            (self.rates[cells[newest]], (rows, moments.searches[rows, columns])), shape=(len(moments), texts)
        )
        return widened(made, texts)


_CELLS = (len(AGES_MS) + 1) * (len(LAGS) + 1) * (MOST_TIMES + 1)


def _cells(moments: Newest) -> tuple[np.ndarray, np.ndarray]:
    """Where a search is the newest one of its text, and the cell of each."""
    searches = moments.searches
    newest, times = searches >= 0, np.ones(searches.shape, np.int64)
    for lag in range(searches.shape[1]):
        same = (searches[:, lag + 1 :] == searches[:, [lag]]) & (searches[:, [lag]] >= 0)
        newest[:, lag + 1 :] &= ~same
        times[:, lag] += same.sum(axis=1)
    ages = np.digitize(moments.as_of_ms[:, None] - moments.searched_ms, AGES_MS)
    lags = np.digitize(np.arange(1, searches.shape[1] + 1), LAGS)[None, :]
    return newest, (ages * (len(LAGS) + 1) + lags) * (MOST_TIMES + 1) + np.minimum(times, MOST_TIMES)


@dataclass(frozen=True)
class Repeats:
    """Own queries by their probability to come again, among what is popular."""

    settings = (1.0, 0.3, 3.0)
    """What a probability of an own query counts against a popularity."""

    def learn(self, log: Log, by_shopper: ByShopper, memory: Window) -> RepeatRates:
        return RepeatRates.of(by_shopper, len(log.texts))

    def scores(self, learned: RepeatRates, moments: Newest, setting: float, texts: int) -> Scores:
        return Scores(learned.scores(moments, texts) * setting, np.ones(len(moments)))
