"""Samples and cases of one shopper (AIGQ sec. 3.3): what the state was, and the list that would have been good then.

Pure: a life and the facts of all queries go in, rows come out. What was left out is counted by reason.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from inference.output import normalise
from inference.prompt import build_prompt
from interest.parts import terms
from schemas import Behaviour, Exposure
from training.log import Case
from training.sample_files import CaseRow, DirectSample, Split, ThinkSample
from transforms.label_lists import Candidate, LabelList, concat, label_list, system_prior
from transforms.make_samples_facts import QueryFacts
from transforms.make_samples_life import DAY_MS, Life, Searched, clicked_hints, day_of

DirectLabels = Literal["paper", "with_searches"]
CaseMoments = Literal["exposures", "searches"]
MOST_TERMS = 16
"""Content words of a behaviour or a query that agreement looks at: all of a usual title."""


@dataclass(frozen=True)
class SampleRules:
    """What is a sample."""

    test_from_ms: int
    """Begin of the first test day; train is what lies before."""
    direct_labels: DirectLabels = "paper"
    """paper: eq. 3, clicks and the ranker's list. with_searches (ours): also what was then searched by themselves."""
    search_ms: int = 2 * 3_600_000
    """So long after a home page a search by themselves is still a label of it (with_searches)."""
    list_length: int = 10
    cases: CaseMoments = "exposures"


@dataclass
class Made:
    direct: dict[Split, list[DirectSample]] = field(default_factory=lambda: {"train": [], "test": []})
    think: dict[Split, list[ThinkSample]] = field(default_factory=lambda: {"train": [], "test": []})
    cases: list[CaseRow] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def make_samples(life: Life, rules: SampleRules, facts: QueryFacts) -> Made:
    made = Made()
    made.dropped.update(life.dropped)
    for sample in _direct(life, rules, facts, made.dropped):
        made.direct[_split(sample.as_of_ms, rules)].append(sample)
    for sample in _think(life, rules, facts, made.dropped):
        made.think[_split(sample.as_of_ms, rules)].append(sample)
    made.cases += _cases(life, rules, made.dropped)
    return made


def _direct(life: Life, rules: SampleRules, facts: QueryFacts, dropped: Counter[str]) -> Iterator[DirectSample]:
    for page in life.pages:
        clicked = clicked_hints(page)
        searched: Sequence[Searched] = ()
        if rules.direct_labels == "with_searches":
            # No label of a train sample is searched on a test day.
            split_ms = rules.test_from_ms if page.time_ms < rules.test_from_ms else 1 << 62
            searched = _between(life.searches, page.time_ms, min(page.time_ms + rules.search_ms, split_ms))
        if not clicked and not searched:
            dropped["direct no_feedback"] += 1
            continue
        behaviours = life.behaviours_at(page.time_ms)
        if not behaviours:
            dropped["direct no_history"] += 1
            continue
        labels = label_list(
            concat(clicked, (each.query for each in searched), page.ranked),
            system_prior(page.ranked, page.scores),
            lambda candidate: normalise(candidate.query) in facts.category,
            rules.list_length,
        )
        if not labels.has_feedback:
            dropped["direct rare_feedback"] += 1
            continue
        profile = life.state_at(page.time_ms).profile
        yield DirectSample(
            user=life.user,
            exposure_id=page.id,
            as_of_ms=page.time_ms,
            profile=profile,
            behaviours=behaviours,
            prompt=build_prompt(profile, behaviours, page.time_ms),
            **labels._asdict(),
        )


def _think(life: Life, rules: SampleRules, facts: QueryFacts, dropped: Counter[str]) -> Iterator[ThinkSample]:
    for day_ms in sorted({day_of(each.time_ms) for each in (*life.pages, *life.searches)}):
        pages = [page for page in life.pages if day_of(page.time_ms) == day_ms]
        searches = _between(life.searches, day_ms, day_ms + DAY_MS)
        clicked = [hint for page in pages for hint in clicked_hints(page)]
        if not clicked and not searches:
            dropped["think no_feedback"] += 1
            continue
        as_of_ms = min(each.time_ms for each in (*pages, *searches))  # the first touch of the search entry
        behaviours = life.behaviours_at(as_of_ms)
        if not behaviours:
            dropped["think no_history"] += 1
            continue
        labels = think_labels(clicked, [each.query for each in searches], pages, behaviours, facts, rules.list_length)
        if not labels.has_feedback:
            dropped["think rare_feedback"] += 1
            continue
        profile = life.state_at(as_of_ms).profile
        yield ThinkSample(
            user=life.user,
            day=datetime.fromtimestamp(day_ms / 1000, UTC).strftime("%Y-%m-%d"),
            as_of_ms=as_of_ms,
            profile=profile,
            behaviours=behaviours,
            prompt=build_prompt(profile, behaviours, as_of_ms),
            **labels._asdict(),
        )


