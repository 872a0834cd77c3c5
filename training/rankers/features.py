"""What is known of each of the blend's candidates: one row a (case, query), the same code for training moments and test cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from scipy import sparse

from training.log import Case, Ranker
from training.rankers.candidates import Candidates, View, candidates
from training.rankers.moments import KEPT
from training.rankers.statistics import (
    SESSION_MS,
    Statistics,
    profile_places,
)
from training.rankers.tfidf import row_products, rows_of

FADING = 0.8 ** np.arange(KEPT)
"""Weight of a behaviour by its place, the newest first."""
NAMES = (
    "searches_1d,searches_7d,searches,trend,begins_sessions,words,letters,known,"
    "own,own_place,own_age,is_last,next,next_count,lift,second,third,together,after_title,after_category,"
    "category_step,in_category,same_category,category_weight,category_place,category_sureness,liked_by_profile,"
    "like_last,narrower,wider,in_title,title_words,in_history,new_words,"
    "seen,searched,newest_age,newest_is_search,in_session,fresh_first,sources,fused"
).split(",")


@runtime_checkable
class PairScorer(Protocol):
    """A source that can also score queries that it did not list itself."""

    def pair_scores(self, cases: Sequence[Case], of_case: np.ndarray, queries: Sequence[str]) -> np.ndarray: ...


@dataclass(frozen=True)
class Pairs:
    of_case: np.ndarray
    """int64, rising."""
    queries: list[str]
    values: np.ndarray
    """float32 [pairs, features]."""


def feature_names(sources: Sequence[Ranker]) -> list[str]:
    scored = [f"score of {source.name}" for source in sources if isinstance(source, PairScorer)]
    return [*NAMES, *(f"place by {source.name}" for source in sources), *scored]


def pairs_of(statistics: Statistics, sources: Sequence[Ranker], cases: Sequence[Case]) -> Pairs:
    view = View.of(statistics, cases)
    found = candidates(statistics, sources, view)
    columns = [
        *_of_query(statistics, found),
        *_of_own_searches(statistics, view, found),
        *_of_what_follows(statistics, view, found),
        *_of_categories(statistics, view, found),
        *_of_words(statistics, view, found),
        *_of_case(statistics, view, found),
        *found.by_source.T,
        *(s.pair_scores(cases, found.of_case, found.queries) for s in sources if isinstance(s, PairScorer)),
    ]
    values = np.column_stack([np.asarray(column, dtype=np.float32) for column in columns])
    return Pairs(found.of_case, found.queries, values)


def _of_query(statistics: Statistics, found: Candidates) -> list[np.ndarray]:
    query, known = found.query, found.query >= 0
    day, week, every = np.where(known, statistics.recent[:, query], 0.0)
    return [
        np.log1p(day),
        np.log1p(week),
        np.log1p(every),
        np.log((day + 1) / (week / 7 + 1)),
        np.where(known, statistics.firsts[query], np.nan),
        np.array([text.count(" ") + 1 for text in found.queries]),
        np.array([len(text) for text in found.queries]),
        known,
    ]


def _of_own_searches(statistics: Statistics, view: View, found: Candidates) -> list[np.ndarray]:
    case = found.of_case
    new = {text: i for i, text in enumerate(view.new_texts, len(statistics.log.texts))}
    text = np.array([statistics.numbers.get(query, new.get(query, -2)) for query in found.queries], dtype=np.int64)
    again = (view.seen.text[case] == text[:, None]) & view.searched[case]
    some, first = again.any(axis=1), again.argmax(axis=1)
    return [
        again.sum(axis=1),
        np.where(some, first, KEPT),
        np.where(some, np.log1p(view.seen.age_ms[case, first] / 60_000), np.nan),
        some & (first == view.searched.argmax(axis=1)[case]),
    ]


def _of_what_follows(statistics: Statistics, view: View, found: Candidates) -> list[np.ndarray]:
    query, last = found.query, view.last[found.of_case]
    searches = statistics.recent[2]
    prior = (np.where(query >= 0, searches[query], 0.0) + 0.1) / (searches.sum() + 1)
    following = statistics.next_query.share(last[:, 0], query, prior)
    together = [statistics.together.share(last[:, k], query, prior) * weight for k, weight in enumerate((1, 0.7, 0.5))]
    return [
        np.log(following),
        statistics.next_query.of(last[:, 0], query),
        np.log(following / prior),
        np.log(statistics.second_query.share(last[:, 1], query, prior)),
        np.log(statistics.next_query.share(last[:, 2], query, prior)),
        np.log(np.sum(together, axis=0)),
        np.log(statistics.after_title.share(view.clicked[found.of_case], query, prior)),
        np.log(statistics.after_category.share(view.here[found.of_case], query, prior)),
    ]


def _of_categories(statistics: Statistics, view: View, found: Candidates) -> list[np.ndarray]:
    case, query = found.of_case, found.query
    category = np.where(query >= 0, statistics.category[query], -1)
    alike = (view.of_seen[case] == category[:, None]) & (category >= 0)[:, None]
    return [
        np.log(statistics.next_category.share(view.here[case], category, 1 / len(statistics.log.categories), 1.0)),
        np.log(statistics.of_category.share(category, query, 0.01, 1.0)),
        (category == view.here[case]) & (category >= 0),
        alike @ FADING,
        np.where(alike.any(axis=1), alike.argmax(axis=1), KEPT),
        np.where(query >= 0, statistics.sureness[query], np.nan),
        _liking(statistics, view.cases, case, category),
    ]


def _of_case(statistics: Statistics, view: View, found: Candidates) -> list[np.ndarray]:
    case, some = found.of_case, view.seen.text >= 0
    fresh = some & (view.seen.age_ms < SESSION_MS)
    firsts = np.where(found.query >= 0, statistics.firsts[found.query], 0.5)
    return [
        some.sum(axis=1)[case],
        view.searched.sum(axis=1)[case],
        np.log1p(np.where(some[:, 0], view.seen.age_ms[:, 0] / 60_000, 1e6))[case],
        view.searched[:, 0][case],
        fresh.sum(axis=1)[case],
        firsts * np.where(fresh[:, 0], -1, 1)[case],
        (found.by_source > 0).sum(axis=1),
        (found.by_source / (1 + 10 * found.by_source)).sum(axis=1),
    ]


def _liking(statistics: Statistics, cases: Sequence[Case], case: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Sum over the profile's fields of how much likelier than for all the category is (log)."""
    profiles = profile_places([c.profile for c in cases], statistics.fields)
    base = np.asarray(statistics.by_profile.counts.sum(axis=0)).ravel()
    share = np.append((base + 1) / (base.sum() + len(base)), 1.0)[category]
    total = np.zeros(len(case))
    for k in range(profiles.shape[1]):
        value = profiles[case, k]
        lift = np.log(statistics.by_profile.share(value, category, share, 50.0) / share)
        total += np.where((value >= 0) & (category >= 0), lift, 0.0)
    return total


