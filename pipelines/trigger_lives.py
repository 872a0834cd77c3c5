"""What each trigger policy would have cost on a log, and what its lists would have hit: the count behind `aigq tune-trigger`.

An archive's events go through the fold under each policy (a sample of shoppers, whole lives). A **look** is a moment at which a shopper
saw the search box: an exposure, or, in an archive without any, each search. A look is a hit if the newest list that lay ready by then
held the first search by themselves that followed within the look's day. Only lists that some look would have read are made.

A request is a moment and how much of the shopper's life had been folded by then: what a list is made from does not depend on the policy.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from inference.output import normalise
from interest import EMPTY, Arrival, State, TriggerPolicy, behaviours_of, expire, fold
from schemas import BehaviourEvent
from schemas.codec import Decoder
from schemas.validate import Rejection
from training.log import Case
from transforms.archive_layout import EVENTS, EXPOSURES, files_of
from transforms.files import open_file

DAY_MS = 86_400_000
HINT_MS = 60_000
"""A search of a hint's words within this time after the click on it is the hint's, not the shopper's own."""
READY_MS = 1_000
"""From as-of to readable: progress, queue and model, as bench/results/freshness.json and generation.json have it."""
FOREVER_MS = 1 << 45
WARM_MS = 7 * DAY_MS
"""So long before the count begins a policy takes over from the default: of what the default decided, 14 half-lives later nothing is left."""

Lister = Callable[[Sequence[Case]], Sequence[tuple[str, ...]]]
"""Moments -> normalised queries of each; none for an output that is no list. A case's truth is empty."""


class Trigger(NamedTuple):
    name: str
    policy: TriggerPolicy | None
    """None: a list at every event."""


class Request(NamedTuple):
    as_of_ms: int
    events: int
    """Of the shopper, in log order, that had been folded: the list is made from them."""


class Look(NamedTuple):
    time_ms: int
    next: str
    """The search that followed, normalised."""


@dataclass
class Life:
    """One shopper: what happened, and what each policy would have asked for."""

    user: str
    from_ms: int = 0
    """From here on it is counted; lists that were made before may still be read."""
    events: int = 0
    days: set[int] = field(default_factory=set)
    looks: list[Look] = field(default_factory=list)
    searches: list[Look] = field(default_factory=list)
    """Searches by themselves, each at its own moment: the harder looks, seconds after the event before."""
    states: list[State] = field(default_factory=list)
    """After each event."""
    requests: dict[str, list[Request]] = field(default_factory=lambda: defaultdict(list))
    """By the trigger's name, in order of as-of."""

    def lists_made(self, name: str) -> int:
        return sum(request.as_of_ms >= self.from_ms for request in self.requests[name])

    def case(self, request: Request) -> Case:
        """What a list is made from."""
        state = self.states[request.events - 1] if request.events else EMPTY
        return Case(self.user, request.as_of_ms, state.profile, tuple(behaviours_of(state)), "", ())


Lists = Mapping[tuple[str, Request], tuple[str, ...]]
"""(shopper, request) -> normalised queries; none for an output that is no list."""


def triggers(base: TriggerPolicy, drifts: Sequence[float], pauses_s: Sequence[tuple[float, float]]) -> list[Trigger]:
    """A list an event, a list a session, and `base` with each drift under each (settle, cooldown), in seconds."""
    session = replace(
        base, drift=1e-9, evidence=1e-9, settle_ms=base.session_gap_ms, max_wait_ms=FOREVER_MS, cooldown_ms=0
    )
    swept = [
        Trigger(
            f"drift {drift:g}, settle {settle:g} s, cooldown {cooldown:g} s",
            replace(
                base,
                drift=drift,
                settle_ms=int(1_000 * settle),
                max_wait_ms=max(base.max_wait_ms, int(5_000 * settle)),
                cooldown_ms=int(1_000 * cooldown),
            ),
        )
        for settle, cooldown in pauses_s
        for drift in drifts
    ]
    return [Trigger("every event", None), Trigger("every session", session), *swept]


