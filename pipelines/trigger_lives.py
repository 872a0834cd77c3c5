"""What each trigger policy would have cost on a log, and what its lists would have hit: the count behind `aigq tune-trigger`.

An archive's events go through the fold under each policy (a sample of shoppers, whole lives). A **look** is a moment at which a shopper
saw the search box: an exposure, or, in an archive without any, each search. A look is a hit if the newest list that lay ready by then
held the first search by themselves that followed within the look's day. Only lists that some look would have read are generated, by
once for each prompt: policies share most of them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from inference.output import normalise
from inference.prompt import build_prompt
from interest import EMPTY, Arrival, State, TriggerPolicy, behaviours_of, expire, fold
from schemas import BehaviourEvent
from schemas.codec import Decoder
from schemas.validate import Rejection
from transforms.archive_layout import EVENTS, EXPOSURES, files_of

DAY_MS = 86_400_000
HINT_MS = 60_000
"""A search of a hint's words within this time after the click on it is the hint's, not the shopper's own."""
READY_MS = 1_000
"""From as-of to readable: progress, queue and model, as bench/results/freshness.json and generation.json have it."""
FOREVER_MS = 1 << 45

Lister = Callable[[Sequence[str]], Mapping[str, tuple[str, ...]]]
"""Prompts -> normalised queries of each; none for an output that is no list."""


class Trigger(NamedTuple):
    name: str
    policy: TriggerPolicy | None
    """None: a list at every event."""


class Request(NamedTuple):
    as_of_ms: int
    prompt: str


class Look(NamedTuple):
    time_ms: int
    next: str
    """The search that followed, normalised."""


@dataclass
class Life:
    """One shopper: what happened, and what each policy would have asked for."""

    events: int = 0
    days: set[int] = field(default_factory=set)
    looks: list[Look] = field(default_factory=list)
    requests: dict[str, list[Request]] = field(default_factory=lambda: defaultdict(list))
    """By the trigger's name, in order of as-of."""


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
    """The sampled shoppers' lives, in order of their names. Looks and requests before `from_ms` are left out, the interest is not.

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
    life = Life()
    for _, event in rows:
        if event.time_ms >= from_ms:
            life.events += 1
            life.days.add(event.time_ms // DAY_MS)
    searches = [
        (event.time_ms, normalise(event.query))
        for _, event in rows
        if event.kind == "search" and not _by_hint(event, clicked)
    ]
    looked_at = shown if shown is not None else [time for time, _ in searches[1:]]
    for time_ms in looked_at:
        following = next(((at, query) for at, query in searches if at >= time_ms), None)
        if time_ms >= from_ms and following and following[0] // DAY_MS == time_ms // DAY_MS:
            life.looks.append(Look(time_ms, following[1]))
    for name, policy in tried:
        made = _every_event(rows) if policy is None else _when_due(user, rows, policy)
        life.requests[name] = [request for request in made if request.as_of_ms >= from_ms]
    return life


def _when_due(user: str, rows: Sequence[tuple[Arrival, BehaviourEvent]], policy: TriggerPolicy) -> Iterator[Request]:
    state = EMPTY
    for arrival, event in rows:
        state, changes, _ = fold(state, event, arrival, policy)
        yield from (Request(c.as_of_ms, build_prompt(c.profile, c.behaviours, c.as_of_ms)) for c in changes)
    # What is due after the last event can hit nothing, but it costs.
    for change in expire(state, user, FOREVER_MS, policy)[1]:
        yield Request(change.as_of_ms, build_prompt(change.profile, change.behaviours, change.as_of_ms))


def _every_event(rows: Sequence[tuple[Arrival, BehaviourEvent]]) -> Iterator[Request]:
    state: State = EMPTY
    for arrival, event in rows:
        state = fold(state, event, arrival, TriggerPolicy()).state
        yield Request(arrival.clock_ms, build_prompt(state.profile, tuple(behaviours_of(state)), arrival.clock_ms))


def make_lists(lives: Iterable[Life], lister: Lister) -> dict[str, tuple[str, ...]]:
    """The lists that some look would read. An output that is no list leaves the one before it in place, so that is made next."""
    lists: dict[str, tuple[str, ...]] = {}
    read = [
        [request for request in requests if request.as_of_ms + READY_MS <= look.time_ms]
        for life in lives
        for requests in life.requests.values()
        for look in life.looks
    ]
    while read := [requests for ready in read if (requests := _not_yet_good(ready, lists))]:
        wanted = sorted({requests[-1].prompt for requests in read})
        made = lister(wanted)
        lists |= {prompt: made.get(prompt, ()) for prompt in wanted}
    return lists


def _not_yet_good(ready: list[Request], lists: Mapping[str, tuple[str, ...]]) -> list[Request]:
    """Without the newest ones that turned out to be no lists; empty where the newest left is one."""
    while ready and lists.get(ready[-1].prompt) == ():
        ready = ready[:-1]
    return [] if ready and lists.get(ready[-1].prompt) else ready


def hits(life: Life, name: str, lists: Mapping[str, tuple[str, ...]]) -> int:
    """Looks at which the newest good list held the next search."""
    ready = [r for r in life.requests[name] if lists.get(r.prompt)]
    found, at = 0, -1
    for look in life.looks:
        while at + 1 < len(ready) and ready[at + 1].as_of_ms + READY_MS <= look.time_ms:
            at += 1
        found += at >= 0 and look.next in lists[ready[at].prompt]
    return found


def _events(archive: str, decoder: Decoder, share: float) -> Iterator[tuple[Arrival, BehaviourEvent]]:
    """Of the sampled shoppers, in log order."""
    for file in files_of(archive, EVENTS):
        table = _table(file.path, ["offset", "clock_ms", "user", "value"])
        users = table.column("user").to_pylist()
        kept = [number for number, user in enumerate(users) if user is not None and _sampled(user, share)]
        table = table.take(kept)
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
    with FileSystems.open(path) as file:
        return pq.read_table(file, columns=columns)


def _by_hint(event: BehaviourEvent, clicked: Sequence[tuple[int, str]]) -> bool:
    query = normalise(event.query)
    return any(query == hint and 0 <= event.time_ms - at <= HINT_MS for at, hint in clicked)


def _sampled(user: str, share: float) -> bool:
    return int.from_bytes(blake2b(user.encode(), digest_size=4).digest()) < share * 2**32
