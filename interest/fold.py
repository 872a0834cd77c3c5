"""The one rule: how an event, or time passing, moves a shopper's state, and when a change of interest comes due.

A change forms while enough of the interest has moved (`drift`) on enough new behaviours (`evidence`). It is due after a
quiet time (`settle`), at the latest after `max_wait`, never within `cooldown` of the last one. It fires when the log clock
has passed `due`; the request carries the behaviours as they were at `due`, and the interest is re-based at once. What the
model does later, or how long it takes, decides nothing here.

Events are folded in offset order, never sorted by time: sorting within a batch makes the result depend on the batching.
"""

from hashlib import blake2b
from typing import NamedTuple

from msgspec.structs import replace

from interest.parts import shares
from interest.policy import TriggerPolicy
from interest.state import KEY_BYTES, State, behaviour_id, behaviours_of, holds_id, key_of, pack_text, repack
from schemas import BehaviourEvent, Change

FOLD_VERSION = 1
"""Raised with every change of a rule below. Pinned in the store's namespace; another version is adopted, never mixed."""

MOST_CATEGORIES = 64
"""Above the behaviours kept by default; when more have gathered, those without a behaviour are dropped."""
_REBASE_AFTER = 64
"""Half-lives after which weights get a new reference time: far from overflow (2^1023), rare enough to cost nothing."""


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
    """folded, duplicate (offset or id seen before), too_late, erased, quarantined."""


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
    id = behaviour_id(event.id)
    key = key_of(time, id)
    if holds_id(state.keys, id):
        return Step(replace(state, partition=partition, offset=offset), changes, "duplicate")
    if key <= state.floor or time < clock - policy.horizon_ms:
        return Step(replace(state, partition=partition, offset=offset), changes, "too_late")

    if event.kind == "search":
        text, category, weight = event.query, "", policy.search_weight
    else:
        assert event.item is not None, "the decoder lets no click without an item through"
        text, category, weight = event.item.title, event.item.category, policy.click_weight
    categories = state.categories if category in state.categories else (*state.categories, category)
    packed = pack_text(event.kind, categories.index(category), text)
    keys, texts, floor = _remember(state, key, packed, clock, policy)
    if len(categories) > MOST_CATEGORIES:
        texts, categories = repack(texts, categories)
    weights, reference = _weigh(state, text, category, weight, time, policy)
    evidence = state.evidence + weight * 2.0 ** ((time - clock) / policy.half_life_ms)
    enough = evidence >= policy.evidence and drift(weights, state.base) >= policy.drift
    return Step(
        State(
            partition,
            offset,
            keys,
            texts,
            categories,
            floor,
            weights,
            reference,
            state.base,
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
    now = _shares(state.weights)
    change = Change(
        run_id=run_id(user, due, policy),
        user=user,
        as_of_ms=due,
        started_ms=state.started_ms,
        newest_ms=state.newest_ms,
        drift=drift(state.weights, state.base),
        evidence=state.evidence,
        reasons=reasons(now, state.base),
        trigger_version=policy.version,
        profile=state.profile,
        behaviours=tuple(behaviours_of(state)),
    )
    return replace(state, base=now, evidence=0.0, started_ms=0, newest_ms=0, fired_ms=due), (change,)


def due_ms(state: State, policy: TriggerPolicy) -> int | None:
    """Log clock at which the forming change comes due; None where none forms."""
    if not state.started_ms:
        return None
    settled = min(state.newest_ms + policy.settle_ms, state.started_ms + policy.max_wait_ms)
    return max(settled, state.fired_ms + policy.cooldown_ms) if state.fired_ms else settled


def run_id(user: str, as_of_ms: int, policy: TriggerPolicy) -> str:
    """Names the run of a change: the same records and policy make the same id, in a replay too."""
    return blake2b(f"{user}\x1f{as_of_ms}\x1f{policy.version}".encode(), digest_size=8).hexdigest()


def drift(weights: dict[str, float], base: dict[str, float]) -> float:
    """Share of the interest that moved since `base`: total variation distance, 0 .. 1. Without a base all of it moved."""
    total = sum(weights.values())
    if not base or not total:
        return 1.0 if total else 0.0
    # Half the sum of absolute differences; what only `base` holds is its remaining share.
    moved, common, share_before = 0.0, 0.0, base.get
    for part, weight in weights.items():
        before = share_before(part, 0.0)
        gain = weight / total - before
        moved += gain if gain > 0.0 else -gain
        common += before
    return (moved + max(0.0, 1.0 - common)) / 2


def reasons(now: dict[str, float], base: dict[str, float], most: int = 3) -> tuple[str, ...]:
    """The parts that gained most, for people: `#Laptops +0.41`."""
    gains = sorted(((share - base.get(part, 0.0), part) for part, share in now.items()), key=lambda g: (-g[0], g[1]))
    return tuple(f"{part} {gain:+.2f}" for gain, part in gains[:most] if gain >= 0.005)


def _shares(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {part: weight / total for part, weight in weights.items()}


def _remember(
    state: State, key: bytes, text: str, clock: int, policy: TriggerPolicy
) -> tuple[bytes, tuple[str, ...], bytes]:
    """Behaviours with one more, in order of (time, id); the oldest go, by number and by age, and raise the floor."""
    keys, texts, floor = state.keys, state.texts, state.floor
    at = len(texts)
    while at and keys[(at - 1) * KEY_BYTES : at * KEY_BYTES] > key:
        at -= 1
    if at == len(texts):  # nearly always
        keys, texts = keys + key, (*texts, text)
    else:
        keys = keys[: at * KEY_BYTES] + key + keys[at * KEY_BYTES :]
        texts = (*texts[:at], text, *texts[at:])
    excess = max(0, len(texts) - policy.behaviours_kept)
    oldest_kept = key_of(max(0, clock - policy.horizon_ms), 0)
    while excess < len(texts) and keys[excess * KEY_BYTES : (excess + 1) * KEY_BYTES] < oldest_kept:
        excess += 1
    if not excess:
        return keys, texts, floor
    trimmed = keys[(excess - 1) * KEY_BYTES : excess * KEY_BYTES]
    return keys[excess * KEY_BYTES :], texts[excess:], max(floor, trimmed)


def _weigh(
    state: State, text: str, category: str, weight: float, time: int, policy: TriggerPolicy
) -> tuple[dict[str, float], int]:
    """Weights with one more behaviour, and the time they refer to."""
    weights, reference = dict(state.weights), state.reference_ms
    exponent = (time - reference) / policy.half_life_ms
    if exponent > _REBASE_AFTER or not weights:
        faded = 2.0**-exponent if weights else 1.0
        weights = {part: w * faded for part, w in weights.items()}
        reference, exponent = time, 0.0
    amount = weight * 2.0**exponent
    for part, share in shares(text, category, policy.category_share, policy.terms_per_behaviour):
        weights[part] = weights.get(part, 0.0) + amount * share
    if len(weights) > policy.interests_kept * 4 // 3:
        heaviest = sorted((-w, part) for part, w in weights.items())[: policy.interests_kept]
        weights = {part: -w for w, part in heaviest}
    return weights, reference