def lives_of(archive: str, decoder: Decoder, tried: Sequence[Trigger], share: float, from_ms: int = 0) -> list[Life]:
    """The sampled shoppers' lives, in order of their names. Looks before `from_ms` are left out and lists before it cost nothing.

    `share`: of the shoppers, chosen by a hash of their names, so that every policy and every run has the same.
    """
    shown, clicked = _exposures(archive, share)
    events: dict[str, list[tuple[Arrival, BehaviourEvent]]] = defaultdict(list)
    for arrival, event in _events(archive, decoder, share):
        events[event.user].append((arrival, event))
    return [
        life_of(user, rows, tried, shown[user] if shown else None, clicked[user], from_ms)
        for user, rows in sorted(events.items())
    ]


def life_of(
    user: str,
    rows: Sequence[tuple[Arrival, BehaviourEvent]],
    tried: Sequence[Trigger],
    shown: Sequence[int] | None,
    clicked: Sequence[tuple[int, str]],
    from_ms: int = 0,
) -> Life:
    """One shopper's life. `rows` in log order; `shown`: times of exposures, None where the log has none; `clicked`: (time, normalised hint)."""
    life = Life(user, from_ms)
    for _, event in rows:
        if event.time_ms >= from_ms:
            life.events += 1
            life.days.add(event.time_ms // DAY_MS)
    searches = [
        (event.time_ms, normalise(event.query))
        for _, event in rows
        if event.kind == "search" and not _by_hint(event, clicked)
    ]
    # At the very first search of a log nothing can have been made.
    life.searches = [Look(*search) for search in searches[1:] if search[0] >= from_ms]
    life.looks = life.searches if shown is None else list(_looks(shown, searches, from_ms))
    life.states, made = _by_default(user, rows)
    start = sum(arrival.clock_ms < from_ms - WARM_MS for arrival, _ in rows)
    before = [request for request in made if request.events < start]
    for name, policy in tried:
        if policy == TriggerPolicy():
            life.requests[name] = made
        else:
            asked = _every_event(rows, start) if policy is None else _when_due(user, rows, life, start, policy)
            life.requests[name] = [*before, *asked]
    return life


def _looks(shown: Sequence[int], searches: Sequence[tuple[int, str]], from_ms: int) -> Iterator[Look]:
    for time_ms in shown:
        following = next(((at, query) for at, query in searches if at >= time_ms), None)
        if time_ms >= from_ms and following and following[0] // DAY_MS == time_ms // DAY_MS:
            yield Look(time_ms, following[1])


def _by_default(user: str, rows: Sequence[tuple[Arrival, BehaviourEvent]]) -> tuple[list[State], list[Request]]:
    """The states after each event, and what the default policy asked for."""
    state, states, requests = EMPTY, [], []
    for folded, (arrival, event) in enumerate(rows):
        state, changes, _ = fold(state, event, arrival, TriggerPolicy())
        states.append(state)
        requests += [Request(change.as_of_ms, folded) for change in changes]
    return states, requests + _at_last(user, state, len(rows), TriggerPolicy())


def _when_due(
    user: str, rows: Sequence[tuple[Arrival, BehaviourEvent]], life: Life, start: int, policy: TriggerPolicy
) -> Iterator[Request]:
    """From the row `start` on."""
    state = life.states[start - 1] if start else EMPTY
    for folded, (arrival, event) in enumerate(rows[start:], start):
        state, changes, _ = fold(state, event, arrival, policy)
        yield from (Request(change.as_of_ms, folded) for change in changes)
    yield from _at_last(user, state, len(rows), policy)


def _at_last(user: str, state: State, events: int, policy: TriggerPolicy) -> list[Request]:
    """What is due after the last event can hit nothing, but it costs."""
    return [Request(change.as_of_ms, events) for change in expire(state, user, FOREVER_MS, policy)[1]]


def _every_event(rows: Sequence[tuple[Arrival, BehaviourEvent]], start: int) -> Iterator[Request]:
    return (Request(arrival.clock_ms, folded) for folded, (arrival, _) in enumerate(rows[start:], start + 1))


def make_lists(lives: Iterable[Life], lister: Lister) -> Lists:
    """The lists that some look would read. An output that is no list leaves the one before it in place, so that is made next."""
    lists: dict[tuple[str, Request], tuple[str, ...]] = {}
    read = {
        (life.user, name, count): life
        for life in lives
        for name in life.requests
        for count in set(_ready(life, name))
        if count
    }
    while read:
        wanted = {(user, life.requests[name][count - 1]): life for (user, name, count), life in read.items()}
        missing = [key for key in wanted if key not in lists]
        cases = [wanted[key].case(key[1]) for key in missing]
        lists.update(zip(missing, lister(cases), strict=True))
        read = {
            (user, name, count - 1): life
            for (user, name, count), life in read.items()
            if count > 1 and not lists[user, life.requests[name][count - 1]]
        }
    return lists


def hits(life: Life, name: str, lists: Lists) -> int:
    """Looks at which the newest good list held the next search."""
    requests, found = life.requests[name], 0
    for look, count in zip(life.looks, _ready(life, name), strict=True):
        good = next((made for r in reversed(requests[:count]) if (made := lists.get((life.user, r)))), ())
        found += look.next in good
    return found


def lists_read(lives: Iterable[Life], name: str) -> float:
    """Share of the lists made that some look reads: who knew when shoppers look would need no more."""
    read = made = 0
    for life in lives:
        requests = life.requests[name]
        newest = {requests[count - 1] for count in _ready(life, name) if count}
        read += sum(request.as_of_ms >= life.from_ms for request in newest)
        made += life.lists_made(name)
    return read / max(1, made)


def _ready(life: Life, name: str) -> list[int]:
    """At each look, how many of the policy's lists lay ready."""
    as_of_ms = [request.as_of_ms for request in life.requests[name]]
    return [bisect_right(as_of_ms, look.time_ms - READY_MS) for look in life.looks]


def _events(archive: str, decoder: Decoder, share: float) -> Iterator[tuple[Arrival, BehaviourEvent]]:
    """Of the sampled shoppers, in log order."""
    for file in files_of(archive, EVENTS):
        table = _table(file.path, ["offset", "clock_ms", "user", "value"])
        users = table.column("user").to_pylist()
        kept = [number for number, user in enumerate(users) if user is not None and _sampled(user, share)]
        table = table.take(pa.array(kept, pa.int64()))
        for offset, clock_ms, event in zip(
            table.column("offset").to_pylist(),
            table.column("clock_ms").to_pylist(),
            decoder.decode(table.column("value").to_pylist()),
            strict=True,
        ):
            if type(event) is not Rejection:
                yield Arrival(file.partition, offset, clock_ms), event


def _exposures(archive: str, share: float) -> tuple[dict[str, list[int]], dict[str, list[tuple[int, str]]]]:
    """Times at which each sampled shopper was shown hints, and the hints that were clicked."""
    shown: dict[str, list[int]] = defaultdict(list)
    clicked: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for file in files_of(archive, EXPOSURES):
        for row in _table(file.path, ["user", "time_ms", "hints", "clicked"]).to_pylist():
            if row["user"] is not None and _sampled(row["user"], share):
                shown[row["user"]].append(row["time_ms"])
                clicked[row["user"]] += [(row["time_ms"], normalise(row["hints"][place])) for place in row["clicked"]]
    return shown, clicked


def _table(path: str, columns: list[str]) -> pa.Table:
    with open_file(path) as file:
        return pq.read_table(file, columns=columns)


def _by_hint(event: BehaviourEvent, clicked: Sequence[tuple[int, str]]) -> bool:
    query = normalise(event.query)
    return any(query == hint and 0 <= event.time_ms - at <= HINT_MS for at, hint in clicked)


def _sampled(user: str, share: float) -> bool:
    return int.from_bytes(blake2b(user.encode(), digest_size=4).digest()) < share * 2**32