def think_labels(
    clicked: Sequence[str],
    searched: Sequence[str],
    pages: Sequence[Exposure],
    behaviours: Sequence[Behaviour],
    facts: QueryFacts,
    most: int,
    generated: Sequence[str] = (),
) -> LabelList:
    """AIGQ eq. 4. The day's ranker lists are one: a query counts with the best of its scores, and stands where that puts it.

    What the shopper clicked or searched stays; of what only widens the list (ranker, generated), what agrees with the history.
    """
    system: dict[str, float] = {}
    texts: dict[str, str] = {}
    for page in pages:
        for query, score in system_prior(page.ranked, page.scores).items():
            system[query] = max(score, system.get(query, 0.0))
        for query in page.ranked:
            texts.setdefault(normalise(query), query)
    ranked = [text for query, text in sorted(texts.items(), key=lambda pair: -system[pair[0]])]
    agreement = Agreement.with_history(behaviours)

    def admits(candidate: Candidate) -> bool:
        query = normalise(candidate.query)
        if query not in facts.category:
            return False
        return candidate.source in ("click", "search") or agreement.holds(query, facts.category[query])

    return label_list(concat(clicked, searched, ranked, generated), system, admits, most)


@dataclass(frozen=True)
class Agreement:
    """The filter in place of the paper's LLM: a query agrees with a history that holds a behaviour of its category or with one of its
    content words."""

    words: frozenset[str]
    categories: frozenset[str]

    @classmethod
    def with_history(cls, behaviours: Iterable[Behaviour]) -> "Agreement":
        behaviours = tuple(behaviours)
        words = {word for behaviour in behaviours for word in terms(behaviour.text, MOST_TERMS)}
        return cls(frozenset(words), frozenset(b.category for b in behaviours if b.category))

    def holds(self, query: str, category: str) -> bool:
        """`category`: of most clicks after the query, empty where there are none."""
        return category in self.categories or not self.words.isdisjoint(terms(query, MOST_TERMS))


def _cases(life: Life, rules: SampleRules, dropped: Counter[str]) -> Iterator[CaseRow]:
    if rules.cases == "searches":
        moments = [("", each.time_ms) for each in life.searches]
    else:
        moments = [(page.id, page.time_ms) for page in life.pages]
    for exposure_id, as_of_ms in moments:
        if as_of_ms < rules.test_from_ms:
            continue
        day_end = day_of(as_of_ms) + DAY_MS
        later = tuple(dict.fromkeys(each.normal for each in _between(life.searches, as_of_ms, day_end)))
        if not later:
            dropped["case no_search_follows"] += 1
            continue
        seen = life.behaviours_at(as_of_ms)
        if not seen and rules.cases == "searches":
            dropped["case no_history"] += 1
            continue
        clicked = (hint for page in life.pages if as_of_ms <= page.time_ms < day_end for hint in clicked_hints(page))
        profile = life.state_at(as_of_ms).profile
        case = Case(life.user, as_of_ms, profile, seen, later[0], later, tuple(dict.fromkeys(map(normalise, clicked))))
        yield CaseRow(exposure_id, case)


def _split(as_of_ms: int, rules: SampleRules) -> Split:
    return "train" if as_of_ms < rules.test_from_ms else "test"


def _between(searches: Sequence[Searched], from_ms: int, to_ms: int) -> Sequence[Searched]:
    """`from_ms` <= time < `to_ms`."""
    first = bisect_left(searches, from_ms, key=lambda each: each.time_ms)
    return searches[first : bisect_left(searches, to_ms, key=lambda each: each.time_ms)]
