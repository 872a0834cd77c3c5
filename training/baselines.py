"""What a model must beat: popularity, the shopper's own queries, and what follows the last query in the log."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from inference.output import normalise
from training.samples import Case, History

Recommender = Callable[[Case], tuple[str, ...]]
"""A case -> ten queries, best first, normalised."""
WEEK_MS = 7 * 86_400_000


def baselines(log: Sequence[History], want: int = 10) -> dict[str, Recommender]:
    """All fitted on one log, all filled up to `want` queries with popularity, so that all have equal chances."""
    searches = [[(b.time_ms, normalise(b.text)) for b in history.behaviours if b.kind == "search"] for history in log]
    end_ms = max(time for row in searches for time, _ in row)
    always = _ranked(Counter(query for row in searches for _, query in row), want)
    lately = _ranked(Counter(query for row in searches for time, query in row if time > end_ms - WEEK_MS), want)
    following: dict[str, Counter[str]] = defaultdict(Counter)
    for row in searches:
        for (_, before), (_, after) in pairwise(row):
            following[before][after] += 1

    def own(case: Case) -> list[str]:
        return [normalise(b.text) for b in reversed(case.seen) if b.kind == "search"]

    def bigram(case: Case) -> list[str]:
        searched = own(case)
        return _ranked(following[searched[0]], want) if searched and searched[0] in following else []

    return {
        "popularity": lambda case: tuple(always),
        "popularity, last week": lambda case: tuple(lately),
        "own queries again": lambda case: _fill(own(case), always, want),
        "bigram": lambda case: _fill(bigram(case), always, want),
    }


def _ranked(counts: Counter[str], want: int) -> list[str]:
    return [query for query, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:want]]


def _fill(first: list[str], rest: list[str], want: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *rest]))[:want]
