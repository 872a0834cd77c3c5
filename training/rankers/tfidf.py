"""Queries that are written like what the shopper did last: TF-IDF of character n-grams, weighed by age and kind of a behaviour.

How fast old behaviours fade, what a click counts beside a search, and how much popularity counts is chosen on the log's own
last moments: the settings that would have hit most of them at 10.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from training.log import Case, Log
from training.rankers.fitted import once
from training.rankers.moments import (
    DAY_MS,
    Known,
    Newest,
    compact,
    known_queries,
    moments,
    newest_of,
    seen_of,
    text_numbers,
)

TUNED_ON = 1_500
"""Moments: the half-width of their HR@10 is about .02."""
BATCH = 512


@dataclass(frozen=True)
class Weights:
    fade: float = 0.6
    """Weight of a behaviour against the one after it."""
    click: float = 0.5
    """Weight of a click's title against a search's words."""
    popularity: float = 0.1
    """Exponent of a query's searches."""
    again: float = 0.5
    """Factor on a query that the shopper has searched already."""


GRID: dict[str, tuple[float, ...]] = {
    "fade": (0.4, 0.6, 0.75, 0.9),
    "click": (0.2, 0.5, 1.0),
    "popularity": (0.0, 0.1, 0.2, 0.4),
    "again": (1.0, 0.6, 0.3, 0.05),
}


class Tfidf:
    name = "tfidf"

    def __init__(self, min_shoppers: int = 2, weights: Weights | None = None, seed: int = 0) -> None:
        self.min_shoppers = min_shoppers
        self.weights = weights or Weights()
        self.tune = weights is None
        self.seed = seed

    def __str__(self) -> str:
        return str(self.weights)

    @once
    def fit(self, log: Log) -> None:
        """Takes about 20 s for 100,000 distinct texts. Tunes on the log's last two days unless weights were given."""
        log = self.log = compact(log)
        self.numbers: Mapping[str, int] = text_numbers(log)
        self.known: Known = known_queries(log, self.min_shoppers)
        self.queries = self.known.queries(log)
        self.number_of = {query: i for i, query in enumerate(self.queries)}
        if not self.queries:
            return
        used = np.union1d(np.unique(log.text), self.known.text)  # texts of a cut log reach beyond its end
        self.vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), min_df=2, sublinear_tf=True, dtype=np.float32)  # fmt: skip # pyright: ignore[reportArgumentType]
        try:
            self.vectorizer.fit([log.texts[i] for i in used])
        except ValueError:  # so few texts that no n-gram stands in two of them
            self.vectorizer.set_params(min_df=1).fit([log.texts[i] for i in used])
        self.query_vectors = sparse.csr_matrix(self.vectorizer.transform(self.queries))
        self.columns = self.query_vectors.T.tocsr()
        if self.tune:
            self.weights = self._tuned(log)

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        if not self.queries:
            return [() for _ in cases]
        newest = newest_of(self.log, cases, numbers=self.numbers)
        best = self._best(newest, self.weights, count)
        return [tuple(self.queries[j] for j in row) for row in best]

    def pair_scores(self, cases: Sequence[Case], of_case: np.ndarray, queries: Sequence[str]) -> np.ndarray:
        """Similarity of each case to a query of its own, without popularity; NaN for a query that is not known."""
        if not self.queries:
            return np.full(len(queries), np.nan, dtype=np.float32)
        shoppers = self._shoppers(newest_of(self.log, cases, numbers=self.numbers), self.weights)
        place = np.array([self.number_of.get(query, -1) for query in queries], dtype=np.int64)
        scores = np.empty(len(queries), dtype=np.float32)
        for start in range(0, len(queries), 200_000):
            part = slice(start, start + 200_000)
            of_shopper = rows_of(shoppers, of_case[part])
            of_query = rows_of(self.query_vectors, np.maximum(place[part], 0))
            scores[part] = row_products(of_shopper, of_query)
        return np.where(place < 0, np.nan, scores)

    def _tuned(self, log: Log) -> Weights:
        """One weight after the other, as long as one of them helps."""
        chosen = moments(log, int(log.time_ms[-1]) - 2 * DAY_MS if len(log) else 0, TUNED_ON, seed=self.seed)
        truths = self.known.of_text[log.text[chosen.row]]
        chosen = type(chosen)(chosen.row[truths >= 0], chosen.seen[truths >= 0])
        truths = truths[truths >= 0]
        if not len(truths):
            return self.weights
        newest = Newest(seen_of(log, chosen), ())

        def hits(weights: Weights) -> int:
            return int((self._best(newest, weights, 10) == truths[:, None]).any(axis=1).sum())

        best, most = Weights(), hits(Weights())
        for name, values in GRID.items():
            for value in values:
                other = replace(best, **{name: value})
                if other != best and (found := hits(other)) > most:
                    best, most = other, found
        return best

    def _shoppers(self, newest: Newest, weights: Weights) -> sparse.csr_matrix:
        """One unit vector a case: the weighed sum of what the shopper did."""
        text, is_search = newest.seen.text, newest.seen.is_search
        used, inverse = np.unique(text, return_inverse=True)
        size = len(self.log.texts)
        words = ["" if i < 0 else self.log.texts[i] if i < size else newest.new_texts[i - size] for i in used]
        vectors = sparse.csr_matrix(self.vectorizer.transform(words))
        by_age = weights.fade ** np.arange(text.shape[1]) * np.where(is_search, 1.0, weights.click) * (text >= 0)
        n, kept = text.shape
        mixing = sparse.csr_matrix(
            (by_age.ravel().astype(np.float32), inverse.ravel(), np.arange(0, n * kept + 1, kept)),
            shape=(n, len(used)),
        )
        shoppers = mixing @ vectors
        length = np.sqrt(row_products(shoppers, shoppers))
        return sparse.csr_matrix(sparse.diags(1 / np.maximum(length, 1e-6)) @ shoppers)

    def _best(self, newest: Newest, weights: Weights, count: int) -> np.ndarray:
        shoppers = self._shoppers(newest, weights)
        likely = (self.known.searches / self.known.searches[0]) ** weights.popularity
        text, is_search = newest.seen.text, newest.seen.is_search
        searched = np.where(is_search & (text >= 0) & (text < len(self.log.texts)), text, -1)
        own = np.where(searched >= 0, self.known.of_text[np.maximum(searched, 0)], -1)
        count = min(count, len(self.queries))
        found = []
        for start in range(0, len(text), BATCH):
            scores = np.asarray((shoppers[start : start + BATCH] @ self.columns).todense())
            # A shopper of whom nothing is written gets what is popular.
            scores = (scores + 1e-4) * likely.astype(np.float32)
            rows, columns = np.nonzero(own[start : start + BATCH] >= 0)
            pairs = np.unique(np.stack([rows, own[start : start + BATCH][rows, columns]]), axis=1)
            scores[pairs[0], pairs[1]] *= weights.again
            found.append(top(scores, count))
        return np.concatenate(found) if found else np.empty((0, count), dtype=np.int64)


def rows_of(matrix: sparse.csr_matrix, rows: np.ndarray) -> sparse.csr_matrix:
    return sparse.csr_matrix(matrix[rows])


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` highest of each row, highest first; of equals the first."""
    count = min(count, scores.shape[1])
    part = np.sort(np.argpartition(-scores, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, order, axis=1)


def row_products(a: sparse.csr_matrix, b: sparse.csr_matrix) -> np.ndarray:
    """Of each row of `a` with the same row of `b`."""
    products: Any = a.multiply(b)  # scipy's stubs do not know what comes back
    return np.asarray(products.sum(axis=1)).ravel()
