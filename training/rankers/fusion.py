"""Reciprocal rank fusion: a blend without training, to see what the trained one is worth (Cormack et al., SIGIR 2009)."""

from collections import defaultdict
from collections.abc import Sequence

from training.log import Case, Log, Ranker

DAMPING = 20
"""A list's r-th query gets 1 / (DAMPING + r). 60 is the usual one for lists of a thousand; these are of a hundred."""
DEPTH = 100


class Fusion:
    name = "fusion"

    def __init__(self, sources: Sequence[Ranker], weights: Sequence[float] | None = None) -> None:
        """`weights` one a source, all 1 unless given."""
        self.sources = list(sources)
        self.weights = list(weights or [1.0] * len(self.sources))
        if len(self.weights) != len(self.sources):
            raise ValueError(f"{len(self.weights)} weights for {len(self.sources)} sources; give one a source")

    def fit(self, log: Log) -> None:
        for source in self.sources:
            source.fit(log)

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        scores: list[dict[str, float]] = [defaultdict(float) for _ in cases]
        for source, weight in zip(self.sources, self.weights, strict=True):
            for score, queries in zip(scores, source.rank(cases, DEPTH), strict=True):
                for place, query in enumerate(queries, 1):
                    score[query] += weight / (DAMPING + place)
        return [tuple(sorted(score, key=lambda query: (-score[query], query))[:count]) for score in scores]
