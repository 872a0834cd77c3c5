"""From a behaviour log to what the model learns: history -> the next ten distinct queries of the same shopper, by interest.

Only the log is read, never the simulation's latent interests.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from inference.output import near_duplicates, normalise
from inference.prompt import MOST_BEHAVIOURS, answer, build_prompt
from schemas import Behaviour, BehaviourEvent

LIST_LENGTH = 10
SETTLE_MS = 3_000
"""A list is made so long after the newest behaviour (the trigger policy's settle)."""
SHORTEST_HISTORY = 3
FEWEST_SHOPPERS = 3
FEWEST_SHARE = 1 / 2_000
"""A label must have been searched by so many, and by this share of all: what few typed is mostly mistyped, and nobody wants it
as a hint. A share, because the longer a log, the more shoppers mistype a query alike."""


@dataclass(frozen=True)
class History:
    """One shopper's log, oldest first."""

    user: str
    profile: dict[str, str]
    behaviours: tuple[Behaviour, ...]


@dataclass(frozen=True)
class Case:
    """A moment at which a shopper's list is made. Everything in `seen` happened before `as_of_ms`, everything in `next` after."""

    user: str
    profile: dict[str, str]
    as_of_ms: int
    seen: tuple[Behaviour, ...]
    next: tuple[str, ...]
    """All later searches, as typed, by time."""

    def prompt(self, plain: bool = False) -> str:
        return build_prompt(self.profile, self.seen, self.as_of_ms, plain)


@dataclass(frozen=True)
class Sample:
    prompt: str
    answer: str


def histories(events: Iterable[BehaviourEvent]) -> list[History]:
    """`events` by time; shoppers in order of their first one."""
    behaviours: dict[str, list[Behaviour]] = defaultdict(list)
    profiles: dict[str, dict[str, str]] = {}
    for event in events:
        seen = behaviours[event.user]
        if event.kind == "search":
            seen.append(Behaviour(event.time_ms, len(seen), "search", event.query))
        elif event.item:
            seen.append(Behaviour(event.time_ms, len(seen), "click", event.item.title, event.item.category))
        profiles[event.user] = event.profile or profiles.get(event.user, {})
    return [History(user, profiles[user], tuple(seen)) for user, seen in behaviours.items()]


def cases(history: History, most: int, rng: Random, from_ms: int = 0) -> Iterator[Case]:
    """At most `most` moments of a shopper's life, drawn at random, not before `from_ms`."""
    behaviours = history.behaviours
    moments = [i for i, behaviour in enumerate(behaviours) if behaviour.time_ms >= from_ms]
    for i in sorted(rng.sample(moments, min(most, len(moments)))):
        as_of = behaviours[i].time_ms + SETTLE_MS
        seen = tuple(b for b in behaviours[: i + 1] if b.time_ms < as_of)
        later = tuple(b.text for b in behaviours[i + 1 :] if b.kind == "search" and b.time_ms > as_of)
        yield Case(history.user, history.profile, as_of, seen, later)


@dataclass(frozen=True)
class QueryFacts:
    """What a log tells of one query."""

    shoppers: int
    """How many searched it."""
    category: str
    """Leaf category of most clicks that follow it; empty where nobody clicked."""


def query_facts(log: Iterable[History]) -> dict[str, QueryFacts]:
    """Facts of every query that enough shoppers searched (FEWEST_SHOPPERS, FEWEST_SHARE), by its normal form."""
    everyone = 0
    shoppers: dict[str, int] = Counter()
    clicks: dict[str, Counter[str]] = defaultdict(Counter)
    for history in log:
        everyone += 1
        searched, query = set(), ""
        for behaviour in history.behaviours:
            if behaviour.kind == "search":
                query = normalise(behaviour.text)
                searched.add(query)
            else:
                clicks[query][behaviour.category] += 1
        shoppers.update(searched)
    return {
        query: QueryFacts(count, min(clicks[query], key=lambda c: (-clicks[query][c], c)) if clicks[query] else "")
        for query, count in shoppers.items()
        if count >= max(FEWEST_SHOPPERS, FEWEST_SHARE * everyone)
    }


def next_list(case: Case, facts: dict[str, QueryFacts]) -> tuple[str, ...] | None:
    """The label: the next ten known queries that differ from each other as the output parser wants it, by interest. None
    where the log ends before there are ten: a list of another length would teach the model to stop early.

    An interest is a leaf category; the one that is searched soonest stands first, and within it what most shoppers search,
    so that a list goes from broad to narrow and then on. In mere order of time a list wanders to and fro, and a small
    decoder that learns from such lists wanders in circles: none of its own had ten distinct queries.
    """
    found: list[str] = []
    words: list[frozenset[str]] = []
    for query in case.next:
        normal = normalise(query)
        these = frozenset(normal.split())
        if normal in facts and not any(near_duplicates(these, other) for other in words):
            found.append(query)
            words.append(these)
            if len(found) == LIST_LENGTH:
                return by_interest(found, facts)
    return None


def by_interest(queries: Sequence[str], facts: dict[str, QueryFacts]) -> tuple[str, ...]:
    first: dict[str, int] = {}
    for place, query in enumerate(queries):
        first.setdefault(facts[normalise(query)].category, place)

    def order(query: str) -> tuple[int, int, str]:
        fact = facts[normalise(query)]
        return first[fact.category], -fact.shoppers, query

    return tuple(sorted(queries, key=order))


def samples(log: Sequence[History], each: int, seed: int) -> Iterator[Sample]:
    """`each` moments of every shopper as training samples.

    The history is cut to a random length: newcomers come with three behaviours and regulars with twenty, and short samples
    let a fixed time see nearly twice as many.
    """
    facts = query_facts(log)
    rng = Random(f"samples {seed}")
    for history in log:
        for case in cases(history, each, rng):
            label = next_list(case, facts)
            shown = SHORTEST_HISTORY + int(rng.random() * (MOST_BEHAVIOURS + 1 - SHORTEST_HISTORY))
            if label:
                yield Sample(replace(case, seen=case.seen[-shown:]).prompt(), answer(label))
