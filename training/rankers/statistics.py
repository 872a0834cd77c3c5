"""What a log says about its queries, in numpy: how often, when, after what, in which category. Made for the blend's features."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from inference.output import normalise
from training.log import Log
from training.rankers.moments import DAY_MS, Known, known_queries, moments, seen_of, text_numbers
from training.rankers.net import profile_values
from training.rankers.slots import clicked_after

SESSION_MS = 1_800_000
REACH = 5
"""Searches back that count as gone together."""


class Table:
    """Counts of pairs, looked up by the million."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], weight: np.ndarray | None = None) -> None:  # fmt: skip
        fine = (rows >= 0) & (columns >= 0)
        weights = np.ones(fine.sum()) if weight is None else weight[fine]
        self.counts = sparse.csr_matrix((weights, (rows[fine], columns[fine])), shape=shape)
        self.counts.sum_duplicates()
        coo = self.counts.tocoo()
        self.width = shape[1]
        self.keys: np.ndarray = coo.row.astype(np.int64) * self.width + coo.col
        self.values: np.ndarray = np.asarray(coo.data)
        self.totals: np.ndarray = np.append(np.asarray(self.counts.sum(axis=1)).ravel(), 0.0)

    def of(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Count of each pair; -1 in either is no pair."""
        if not self.keys.size:
            return np.zeros(len(rows))
        keys = rows.astype(np.int64) * self.width + columns
        at = np.minimum(np.searchsorted(self.keys, keys), self.keys.size - 1)
        return np.where((rows >= 0) & (columns >= 0) & (self.keys[at] == keys), self.values[at], 0.0)

    def share(self, rows: np.ndarray, columns: np.ndarray, prior: float | np.ndarray, strength: float = 5.0) -> np.ndarray:  # fmt: skip
        """Share of the row's total, drawn to `prior` where the row is thin."""
        return (self.of(rows, columns) + strength * prior) / (self.totals[rows] + strength)

    def most(self, row: int, count: int) -> np.ndarray:
        """Columns of a row with the highest counts."""
        if row < 0:
            return np.empty(0, dtype=np.int64)
        # Of a row that stands as a run in `keys`, in the order of its columns.
        begin, end = np.searchsorted(self.keys, (row * self.width, (row + 1) * self.width))
        order = np.argsort(-self.values[begin:end], kind="stable")[:count]
        return self.keys[begin:end][order] - row * self.width


@dataclass(frozen=True)
class Statistics:
    log: Log
    """Compact."""
    numbers: Mapping[str, int]
    """Text -> index."""
    known: Known
    queries: list[str]
    number_of: dict[str, int]
    """Known query -> place."""
    recent: np.ndarray
    """[3, q]: searches of the last day, the last 7, all."""
    firsts: np.ndarray
    """[q]: share of its searches that begin a session."""
    category: np.ndarray
    """[q]: index of the category that is clicked after it, -1 where none is."""
    sureness: np.ndarray
    """[q]: share of that category in those clicks."""
    next_query: Table
    """Search -> the next one."""
    second_query: Table
    """Search -> the next but one."""
    together: Table
    """Search -> the next few, the nearer the more."""
    after_title: Table
    """Newest clicked text -> search."""
    after_category: Table
    """Newest category -> search."""
    next_category: Table
    of_category: Table
    """Category -> queries in it, by searches."""
    by_profile: Table
    """Value of a profile's field -> category of searches."""
    fields: dict[str, int]
    words: CountVectorizer
    rarity: np.ndarray

    @staticmethod
    def of(log: Log, profiles: Mapping[str, Mapping[str, str]], min_shoppers: int) -> "Statistics":
        """`log` is compact and not empty."""
        known = known_queries(log, min_shoppers)
        queries, size = known.queries(log), len(known.text)
        rows = np.flatnonzero(log.is_search & log.by_themselves)
        rows = rows[np.lexsort((rows, log.user[rows]))]
        place, user, time_ms = known.of_text[log.text[rows]], log.user[rows], log.time_ms[rows]
        category, sureness = _categories(log, known)
        far = np.append(True, (user[1:] != user[:-1]) | (time_ms[1:] - time_ms[:-1] > SESSION_MS))
        searches = np.bincount(place[place >= 0], minlength=size)
        firsts = np.bincount(place[far & (place >= 0)], minlength=size)
        steps = [(place[:-k], place[k:], np.flatnonzero(user[:-k] == user[k:])) for k in range(1, min(REACH, len(rows) - 1) + 1)]  # fmt: skip
        pairs = [(before[same], after[same]) for before, after, same in steps] or [(place[:0], place[:0])]
        square, end_ms = (size, size), int(log.time_ms[-1])
        lately = [
            np.bincount(place[(place >= 0) & (time_ms > end_ms - days * DAY_MS)], minlength=size)
            for days in (1, 7, 10_000)
        ]
        every = moments(log)
        newest = seen_of(log, every)
        truth = known.of_text[log.text[every.row]]
        clicked, here = newest_click(newest.is_search, newest.text), newest_category(newest.is_search, newest.text, newest.category, known, category)  # fmt: skip
        with_truth = np.append(category, -1)[truth]
        fields = profile_values(profiles.values())
        values, wanted = _profiled(log, profiles, fields, rows, np.append(category, -1)[place])
        words = CountVectorizer(token_pattern=r"\w+", binary=True, dtype=np.float32)  # pyright: ignore[reportArgumentType]
        counted = sparse.csr_matrix(words.fit_transform([normalise(log.texts[i]) or "_" for i in np.unique(log.text)]))
        holding = np.asarray(counted.sum(axis=0)).ravel()
        return Statistics(
            log,
            text_numbers(log),
            known,
            queries,
            {query: i for i, query in enumerate(queries)},
            np.array(lately, dtype=np.float64),
            firsts / np.maximum(searches, 1),
            category,
            sureness,
            Table(*pairs[0], square),
            Table(*(pairs[1] if len(pairs) > 1 else pairs[0]), square),
            Table(
                np.concatenate([before for before, _ in pairs]),
                np.concatenate([after for _, after in pairs]),
                square,
                np.concatenate([np.full(len(before), 1 / (k + 1)) for k, (before, _) in enumerate(pairs)]),
            ),
            Table(clicked, truth, (len(log.texts), size)),
            Table(here, truth, (len(log.categories), size)),
            Table(here, with_truth, (len(log.categories), len(log.categories))),
            Table(category, np.arange(size), (len(log.categories), size), known.searches.astype(float)),
            Table(values, wanted, (max(1, len(fields)), len(log.categories))),
            fields,
            words,
            np.log(len(np.unique(log.text)) / holding).astype(np.float32),
        )

    def word_rows(self, texts: Sequence[str]) -> sparse.csr_matrix:
        return sparse.csr_matrix(self.words.transform([normalise(text) for text in texts]))


def newest_click(is_search: np.ndarray, text: np.ndarray) -> np.ndarray:
    """[n]: the text of the newest click of each row, -1 where there is none."""
    clicks = ~is_search & (text >= 0)
    return np.where(clicks.any(axis=1), text[np.arange(len(text)), clicks.argmax(axis=1)], -1)


def newest_category(is_search: np.ndarray, text: np.ndarray, category: np.ndarray, known: Known, of_query: np.ndarray) -> np.ndarray:  # fmt: skip
    """[n]: of the newest behaviour that has one, -1 where none has."""
    of_seen = categories_of(is_search, text, category, known, of_query)
    some = of_seen >= 0
    return np.where(some.any(axis=1), of_seen[np.arange(len(text)), some.argmax(axis=1)], -1)


def categories_of(is_search: np.ndarray, text: np.ndarray, category: np.ndarray, known: Known, of_query: np.ndarray) -> np.ndarray:  # fmt: skip
    """[n, kept]: of clicks their own, of known searches the one that is clicked after them."""
    fine = is_search & (text >= 0) & (text < len(known.of_text))
    place = np.where(fine, known.of_text[np.where(fine, text, 0)], -1)
    searched = np.append(of_query, -1)[place]
    return np.where(is_search, searched, np.where(text >= 0, category, -1))


def _categories(log: Log, known: Known) -> tuple[np.ndarray, np.ndarray]:
    numbers = {category: i for i, category in enumerate(log.categories)}
    category = np.full(len(known.text), -1, dtype=np.int64)
    sureness = np.zeros(len(known.text))
    found: dict[str, Counter[str]] = clicked_after(log)
    for i, text in enumerate(known.text):
        if clicks := found.get(log.texts[text]):
            name, count = max(clicks.items(), key=lambda pair: (pair[1], pair[0]))
            category[i], sureness[i] = numbers[name], count / clicks.total()
    return category, sureness


def _profiled(log: Log, profiles: Mapping[str, Mapping[str, str]], fields: dict[str, int], rows: np.ndarray, category: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Pairs of a profile's value and the category of a search by its shopper."""
    values = profile_places([profiles.get(user, {}) for user in log.users], fields)
    of_row = values[log.user[rows]]
    return of_row.ravel(), np.repeat(category, of_row.shape[1])


def profile_places(profiles: Sequence[Mapping[str, str]], fields: dict[str, int]) -> np.ndarray:
    """[n, most fields]: which values each has, -1 behind them."""
    each = [sorted(fields[value] for value in profile_values([profile]) if value in fields) for profile in profiles]
    places = np.full((len(each), max([1, *map(len, each)])), -1, dtype=np.int64)
    for i, row in enumerate(each):
        places[i, : len(row)] = row
    return places
