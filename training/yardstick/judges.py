"""Who tells a query's leaf category, and how alike two queries are. No contender is trained on what a judge says.

`ClickJudge` learns from a log what was clicked: a title's category is known, a query's is that of the clicks which followed it. It can be
asked about any query. `TruthJudge` is a simulated market's own table; it knows the queries that were searched there.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.parquet as pq

from training.log import Log

MOST_TEXTS = 20_000
"""Texts that the classifier learns from, those with most clicks first: fitting takes a minute."""
FEATURES = 20_000
HELD_OUT = 5
"""Every fifth query with clicks judges the classifier first; then it learns from all."""
FOLLOWS_MS = 5 * 60_000
"""A click this soon after a search was on its results."""
NEARLY_ALL = 0.9
"""Where one category holds this share of the truths, categories and similarity say nothing, and are not shown."""


class CategoryJudge(Protocol):
    @property
    def name(self) -> str: ...

    def categories(self, queries: Sequence[str]) -> list[str]:
        """Of each query, empty where it is not known."""
        ...


@dataclass(frozen=True)
class TruthJudge:
    of_query: Mapping[str, str]
    name: str = "truth"

    @staticmethod
    def read(path: Path) -> "TruthJudge":
        """truth/categories.parquet of a market."""
        table = pq.read_table(path, columns=["query", "category"])
        return TruthJudge(dict(zip(table["query"].to_pylist(), table["category"].to_pylist(), strict=True)))

    def categories(self, queries: Sequence[str]) -> list[str]:
        return [self.of_query.get(query, "") for query in queries]


class ClickJudge:
    """Character n-grams (TF-IDF) and logistic regression."""

    name = "clicks"

    def __init__(self, log: Log):
        """Raises ValueError where the log's clicks tell fewer than two categories."""
        self.held_out_accuracy = float("nan")
        """Share of held-out queries whose most clicked category was found, each weighed by its clicks."""
        titles, queries = click_evidence(log)
        # Every query's clicks are a vote; the category most voted for is the label.
        labelled = [(text, votes.most_common(1)[0][0], sum(votes.values())) for text, votes in queries.items()]
        labelled.sort(key=lambda each: (-each[2], each[0]))
        of_titles = sorted(
            ((text, category, clicks) for text, (category, clicks) in titles.items()), key=lambda e: (-e[2], e[0])
        )
        labelled, of_titles = labelled[: MOST_TEXTS // 2], of_titles[: MOST_TEXTS // 2]
        if len({category for _, category, _ in [*labelled, *of_titles]}) < 2:
            raise ValueError("clicks of this log tell fewer than two categories: there is nothing to judge by")
        held_out = labelled[::HELD_OUT]
        rest = [each for i, each in enumerate(labelled) if i % HELD_OUT]
        if held_out and rest:
            self._fit([*rest, *of_titles])
            right = [
                said == category
                for said, (_, category, _) in zip(self.categories([t for t, _, _ in held_out]), held_out, strict=True)
            ]
            self.held_out_accuracy = float(np.average(right, weights=[clicks for _, _, clicks in held_out]))
        self._fit([*labelled, *of_titles])

    def categories(self, queries: Sequence[str]) -> list[str]:
        if not len(queries):
            return []
        return [str(name) for name in self._model.predict(self._terms.transform(queries))]

    def _fit(self, labelled: Iterable[tuple[str, str, int]]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import SGDClassifier

        texts, categories, clicks = zip(*labelled, strict=True)
        self._terms = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=FEATURES, sublinear_tf=True)
        # Logistic regression, one against the rest, by stochastic gradients: hundreds of categories in a minute.
        self._model = SGDClassifier(loss="log_loss", alpha=3e-6, max_iter=8, tol=None, random_state=0)  # pyright: ignore[reportArgumentType]
        self._model.fit(self._terms.fit_transform(texts), categories, sample_weight=np.log1p(clicks))


def click_evidence(log: Log) -> tuple[dict[str, tuple[str, int]], dict[str, Counter[str]]]:
    """Titles with category and clicks; queries with the categories of the clicks that followed within minutes, before the next search."""
    order = np.argsort(log.user, kind="stable")
    user, time_ms, search = log.user[order], log.time_ms[order], log.is_search[order]
    text, category = log.text[order], log.category[order]
    place = np.arange(len(order))
    newest = np.maximum.accumulate(np.where(search, place, -1))
    named = np.array([bool(name) for name in log.categories])
    clicked = np.flatnonzero(~search & named[category])
    behind = newest[clicked]
    follows = (behind >= 0) & (user[behind] == user[clicked]) & (time_ms[clicked] - time_ms[behind] <= FOLLOWS_MS)
    queries: dict[str, Counter[str]] = defaultdict(Counter)
    pairs, counts = np.unique(np.stack([text[behind[follows]], category[clicked[follows]]]), axis=1, return_counts=True)
    for (query, name), count in zip(pairs.T, counts, strict=True):
        queries[log.texts[query]][log.categories[name]] += int(count)
    titles: dict[str, tuple[str, int]] = {}
    pairs, counts = np.unique(np.stack([text[clicked], category[clicked]]), axis=1, return_counts=True)
    for (title, name), count in zip(pairs.T, counts, strict=True):
        titles[log.texts[title]] = (log.categories[name], int(count))
    return titles, queries


def agreement(judge: CategoryJudge, truth: CategoryJudge, queries: Sequence[str]) -> float:
    """Share of these queries (those that the truth knows) on which a judge says the true category."""
    pairs = [
        (said, true) for said, true in zip(judge.categories(queries), truth.categories(queries), strict=True) if true
    ]
    return float(np.mean([said == true for said, true in pairs])) if pairs else float("nan")


def one_category_holds_nearly_all(categories: Sequence[str]) -> bool:
    known = [name for name in categories if name]
    return not known or Counter(known).most_common(1)[0][1] >= NEARLY_ALL * len(known)


def numbered(categories: Sequence[str]) -> np.ndarray:
    """Numbers of categories; 0 is none."""
    numbers: dict[str, int] = {"": 0}
    return np.array([numbers.setdefault(name, len(numbers)) for name in categories], dtype=np.int32)
