"""Fires the changes that came due by the passing of time, of shoppers who are silent: by the log clock that is saved."""

from collections.abc import Mapping

from interest import TriggerPolicy, decode, due_ms, encode, expire
from store.client import Fired, ShopperStore, Stage, StateChange
from transforms import metrics
from transforms.track_interest import encode_change

MOST_DUE = 500
"""Shoppers of one shard and partition that are fired in one look: bounds the memory of a look."""


def fire_due(
    store: ShopperStore,
    policy: TriggerPolicy,
    clocks: Mapping[tuple[int, int], int],
    stage: Stage = "generate",
    requests: bool = True,
) -> tuple[int, int]:
    """One look at (shard, partition) -> progress. Returns how many states were moved and how many changes fired.

    requests: False moves the states and asks for no lists (a replay on the way to its window).
    Raises StoreUnavailable, WriterFenced.
    """
    due = {where: users for where, users in store.due_many(clocks, MOST_DUE).items() if users}
    if not due:
        return 0, 0
    changes: dict[tuple[int, int], list[StateChange]] = {}
    for (shard, partition), users in due.items():
        states = store.load(shard, users)
        changes[shard, partition] = [
            _expired(user, stored.token, stored.blob, clocks[shard, partition], policy, requests)
            for user, stored in zip(users, states, strict=True)
            if stored is not None
        ]
    moved = fired = 0
    for where, result in store.fire_many({w: c for w, c in changes.items() if c}, clocks, stage).items():
        if result.status != "saved":
            metrics.CONFLICTS.inc()  # the tracking has moved one, or the store went back; the next look sees what is now
            continue
        moved += len(changes[where])
        fired += sum(len(change.fired) for change in changes[where])
        metrics.REQUESTS.labels("conflated").inc(result.conflated)
    metrics.CHANGES.inc(fired)
    return moved, fired


def fire_all_due(store: ShopperStore, stage: Stage, requests: bool) -> int:
    """Fires everything that came due before the saved progress, by the policy that the namespace is pinned to. Returns how many
    changes fired."""
    pinned, total = store.pinned(), 0
    assert pinned is not None
    policy = TriggerPolicy.from_json(pinned.policy)
    while True:
        clocks = {where: applied.clock_ms for where, applied in store.progress().items()}
        moved, fired = fire_due(store, policy, clocks, stage, requests)
        total += fired
        if not moved:
            return total


def _expired(user: str, token: bytes, blob: bytes, clock_ms: int, policy: TriggerPolicy, requests: bool) -> StateChange:
    # Written even where nothing fired (another policy says later): the due time in the store is set right by it.
    state, changes = expire(decode(blob), user, clock_ms, policy)
    fired = tuple(Fired(change.run_id, change.as_of_ms, encode_change(change)) for change in changes if requests)
    return StateChange(user, token, encode(state), due_ms(state, policy), fired)
