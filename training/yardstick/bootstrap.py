"""95 % intervals by the paired bootstrap over shoppers: each resample draws as many shoppers as there are, each with all of
their cases, and every contender is read on the same resamples, so that a difference has its own, narrower interval.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

DRAWS = 1_000
CHUNK = 250


class Estimate(NamedTuple):
    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        return not np.isnan(self.value)


@dataclass(frozen=True)
class Means:
    """Means of some columns, and the same on every resample."""

    value: np.ndarray
    """(columns,)."""
    drawn: np.ndarray
    """(draws, columns)."""

    def estimate(self, column: int) -> Estimate:
        return estimate(float(self.value[column]), self.drawn[:, column])

    def difference(self, column: int, other: "Means", of: int) -> Estimate:
        """This column minus that one, on the same resamples."""
        return estimate(float(self.value[column] - other.value[of]), self.drawn[:, column] - other.drawn[:, of])


class Resamples:
    """The same resamples of shoppers for everything that is read on the same cases."""

    def __init__(self, shopper: np.ndarray, draws: int = DRAWS, seed: int = 0):
        """`shopper`: (n,) number of each case's shopper, 0 .. shoppers - 1."""
        self.shoppers = int(shopper.max()) + 1 if len(shopper) else 0
        self._of_shopper = csr_matrix(
            (np.ones(len(shopper), np.float32), (shopper, np.arange(len(shopper)))), shape=(self.shoppers, len(shopper))
        )
        rng = np.random.default_rng(seed)
        self._times = np.empty((draws, self.shoppers), np.float32)
        """How often each shopper is in each resample."""
        for draw in range(draws):
            self._times[draw] = np.bincount(rng.integers(self.shoppers, size=self.shoppers), minlength=self.shoppers)

    def means(self, values: np.ndarray) -> Means:
        """Of each column of (n, columns), over the cases where it is not NaN. NaN where there is none."""
        there = ~np.isnan(values)
        sums = self._of_shopper @ np.where(there, values, 0).astype(np.float32)
        counts = self._of_shopper @ there.astype(np.float32)
        drawn = np.empty((len(self._times), values.shape[1]))
        with np.errstate(invalid="ignore", divide="ignore"):
            for start in range(0, len(self._times), CHUNK):
                times = self._times[start : start + CHUNK]
                drawn[start : start + CHUNK] = (times @ sums) / (times @ counts)
            whole = np.where(there, values, 0).sum(axis=0) / there.sum(axis=0)
        return Means(whole, drawn)


def estimate(value: float, drawn: np.ndarray) -> Estimate:
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(drawn):
        return Estimate(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def over_draws(estimates: list[Estimate]) -> Estimate:
    """One figure of several draws of a market: their mean, with an interval that holds both kinds of chance, shoppers within a draw
    (their intervals) and markets among draws (their spread); the wider of the two."""
    values = np.array([each.value for each in estimates])
    errors = np.array([(each.high - each.low) / (2 * 1.96) for each in estimates])
    n = len(values)
    within = math.sqrt((errors**2).sum()) / n
    among = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    half = max(1.96 * within, STUDENT.get(n - 1, 1.96) * among)
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half)


STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
"""97.5 % of Student's t: three draws tell little of a spread."""
