"""Paired comparison: the systems run in turn, round by round, so that a drifting machine favours none of them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    def rounded(self) -> dict[str, float]:
        return {"value": round(self.value, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Geometric mean of the rounds' ratios ours/theirs, with Student's interval over the rounds' logarithms."""
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    mean = mean_interval(logs)
    return Interval(math.exp(mean.value), math.exp(mean.low), math.exp(mean.high))


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean with Student's interval; one value alone has an infinite one."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, -math.inf, math.inf)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def in_turn(names: Sequence[str], round_number: int) -> list[str]:
    """The systems of a round, each round beginning with another: no place in the order is always the same one's."""
    at = round_number % len(names)
    return [*names[at:], *names[:at]]