def _of_words(statistics: Statistics, view: View, found: Candidates) -> list[np.ndarray]:
    """Words in common with the last search, the last title and, weighed by rarity and age, with all that was seen."""
    seen, case, (n, kept) = view.seen.text, found.of_case, view.seen.text.shape
    # The row in front is for nothing.
    used, inverse = np.unique(np.concatenate([[-1], seen.ravel(), view.clicked]), return_inverse=True)
    rows = statistics.word_rows(["" if i < 0 else view.texts[i] for i in used])
    places = inverse[1 : 1 + n * kept].reshape(n, kept)
    newest = places[np.arange(n), view.searched.argmax(axis=1)]
    search = rows_of(rows, np.where(view.searched.any(axis=1), newest, 0))
    title = rows_of(rows, inverse[1 + n * kept :])
    weights = (FADING * (seen >= 0)).astype(np.float32).ravel()
    mixing = sparse.csr_matrix((weights, places.ravel(), np.arange(0, n * kept + 1, kept)), shape=(n, len(used)))
    history = sparse.csr_matrix(sparse.csr_matrix(mixing @ rows) @ sparse.diags(statistics.rarity))
    distinct = {query: i for i, query in enumerate(dict.fromkeys(found.queries))}
    at = np.array([distinct[query] for query in found.queries], dtype=np.int64)
    of_query = rows_of(statistics.word_rows(list(distinct)), at)
    length = np.array([len(set(query.split())) for query in distinct], dtype=np.float32)[at]
    searched = np.asarray(search.sum(axis=1)).ravel()[case]
    common = row_products(of_query, rows_of(search, case))
    in_title = row_products(of_query, rows_of(title, case))
    return [
        common / np.maximum(length + searched - common, 1),
        (common == searched) & (length > common) & (searched > 0),
        (common == length) & (searched > common),
        in_title / np.maximum(length, 1),
        in_title,
        row_products(of_query, rows_of(history, case)),
        length - common,
    ]
