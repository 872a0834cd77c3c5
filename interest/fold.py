"""The one rule: how an event, or time passing, moves a shopper's state, and when a change of interest comes due.

A change forms while enough of the interest has moved (`drift`) on enough new behaviours (`evidence`). It is due after a
quiet time (`settle`), at the latest after `max_wait`, never within `cooldown` of the last one. It fires when the log clock
has passed `due`; the request carries the behaviours as they were at `due`, and the interest is re-based at once. What the
model does later, or how long it takes, decides nothing here.

Events are folded in offset order, never sorted by time: sorting within a batch makes the result depend on the batching.
"""

from array import array
from hashlib import blake2b
from typing import NamedTuple

from msgspec.structs import replace

from interest.policy import TriggerPolicy
from interest.state import (
    KEY_BYTES,
    ROW_BYTES,
    State,
    behaviour_id,
    behaviours_of,
    characters,
    holds_id,
    key_of,
    row_of,
    without_unused,
)
from interest.weights import drift, reasons, rebased, trimmed, weigh
from schemas import BehaviourEvent, Change

FOLD_VERSION = 2
"""Raised with every change of a rule below. Pinned in the store's namespace; another version is adopted, never mixed."""

MOST_CATEGORIES = 64
"""Above the behaviours kept by default; when more have gathered, those without a behaviour are dropped."""


class Arrival(NamedTuple):
    """Where in the log an event stands."""

    partition: int
    offset: int
    clock_ms: int
    """The partition's log clock at this record: the running maximum of ingest time."""


class Step(NamedTuple):
    state: State
    changes: tuple[Change, ...]
    """What came due, oldest first (at most one before an event)."""
    outcome: str
    """folded, duplicate (offset or id seen before), too_late, before_erasure, erased, quarantined."""


class WrongPartition(Exception):
    """A shopper's events came in two partitions: order is lost, so the record is refused. Check the producer's partitioner."""


def fold(state: State, event: BehaviourEvent, arrival: Arrival, policy: TriggerPolicy) -> Step:
    """The state after `event`, and the changes that had come due before it.

    Raises WrongPartition where the shopper's earlier events came in another partition.
    """
    partition, offset, clock = arrival
    if partition != state.partition and state.partition >= 0:
        raise WrongPartition(f"shopper {event.user!r} is at home in partition {state.partition}, not {partition}")
    if offset <= state.offset:
        return Step(state, (), "duplicate")
    if state.broken_at >= 0 and event.kind != "erase":
        return Step(replace(state, offset=offset), (), "quarantined")
    state, changes = expire(state, event.user, clock, policy)
    if event.kind == "erase":
        erased = State(partition=partition, offset=offset, erased_ms=clock)
        return Step(erased, changes, "erased")

    time = min(max(event.time_ms, 0), clock)
    key = key_of(time, behaviour_id(event.id))
    if holds_id(state.rows, key):
        return Step(replace(state, partition=partition, offset=offset), changes, "duplicate")
    if state.erased_ms and time <= state.erased_ms:  # late or given again: what was forgotten stays so
        return Step(replace(state, partition=partition, offset=offset), changes, "before_erasure")
    if key <= state.floor or time < clock - policy.horizon_ms:
        return Step(replace(state, partition=partition, offset=offset), changes, "too_late")

    if event.kind == "search":
        text, category, weight = event.query, "", policy.search_weight
    else:
        assert event.item is not None, "the decoder lets no click without an item through"
        text, category, weight = event.item.title, event.item.category, policy.click_weight
    categories = state.categories if category in state.categories else (*state.categories, category)
    row = row_of(key, event.kind, categories.index(category), text)
    rows, texts, floor = _remember(state, row, text, clock, policy)
    if len(categories) > MOST_CATEGORIES:
        rows, categories = without_unused(rows, categories)
    base = array("d", state.base)
    parts, weights, reference = weigh(
        state.parts, array("d", state.weights), state.reference_ms, text, category, weight, time, policy
    )
    parts, weights = trimmed(parts, weights, len(base), policy)
    evidence = state.evidence + weight * 2.0 ** ((time - clock) / policy.half_life_ms)
    enough = evidence >= policy.evidence and drift(weights, base) >= policy.drift
    return Step(
        State(
            partition,
            offset,
            rows,
            texts,
            categories,
            floor,
            parts,
            weights.tobytes(),
            state.base,
            reference,
            evidence,
            (state.started_ms or clock) if enough else 0,
            clock if enough else 0,
            state.fired_ms,
            event.profile or state.profile,
            state.erased_ms,
        ),
        changes,
        "folded",
    )


