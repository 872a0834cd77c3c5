"""The best that can be had without a language model: LightGBM's LambdaMART over all sources' candidates.

It is fitted in two stages, so that it learns from nothing that it would not know: the sources and the statistics are fitted on
the log without its last days, their candidates for the moments of those days are the training samples, and what was searched next
is their label. Then sources and statistics are fitted on the whole log and the trees are kept.
"""

from collections.abc import Callable, Mapping, Sequence

import lightgbm
import numpy as np

from training.log import Case, Log, Ranker
from training.rankers.features import Pairs, feature_names, pairs_of
from training.rankers.moments import DAY_MS, cases, compact, moments
from training.rankers.statistics import Statistics

CHUNK = 400
"""Cases of which features are in memory at once, some 200 MB."""
PARAMETERS = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "ndcg_eval_at": [10],
    "lambdarank_truncation_level": 20,
    "label_gain": [0, 1],
    "learning_rate": 0.06,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.7,
    "lambda_l2": 5.0,
    "max_bin": 127,
    "num_threads": 1,  # two that wait for each other beside a busy core are many times slower than one
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


class Blend:
    def __init__(
        self,
        sources: Sequence[Ranker],
        early: Sequence[Ranker],
        profiles: Mapping[str, Mapping[str, str]] | None = None,
        name: str = "blend",
        learned_days: float = 3.0,
        most: int = 12_000,
        retrain_days: float = 7.0,
        min_shoppers: int = 2,
        seed: int = 0,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """`early` are other instances of the same sources, for the first stage, so that `sources` are fitted on whole logs alone and
        may stand beside the blend too; where a source is a model, its early one never saw the log's last `learned_days`.
        `profiles` by user, for the training moments, because a log has none. The trees learn from `most` moments of the log's last
        `learned_days`, and anew once a log has grown by `retrain_days`: statistics are fresh at every fit."""
        self.sources, self.early = list(sources), list(early)
        self.name = name
        self.profiles = profiles or {}
        self.learned_days = learned_days
        self.most = most
        self.retrain_days = retrain_days
        self.min_shoppers = min_shoppers
        self.seed = seed
        self.progress = progress or (lambda _: None)
        self.trees: lightgbm.Booster | None = None
        self._trained: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        trees = self.trees.current_iteration() if self.trees else 0
        return f"{trees} trees of {len(self.sources)} contenders' candidates"

    def fit(self, log: Log) -> None:
        """Raises ValueError where the log is too short to hold both stages."""
        if not len(log):
            raise ValueError("the blend was given an empty log; it needs some days of searches")
        begin, end = int(log.time_ms[0]), int(log.time_ms[-1])
        grown = end - self._trained[1]
        if self.trees is None or begin != self._trained[0] or not 0 <= grown < self.retrain_days * DAY_MS:
            self._train(compact(log))
            self._trained = (begin, end)
        self._fit(self.sources, log)

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        made: list[tuple[str, ...]] = []
        for start in range(0, len(cases), CHUNK):
            part = cases[start : start + CHUNK]
            pairs = pairs_of(self.statistics, self.sources, part)
            assert self.trees is not None, "fit comes before rank"
            scores = np.asarray(self.trees.predict(pairs.values, num_threads=1))
            order = np.lexsort((np.arange(len(scores)), -scores, pairs.of_case))
            bounds = np.searchsorted(pairs.of_case, np.arange(len(part) + 1))
            for i in range(len(part)):
                made.append(tuple(pairs.queries[j] for j in order[bounds[i] : bounds[i + 1]][:count]))
        return made

    def importance(self) -> dict[str, float]:
        """Share of the trees' gain by feature, highest first."""
        assert self.trees is not None, "fit comes before importance"
        gain = self.trees.feature_importance("gain")
        ordered = sorted(zip(feature_names(self.sources), gain / max(gain.sum(), 1e-9), strict=True), key=lambda p: -p[1])  # fmt: skip
        return {name: round(float(share), 4) for name, share in ordered}

    def _fit(self, sources: Sequence[Ranker], log: Log) -> None:
        for source in sources:
            self.progress(f"{self.name}: fits {source.name}")
            source.fit(log)
        self.statistics = Statistics.of(compact(log), self.profiles, self.min_shoppers)

    def _train(self, log: Log) -> None:
        from_ms = int(log.time_ms[-1]) + 1 - int(self.learned_days * DAY_MS)
        earlier = compact(log.before(from_ms))
        chosen = moments(log, from_ms, self.most, seed=self.seed)
        if not len(earlier) or len(chosen.row) < 50:
            raise ValueError(
                f"the blend needs searches before and in the log's last {self.learned_days:g} days, found "
                f"{len(earlier)} behaviours before them and {len(chosen.row)} searches in them; give it a longer log or "
                "fewer learned_days"
            )
        self._fit(self.early, earlier)
        learned = cases(log, chosen, self.profiles)
        parts: list[tuple[Pairs, np.ndarray]] = []
        held_out: list[np.ndarray] = []
        users = np.unique(log.user[chosen.row])
        held_users = np.random.default_rng(self.seed).choice(users, max(1, len(users) // 5), replace=False)
        held = np.isin(log.user[chosen.row], held_users)
        for start in range(0, len(learned), CHUNK):
            self.progress(f"{self.name}: features of {start} / {len(learned)} moments")
            part = learned[start : start + CHUNK]
            pairs = pairs_of(self.statistics, self.early, part)
            label = np.array([part[i].next == q for i, q in zip(pairs.of_case, pairs.queries, strict=True)])
            hit = np.bincount(pairs.of_case, label, len(part)) > 0  # others have nothing to teach
            kept = hit[pairs.of_case]
            parts.append((Pairs(pairs.of_case[kept] + start, [], pairs.values[kept]), label[kept]))
            held_out.append(held[start : start + CHUNK][pairs.of_case[kept]])
        values, labels = np.concatenate([p.values for p, _ in parts]), np.concatenate([label for _, label in parts])
        of_case, late = np.concatenate([p.of_case for p, _ in parts]), np.concatenate(held_out)
        self.training_cases = len(np.unique(of_case))
        names = [f"f{i}" for i in range(values.shape[1])]
        sets = [
            lightgbm.Dataset(
                values[which],
                labels[which].astype(int),
                group=_groups(of_case[which]),
                feature_name=names,
                params=PARAMETERS,
                free_raw_data=True,
            )
            for which in (~late, late)
        ]
        parameters = {**PARAMETERS, "seed": self.seed}
        self.progress(f"{self.name}: trees from {len(values)} candidates of {self.training_cases} moments")
        stop = lightgbm.early_stopping(50, verbose=False)
        self.trees = lightgbm.train(parameters, sets[0], 600, valid_sets=[sets[1]], callbacks=[stop])


def _groups(of_case: np.ndarray) -> np.ndarray:
    return np.unique(of_case, return_counts=True)[1]
