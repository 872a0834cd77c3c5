"""The list that a sample teaches: which queries are in it, and in which order (AIGQ sec. 3.3, eq. 3 and 4).

**Set.** Concat(clicked hints, searches by themselves, the ranker's list, generated ones), in this order; a query that may be no label, or
that says the same as an earlier one, is left out, and the list ends when it is long enough. Nothing below changes the set.

**Order.** A label q of the set has the strength

    strength(q) = level(q) + (system(q) + near(q)) / 2

    level   the feedback prior: 2 clicked, 1 searched, 0 only in the ranker's list (exposure) or generated
    system  the system prior, 0 .. 1: the ranker's score, scaled over its list so that its last has 1/n and its first 1; 0 where it is not in it
    near    how near q is to other feedback of the sample, 0 .. below 1: the greatest of weight(f) * jaccard(words of q, words of f) over the
            clicked (weight 1) and searched (weight 1/2) queries f of the set other than q

so feedback decides first (click > search > exposure), and within a level what the ranker thought and what the shopper then turned to
weigh the same. `near` is ours: the paper names the two priors only, and by them alone the order of a Direct list is that of the
concatenation, click first and then the ranker's list as it is. Equal strengths keep the order of the concatenation.

`labels_plain` is the same set in the order of the concatenation: what plain SFT learns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Literal, NamedTuple

from inference.output import clean, near_duplicates, normalise

Source = Literal["click", "search", "ranked", "generated"]
LEVEL: Mapping[Source, float] = {"click": 2.0, "search": 1.0, "ranked": 0.0, "generated": 0.0}
NEAR: Mapping[Source, float] = {"click": 1.0, "search": 0.5}
"""Weight of feedback on labels that share words with it."""


class Candidate(NamedTuple):
    query: str
    """As it stood in the log."""
    source: Source


class LabelList(NamedTuple):
    """All but `labels_plain` in the order to be learned."""

    labels: tuple[str, ...]
    label_from: tuple[Source, ...]
    label_scores: tuple[float, ...]
    """strength(q)."""
    labels_plain: tuple[str, ...]

    @property
    def has_feedback(self) -> bool:
        return "click" in self.label_from or "search" in self.label_from


def concat(
    clicked: Iterable[str] = (), searched: Iterable[str] = (), ranked: Iterable[str] = (), generated: Iterable[str] = ()
) -> list[Candidate]:
    """AIGQ eq. 3 and 4, each part in its own order."""
    parts: tuple[tuple[Source, Iterable[str]], ...] = (
        ("click", clicked),
        ("search", searched),
        ("ranked", ranked),
        ("generated", generated),
    )
    return [Candidate(query, source) for source, queries in parts for query in queries]


def label_list(
    candidates: Iterable[Candidate], system: Mapping[str, float], admits: Callable[[Candidate], bool], most: int
) -> LabelList:
    """The labels of one sample, at most `most`; empty where none is admitted.

    candidates: `concat`. system: system prior by normalised query (`system_prior`). admits: whether a candidate may be a label at all.
    """
    chosen: list[Candidate] = []
    words: list[frozenset[str]] = []
    for candidate in candidates:
        if len(chosen) == most:
            break
        these = frozenset(normalise(candidate.query).split())
        if these and not any(near_duplicates(these, other) for other in words) and admits(candidate):
            chosen.append(candidate)
            words.append(these)
    plain = tuple(clean(candidate.query) for candidate in chosen)
    scores = strengths(chosen, words, system)
    order = sorted(range(len(chosen)), key=lambda place: (-scores[place], place))
    return LabelList(
        tuple(plain[place] for place in order),
        tuple(chosen[place].source for place in order),
        tuple(scores[place] for place in order),
        plain,
    )


def strengths(chosen: Sequence[Candidate], words: Sequence[frozenset[str]], system: Mapping[str, float]) -> list[float]:
    """strength(q) of each label; `words`: of their normal forms."""
    feedback = [(place, NEAR[each.source]) for place, each in enumerate(chosen) if each.source in NEAR]
    found = []
    for place, (query, source) in enumerate(chosen):
        near = max((w * _jaccard(words[place], words[other]) for other, w in feedback if other != place), default=0.0)
        found.append(LEVEL[source] + (system.get(normalise(query), 0.0) + near) / 2)
    return found


def system_prior(ranked: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """The ranker's scores, by normalised query, scaled to 1/n .. 1; by place where it logged none that tell anything."""
    count = len(ranked)
    if len(scores) != count or not all(map(isfinite, scores)) or max(scores, default=0) <= min(scores, default=0):
        scores = range(count, 0, -1)
    best = max(scores, default=0)
    span = best - min(scores, default=0) or 1
    found: dict[str, float] = {}
    for query, score in zip(ranked, scores, strict=True):
        found.setdefault(normalise(query), 1 - (1 - 1 / count) * (best - score) / span)
    return found


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)
