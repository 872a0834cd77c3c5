"""How much more a query is searched of late than over all the days that a model learned from.

A decoder's weights hold the mean of its training days, and what is searched moves by the day. Where what a moment says of a query does not
depend on the day, Bayes's rule corrects the one by the other: P(q | moment, now) ~ P(q | moment, then) x P(q now) / P(q then)
(prior shift; Saerens, Latinne and Decaestecker 2002, eq. 2.4). P(q now) is a mixture of the shares over all days and of late; how fast days
count less, and how much of the mixture is of late, are those that foretold the log's own last days best.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

from training.log import Log

DAY_MS = 86_400_000
FORETOLD = 7
"""Last days of the log, each foretold from the days before it."""


class Late(NamedTuple):
    """P(now) = (1 - mixed) x share over all days + mixed x share where a day counts half of the one `half_life_days` later."""

    half_life_days: float
    mixed: float

    def share(self, counts: np.ndarray) -> np.ndarray:
        """counts: days x queries, oldest first; the last day ends now."""
        age = np.arange(len(counts))[::-1]
        late = (counts * 0.5 ** (age / self.half_life_days)[:, None]).sum(axis=0)
        return (1 - self.mixed) * _normed(counts.sum(axis=0)) + self.mixed * _normed(late)


TRIED = tuple(Late(*each) for each in product((0.5, 1.0, 2.0, 4.0), (0.0, 0.3, 0.5, 0.7, 0.85)))


def late_gain(log: Log) -> dict[str, float]:
    """Query -> log P(now) / P(over all days); a query that nobody searched by themselves has none."""
    own = log.is_search & log.by_themselves
    if not own.any():
        return {}
    met, text = np.unique(log.text[own], return_inverse=True)
    # Days end where the log ends.
    age = (log.time_ms[-1] - log.time_ms[own]) // DAY_MS
    counts = np.zeros((int(age.max()) + 1, len(met)))
    np.add.at(counts, (age.max() - age, text), 1)
    gain = np.log(_best(counts).share(counts) / _normed(counts.sum(axis=0)))
    return dict(zip((log.texts[i] for i in met), gain.tolist(), strict=True))


def _best(counts: np.ndarray) -> Late:
    """By the likelihood of searches of queries that were met before; where no day can be foretold, the first tried."""

    def foretold(late: Late) -> float:
        total = 0.0
        for day in range(max(1, len(counts) - FORETOLD), len(counts)):
            share = late.share(counts[:day])
            known = share > 0
            total += float(counts[day][known] @ np.log(share[known]))
        return total

    return max(TRIED, key=foretold)


def _normed(counts: np.ndarray) -> np.ndarray:
    return counts / max(counts.sum(), 1e-9)
