"""Scores of queries, case by case, and the best of them: what a rule found, above popularity, which fills every list."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from training.rankers.newest import ByShopper

DAY_MS = 86_400_000
FOLLOWERS_KEPT = 200
"""Of one context, the most frequent ones; a list has thirty places."""


class Window(NamedTuple):
    """What of a log counts."""

    days: float | None = None
    """The last ones only; None: all."""
    half_life_days: float | None = None
    """A search counts half after this time; None: as much as the newest."""

    def __str__(self) -> str:
        days = "whole log" if self.days is None else f"{self.days:g} days"
        return days if self.half_life_days is None else f"{days}, half-life {self.half_life_days:g} days"

    def weights(self, time_ms: np.ndarray, end_ms: int) -> np.ndarray:
        age_days = (end_ms - time_ms) / DAY_MS
        weights = np.ones(len(time_ms)) if self.half_life_days is None else 0.5 ** (age_days / self.half_life_days)
        return weights if self.days is None else weights * (age_days < self.days)


@dataclass(frozen=True)
class Scores:
    """A query's score is `found` + `rest` x its popularity."""

    found: csr_matrix
    """(moments, texts)."""
    rest: np.ndarray
    """(moments,)."""

    def plus(self, other: csr_matrix, weight: float) -> "Scores":
        return Scores(self.found + other * weight, self.rest) if weight else self


@dataclass(frozen=True)
class Following:
    """How often each text followed each context."""

    share: csr_matrix
    """(contexts, texts): of the context's followers, rows sum to at most 1."""
    seen: np.ndarray
    """(contexts,) followers in all, by weight."""
    distinct: np.ndarray
    """(contexts,)."""

    @staticmethod
    def of(context: np.ndarray, text: np.ndarray, contexts: int, texts: int, weight: np.ndarray) -> "Following":
        """From pairs and what each counts; contexts are 0 .. contexts - 1."""
        pairs, inverse = np.unique(context.astype(np.int64) * texts + text, return_inverse=True)
        counts = np.bincount(inverse, weight, len(pairs))
        rows, columns = pairs // texts, pairs % texts
        seen = np.bincount(rows, counts, contexts)
        distinct = np.bincount(rows, minlength=contexts)
        order = np.lexsort((columns, -counts, rows))
        rows, columns, counts = rows[order], columns[order], counts[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < FOLLOWERS_KEPT
        rows, columns, counts = rows[kept], columns[kept], counts[kept]
        share = csr_matrix((counts / seen[rows], (rows, columns)), shape=(contexts, texts))
        return Following(share, seen, distinct)

    def after(self, context: np.ndarray, weight: np.ndarray, texts: int) -> csr_matrix:
        """(moments, texts): the shares behind each moment's context, times the moment's weight. NONE has none."""
        there = np.where(self.known(context), context, 0)
        used = np.where(self.known(context), weight, 0.0)
        moments = np.arange(len(context))
        picked = csr_matrix((used, (moments, there)), shape=(len(context), len(self.seen)))
        return widened(csr_matrix(picked @ self.share), texts)

    def known(self, context: np.ndarray) -> np.ndarray:
        there = (context >= 0) & (context < len(self.seen))
        return there & (self.seen[np.where(there, context, 0)] > 0)


def widened(matrix: csr_matrix, texts: int) -> csr_matrix:
    """With more columns, for texts that came after the log."""
    return csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], texts))  # pyright: ignore[reportArgumentType, reportOptionalSubscript]


def shares(by_shopper: ByShopper, texts: int, window: Window) -> np.ndarray:
    """Popularity: each text's share of the searches by themselves."""
    searched = by_shopper.by_themselves
    if not searched.any():
        return np.zeros(texts)
    weights = window.weights(by_shopper.time_ms[searched], int(by_shopper.time_ms.max()))
    counts = np.bincount(by_shopper.text[searched], weights, texts)
    return counts / counts.sum()


def best(scores: Scores, popularity: np.ndarray, count: int) -> list[np.ndarray]:
    """For each moment its `count` best texts. What a rule did not find is there by popularity alone."""
    found = scores.found
    texts = len(popularity)
    # Ties by number, so that a list is the same on every machine.
    popular = np.lexsort((np.arange(texts), -popularity))[: 2 * count]
    popular = popular[popularity[popular] > 0]
    # A popular text that a row found stands in it twice: the row's own score, which is at least as high, comes first.
    made = []
    for row in range(len(scores.rest)):
        part = slice(found.indptr[row], found.indptr[row + 1])
        ids, rest = found.indices[part], scores.rest[row]
        values = found.data[part] + rest * popularity[np.minimum(ids, texts - 1)] * (ids < texts)
        ids, values = np.concatenate([ids, popular]), np.concatenate([values, rest * popularity[popular]])
        if len(ids) > 4 * count:
            top = np.argpartition(-values, 3 * count)[: 3 * count]
            ids, values = ids[top], values[top]
        ids = ids[np.lexsort((ids, -values))]
        _, first = np.unique(ids, return_index=True)
        made.append(ids[np.sort(first)[:count]])
    return made
