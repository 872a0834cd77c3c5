"""Popularity, frozen against daily, on every search of a log: of shoppers without a history too, so a difference of a hundredth is seen.

All shoppers get the same list, so a case is a search and its list is the day's.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from training.log import Case, Log
from training.rankers import contenders
from training.rankers.moments import DAY_MS, compact
from training.yardstick.bootstrap import Estimate, Resamples

NAMES = ("popularity-7d", "popularity")
"""Of seven days, and with the window or half-life that did best on the two days before."""
PLACES = (10, 30)


class FrozenAndDaily(msgspec.Struct, frozen=True):
    """Of one popularity and one period."""

    model: str
    from_day: str
    """2011-10-10, UTC: the frozen one knows what was before it."""
    searches: int
    shoppers: int
    place: int
    """Hits among so many."""
    frozen: Estimate
    daily: Estimate
    gain: Estimate
    """Daily minus frozen, paired."""
    by_week: tuple[tuple[float, float], ...]
    """(frozen, daily) of each begun week."""


def frozen_and_daily(log: Log, from_ms: int, day: str, draws: int, names: Sequence[str] = NAMES) -> list[FrozenAndDaily]:  # fmt: skip
    """Every search by themselves from `from_ms` on, by lists of its day's begin and by lists of `from_ms`. `day` is its name."""
    rows = np.flatnonzero(log.is_search & log.by_themselves & (log.time_ms >= from_ms))
    if not len(rows):
        return []
    _, shopper = np.unique(log.user[rows], return_inverse=True)
    resamples = Resamples(shopper, draws)
    days = log.time_ms[rows] // DAY_MS * DAY_MS
    made = []
    for name in names:
        places = {"frozen": np.full(len(rows), np.inf), "daily": np.full(len(rows), np.inf)}
        frozen = _list(log, from_ms, name)
        for day_ms in np.unique(days):
            here = days == day_ms
            for age, ranked in (("frozen", frozen), ("daily", _list(log, int(day_ms), name))):
                at = {query: place for place, query in enumerate(ranked)}
                texts = (log.texts[text] for text in log.text[rows[here]])
                places[age][here] = [at.get(text, np.inf) for text in texts]
        week = (days - from_ms) // (7 * DAY_MS)
        for k in PLACES:
            hits = np.stack([places["frozen"] < k, places["daily"] < k], axis=1).astype(float)
            means = resamples.means(hits)
            made.append(
                FrozenAndDaily(
                    name,
                    day,
                    len(rows),
                    resamples.shoppers,
                    k,
                    means.estimate(0),
                    means.estimate(1),
                    means.difference(1, means, 0),
                    tuple((float(f), float(d)) for f, d in (hits[week == w].mean(axis=0) for w in np.unique(week))),
                )
            )
    return made


def _list(log: Log, before_ms: int, name: str) -> tuple[str, ...]:
    (ranker,) = contenders([name])
    ranker.fit(compact(log.before(before_ms)))
    return ranker.rank([Case("", before_ms, {}, (), "", ())], max(PLACES))[0]