def quarantine(state: State, arrival: Arrival) -> State:
    """The state of a shopper whose record broke the fold: kept as it was, and no event is folded in until it is mended."""
    return replace(state, partition=arrival.partition, offset=arrival.offset, started_ms=0, broken_at=arrival.offset)


def expire(state: State, user: str, clock_ms: int, policy: TriggerPolicy) -> tuple[State, tuple[Change, ...]]:
    """Time has passed: fires the forming change where the log clock lies beyond its `due`.

    An event at exactly `due` still belongs to the list, so `due` itself does not fire.
    """
    due = due_ms(state, policy)
    if due is None or clock_ms <= due:
        return state, ()
    weights, base = array("d", state.weights), array("d", state.base)
    change = Change(
        run_id=run_id(user, due, policy),
        user=user,
        as_of_ms=due,
        started_ms=state.started_ms,
        newest_ms=state.newest_ms,
        drift=drift(weights, base),
        evidence=state.evidence,
        reasons=reasons(state.parts, weights, base),
        trigger_version=policy.version,
        profile=state.profile,
        behaviours=tuple(behaviours_of(state)),
    )
    parts, weights, base = rebased(state.parts, weights)
    after = replace(
        state,
        parts=parts,
        weights=weights.tobytes(),
        base=base.tobytes(),
        evidence=0.0,
        started_ms=0,
        newest_ms=0,
        fired_ms=due,
    )
    return after, (change,)


def due_ms(state: State, policy: TriggerPolicy) -> int | None:
    """Log clock at which the forming change comes due; None where none forms."""
    if not state.started_ms:
        return None
    settled = min(state.newest_ms + policy.settle_ms, state.started_ms + policy.max_wait_ms)
    return max(settled, state.fired_ms + policy.cooldown_ms) if state.fired_ms else settled


def run_id(user: str, as_of_ms: int, policy: TriggerPolicy) -> str:
    """Names the run of a change: the same records and policy make the same id, in a replay too."""
    return blake2b(f"{user}\x1f{as_of_ms}\x1f{policy.version}".encode(), digest_size=8).hexdigest()


def _remember(state: State, row: bytes, text: str, clock: int, policy: TriggerPolicy) -> tuple[bytes, str, bytes]:
    """Rows and texts with one more, in order of (time, id), and the floor; the oldest go, by number and age, and raise it."""
    rows, texts, floor = state.rows, state.texts, state.floor
    at, key = len(rows), row[:KEY_BYTES]
    while at and rows[at - ROW_BYTES : at - ROW_BYTES + KEY_BYTES] > key:
        at -= ROW_BYTES
    if at == len(rows):  # nearly always
        rows, texts = rows + row, texts + text
    else:
        start = characters(rows[:at])
        rows, texts = rows[:at] + row + rows[at:], texts[:start] + text + texts[start:]
    excess = max(0, len(rows) - policy.behaviours_kept * ROW_BYTES)
    oldest_kept = key_of(max(0, clock - policy.horizon_ms), 0)
    while rows[excess : excess + KEY_BYTES] < oldest_kept and excess < len(rows):
        excess += ROW_BYTES
    if not excess:
        return rows, texts, floor
    trimmed = rows[excess - ROW_BYTES : excess - ROW_BYTES + KEY_BYTES]
    return rows[excess:], texts[characters(rows[:excess]) :], max(floor, trimmed)
