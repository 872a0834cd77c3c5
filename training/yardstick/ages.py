"""Hits against the age of what was learned: the same cases, with statistics that ended one day ago, or seven.

Age 0 is what a shop has that counts anew every night: each test day is judged with everything before that day.
"""

from collections.abc import Sequence

import numpy as np

from training.log import Case, Log
from training.rankers import contenders
from training.yardstick.lists import asked

DAY_MS = 86_400_000
AGES_DAYS = (0, 1, 3, 7, 14)
AGED = ("popularity-7d", "user-bigrams")
"""Statistics of a fixed window, which lose by age alone, and statistics of everything, which also lose by having less."""


def hits_by_age(log: Log, cases: Sequence[Case], names: Sequence[str] = AGED, ages: Sequence[int] = AGES_DAYS) -> dict[tuple[str, int], np.ndarray]:  # fmt: skip
    """(contender, age in days) -> whether the next search is among the first ten, case by case. `log` is whole: each fit sees
    only what is old enough. An age that would leave no log is left out."""
    days = np.array([case.as_of_ms - case.as_of_ms % DAY_MS for case in cases])
    hits: dict[tuple[str, int], np.ndarray] = {}
    for name in names:
        for age in ages:
            made = np.zeros(len(cases))
            for day_ms in np.unique(days):
                known = log.before(int(day_ms) - age * DAY_MS)
                if not len(known):
                    break
                (ranker,) = contenders([name])
                ranker.fit(known)
                rows = np.flatnonzero(days == day_ms)
                lists = asked(ranker, [cases[i] for i in rows], 10)
                made[rows] = [cases[i].next in each for i, each in zip(rows, lists, strict=True)]
            else:
                hits[name, age] = made
    return hits
