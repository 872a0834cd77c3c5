"""One shopper's records, and what they say: the state at any moment by the job's own fold, and what was searched by themselves."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from inference.output import normalise
from interest import EMPTY, Arrival, State, TriggerPolicy, WrongPartition, behaviours_of, fold, quarantine
from schemas import Behaviour, BehaviourEvent, Exposure

DAY_MS = 86_400_000
HINT_MS = 60_000
"""A search of a hint's query within this time after its page, where that hint was clicked, is not by themselves."""
NOTHING_DUE = TriggerPolicy(evidence=1e300)
"""A state's behaviours do not depend on what fires; so nothing does, which saves half of the fold's time."""


class Searched(NamedTuple):
    time_ms: int
    """Event time, clamped to the log clock."""
    query: str
    """As typed."""
    normal: str


class Clicked(NamedTuple):
    """A product."""

    time_ms: int
    category: str


@dataclass
class Records:
    """What the archive holds of a shopper."""

    user: str
    events: list[tuple[Arrival, BehaviourEvent]] = field(default_factory=list)
    pages: list[Exposure] = field(default_factory=list)


@dataclass(frozen=True)
class Life:
    """The same, understood. Nothing of before the shopper's newest erasure is in it but the states."""

    user: str
    pages: tuple[Exposure, ...]
    """Home pages by time, each once."""
    searches: tuple[Searched, ...]
    """By themselves, by time."""
    clicks: tuple[Clicked, ...]
    clocks: list[int]
    """Log clock of each record that was folded; never falls."""
    states: list[State]
    """After each of them."""
    dropped: Counter[str]
    """Records that count for nothing, by reason."""

    def state_at(self, time_ms: int) -> State:
        """As a live store that is level with the log holds it at this log clock: what arrived at `time_ms` or later is not in it."""
        before = bisect_left(self.clocks, time_ms)
        return self.states[before - 1] if before else EMPTY

    def behaviours_at(self, time_ms: int) -> tuple[Behaviour, ...]:
        return tuple(behaviours_of(self.state_at(time_ms)))


def life_of(records: Records) -> Life:
    """Folds a shopper's events in log order (and where a wrong partitioner spread them over partitions, as their clocks say)."""
    dropped: Counter[str] = Counter()
    clocks: list[int] = []
    states: list[State] = []
    searches: list[Searched] = []
    clicks: list[Clicked] = []
    state, erased_ms = EMPTY, -1
    for arrival, event in sorted(records.events, key=lambda pair: (pair[0].clock_ms, pair[0])):
        try:
            state, _, outcome = fold(state, event, arrival, NOTHING_DUE)
        except WrongPartition:  # a dead letter for the job
            dropped["event wrong_partition"] += 1
            continue
        except Exception:  # so is this one, and the job takes nothing more of this shopper
            state, outcome = quarantine(state, arrival), "broke_the_fold"
        clocks.append(arrival.clock_ms)
        states.append(state)
        time_ms = min(max(event.time_ms, 0), arrival.clock_ms)
        if outcome == "erased":
            erased_ms = arrival.clock_ms
        elif outcome != "folded":
            dropped[f"event {outcome}"] += 1
        elif event.kind == "search":
            searches.append(Searched(time_ms, event.query, normalise(event.query)))
        elif event.item is not None:
            clicks.append(Clicked(time_ms, event.item.category))
    pages = _distinct(records.pages, dropped)
    if erased_ms >= 0:
        kept = [page for page in pages if page.time_ms > erased_ms]
        dropped["exposure erased"] += len(pages) - len(kept)
        pages = kept
    own = by_themselves((s for s in searches if s.time_ms > erased_ms), pages)
    after = (click for click in clicks if click.time_ms > erased_ms)
    return Life(records.user, tuple(pages), tuple(sorted(own)), tuple(sorted(after)), clocks, states, dropped)


def by_themselves(searches: Iterable[Searched], pages: Sequence[Exposure]) -> list[Searched]:
    """Without those that a clicked hint began."""
    hinted: dict[str, list[int]] = defaultdict(list)
    for page in pages:
        for hint in clicked_hints(page):
            hinted[normalise(hint)].append(page.time_ms)
    return [
        each for each in searches if not any(0 <= each.time_ms - at <= HINT_MS for at in hinted.get(each.normal, ()))
    ]


def clicked_hints(page: Exposure) -> list[str]:
    """In the order in which they were logged; a place that the page does not have counts for nothing."""
    return [page.hints[place] for place in page.clicked if 0 <= place < len(page.hints)]


def day_of(time_ms: int) -> int:
    """Begin of the day (UTC)."""
    return time_ms - time_ms % DAY_MS


def _distinct(pages: Iterable[Exposure], dropped: Counter[str]) -> list[Exposure]:
    """A page that was logged when shown and again when clicked is one: the record with more clicks counts."""
    found: dict[str, Exposure] = {}
    for page in sorted(pages, key=lambda page: (page.time_ms, page.id, -len(page.clicked), page.clicked, page.hints)):
        known = found.get(page.id)
        if known is None or len(page.clicked) > len(known.clicked):
            found[page.id] = page
        dropped["exposure duplicate"] += known is not None
    return sorted(found.values(), key=lambda page: (page.time_ms, page.id))
