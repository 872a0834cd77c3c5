"""The blend for a log that is judged day by day: the same candidates and features as `training.rankers.blend`, learned from the past as it was.

That blend learns from the log's last days, for which its sources are fitted on what came before: statistics that are days old, and few
moments of shoppers who came back. Here every past day teaches what its candidates were when it began, with the statistics of that day. So
nothing is fitted twice, training and use have the same age, and no candidate knows what came later.

A model that was trained until some day has read the searches before it, so what it would have written there teaches nothing: its column is
empty for these days, and the trees learn its worth from the days after.
"""

from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import lightgbm
import numpy as np

from training.log import Case, Ranker, hidden
from training.rankers.blend import PARAMETERS
from training.rankers.features import feature_names, pairs_of
from training.rankers.statistics import Statistics
from training.yardstick.written import WrittenLists

FEWEST_MOMENTS = 50
"""With fewer moments that some candidate hit there are no trees: reciprocal rank fusion ranks."""
ROUNDS, PATIENCE = 600, 50
HELD_OUT = 5
"""One shopper in so many tells when to stop."""
PARAMETERS_OF_ONE_CORE = {**PARAMETERS, "num_threads": 1, "seed": 0}


class Offered:
    """Candidates of some cases with their features, as a day's begin knows them."""

    def __init__(self, cases: Sequence[Case], of_case: np.ndarray, queries: list[str], values: np.ndarray):
        """`of_case` rises; `values` float32 (pairs, features)."""
        self.cases, self.of_case, self.queries, self.values = cases, of_case, queries, values

    def ranked(self, scores: np.ndarray, count: int) -> list[tuple[str, ...]]:
        order = np.lexsort((np.arange(len(scores)), -scores, self.of_case))
        bounds = np.searchsorted(self.of_case, np.arange(len(self.cases) + 1))
        return [tuple(self.queries[j] for j in order[begin:end][:count]) for begin, end in pairwise(bounds)]


class DailyBlend:
    """Each day: `begin_day`, then `offer` cases and rank them, then `learn` from them. `train` when wanted."""

    def __init__(self, name: str, sources: Sequence[Ranker], model: WrittenLists | None = None):
        """`sources` are fitted by whoever goes through the days."""
        self.name = name
        self._sources = [*sources, *([model] if model else [])]
        self._model = model
        names = feature_names(self._sources)
        self._fused, self._count = names.index("fused"), names.index("sources")
        self._place = names.index(f"place by {model.name}") if model else 0
        self._learned: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        """Of each day: values, labels, moments (numbers), whether the shopper is held out."""
        self._moments = 0
        self.trees: lightgbm.Booster | None = None

    def begin_day(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def offer(self, cases: Sequence[Case]) -> Offered:
        pairs = pairs_of(self._statistics, self._sources, [hidden(case) for case in cases])
        values = pairs.values
        if self._model:
            # The features over all sources are those of the blend without the model; it has a column of its own.
            place = values[:, self._place]
            values[:, self._count] -= place > 0
            values[:, self._fused] -= place / (1 + 10 * place)
            written = np.array([self._model.has(case) for case in cases], dtype=bool)
            place[~written[pairs.of_case]] = np.nan
        return Offered(cases, pairs.of_case, pairs.queries, values)

    def rank(self, offered: Offered, count: int) -> list[tuple[str, ...]]:
        if not len(offered.values):
            return [() for _ in offered.cases]
        if self.trees is None:
            return offered.ranked(offered.values[:, self._fused], count)
        return offered.ranked(np.asarray(self.trees.predict(offered.values, num_threads=1)), count)

    def learn(self, offered: Offered) -> None:
        """Keeps what the cases' searches taught. Moments of which no candidate was searched teach nothing."""
        cases = offered.cases
        label = np.array(
            [cases[i].next == q for i, q in zip(offered.of_case, offered.queries, strict=True)], dtype=bool
        )
        hit = np.bincount(offered.of_case, label, len(cases)) > 0
        kept = hit[offered.of_case]
        held = np.array([_held_out(case.user) for case in cases], dtype=bool)
        of_case = offered.of_case[kept] + self._moments
        self._learned.append((offered.values[kept], label[kept], of_case, held[offered.of_case[kept]]))
        self._moments += len(cases)

    def train(self) -> None:
        """New trees from all that was learned so far."""
        values, labels, of_case, held = (np.concatenate(column) for column in zip(*self._learned, strict=True))
        moments = [len(np.unique(of_case[which])) for which in (~held, held)]
        if min(moments) < FEWEST_MOMENTS // HELD_OUT or sum(moments) < FEWEST_MOMENTS:
            return
        names = [f"f{i}" for i in range(values.shape[1])]
        learns, stops = (
            lightgbm.Dataset(
                values[which],
                labels[which].astype(int),
                group=np.unique(of_case[which], return_counts=True)[1],
                feature_name=names,
                params=PARAMETERS_OF_ONE_CORE,
            )
            for which in (~held, held)
        )
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        self.trees = lightgbm.train(PARAMETERS_OF_ONE_CORE, learns, ROUNDS, valid_sets=[stops], callbacks=[stop])


def _held_out(user: str) -> bool:
    return crc32(user.encode()) % HELD_OUT == 0
