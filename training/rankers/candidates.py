"""What may be offered to a shopper: the candidates of the blend, from its sources and from what the log says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.log import Case, Ranker
from training.rankers.moments import Seen, newest_of
from training.rankers.statistics import Statistics, categories_of, newest_category, newest_click

DEPTH = 50
"""Candidates that each source and each of the blend's own ways give for a case."""


@dataclass(frozen=True)
class View:
    """Cases as the statistics see them. Rows are cases; texts are the log's, behind them new ones."""

    cases: Sequence[Case]
    seen: Seen
    texts: list[str]
    new_texts: tuple[str, ...]
    searched: np.ndarray
    """[n, kept]."""
    last: np.ndarray
    """[n, 3]: places of the newest searches among the known queries, -1 where there is none or it is not known."""
    clicked: np.ndarray
    """[n]: the newest clicked text that the log knows, -1."""
    of_seen: np.ndarray
    """[n, kept]: categories, -1."""
    here: np.ndarray
    """[n]: the newest category, -1."""

    @staticmethod
    def of(statistics: Statistics, cases: Sequence[Case]) -> "View":
        seen, new_texts = newest_of(statistics.log, cases, numbers=statistics.numbers)
        known, size = statistics.known, len(statistics.log.texts)
        searched = seen.is_search & (seen.text >= 0)
        place = np.where(searched & (seen.text < size), known.of_text[np.clip(seen.text, 0, size - 1)], -1)
        newest = np.argsort(~searched, axis=1, kind="stable")[:, :3]
        clicked = newest_click(seen.is_search, seen.text)
        behaviours = (seen.is_search, seen.text, seen.category, known, statistics.category)
        return View(
            cases,
            seen,
            [*statistics.log.texts, *new_texts],
            new_texts,
            searched,
            np.take_along_axis(place, newest, axis=1),
            np.where(clicked < size, clicked, -1),
            categories_of(*behaviours),
            newest_category(*behaviours),
        )


@dataclass(frozen=True)
class Candidates:
    """Pairs of a case and a query, case by case."""

    of_case: np.ndarray
    """int64, rising."""
    queries: list[str]
    query: np.ndarray
    """Place among the known queries, -1 for others."""
    by_source: np.ndarray
    """[pairs, sources]: 1 / the source's rank, 0 where it does not list the query."""


def candidates(statistics: Statistics, sources: Sequence[Ranker], view: View) -> Candidates:
    """Every source's, what the shopper has searched, what follows that, what is popular."""
    lists = [source.rank(view.cases, DEPTH) for source in sources]
    popular = np.argsort(-statistics.recent[1], kind="stable")[:DEPTH].tolist()
    following = _Following(statistics)
    of_case: list[int] = []
    queries: list[str] = []
    places: list[list[float]] = []
    for i in range(len(view.cases)):
        found: dict[str, None] = {}
        for made in lists:
            found.update(dict.fromkeys(made[i]))
        own = view.seen.text[i][view.searched[i]]
        found.update((view.texts[text], None) for text in own)
        for number in (*following.of(view.last[i], int(view.clicked[i]), int(view.here[i])), *popular):
            found[statistics.queries[number]] = None
        found.pop("", None)
        ranks = [{query: 1 / rank for rank, query in enumerate(made[i], 1)} for made in lists]
        of_case += [i] * len(found)
        queries += found
        places += [[rank.get(query, 0.0) for rank in ranks] for query in found]
    return Candidates(
        np.array(of_case, dtype=np.int64),
        queries,
        np.array([statistics.number_of.get(query, -1) for query in queries], dtype=np.int64),
        np.array(places, dtype=np.float32).reshape(len(queries), len(lists)),
    )


class _Following:
    """Known queries that follow a search, a click, a category; looked up once each."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self.found: dict[tuple[str, int], list[int]] = {}

    def of(self, last: np.ndarray, clicked: int, category: int) -> list[int]:
        tables = self.statistics
        ways = (
            ("next", tables.next_query, int(last[0])),
            ("second", tables.second_query, int(last[1])),
            ("together", tables.together, int(last[0])),
            ("title", tables.after_title, clicked),
            ("category", tables.after_category, category),
            ("in category", tables.of_category, category),
        )
        made: list[int] = []
        for name, table, row in ways:
            if (name, row) not in self.found:
                self.found[name, row] = table.most(row, DEPTH).tolist()
            made += self.found[name, row]
        return made
