"""Puts whole states into a fresh namespace: of another number of shards, or of a snapshot."""

from collections.abc import Iterable, Mapping

from interest import TriggerPolicy, decode, due_ms
from store.client import Applied, ShardSave, ShopperStore, StateChange
from store.layout import shard_of

AT_ONCE = 300
"""States of one shard and partition in one save."""


def place_states(
    store: ShopperStore, states: Iterable[tuple[str, bytes]], applied: Mapping[int, Applied], policy: TriggerPolicy
) -> int:
    """(shopper, state) into `store`, which is opened, empty, and begun in stage `track`. Returns how many.

    applied: by partition, up to where *all* states have been folded; one that is further skips what it holds already. Requests
    that had been fired are not part of states. A process that dies in here leaves a namespace to drop.
    """
    for partition, at in applied.items():
        store.save_many([_save(shard, partition, at, []) for shard in range(store.shards)])
    waiting: dict[tuple[int, int], list[StateChange]] = {}
    seen: set[str] = set()
    for user, blob in states:
        state = decode(blob)
        if user in seen or state.partition not in applied:
            continue
        seen.add(user)
        change = StateChange(user, b"", blob, due_ms(state, policy), (), state.erased_ms or None)
        where = shard_of(user, store.shards), state.partition
        batch = waiting.setdefault(where, [])
        batch.append(change)
        if len(batch) == AT_ONCE:
            store.save_many([_save(*where, applied[where[1]], waiting.pop(where))])
    store.save_many([_save(*where, applied[where[1]], changes) for where, changes in waiting.items()])
    return len(seen)


def _save(shard: int, partition: int, at: Applied, changes: list[StateChange]) -> ShardSave:
    return ShardSave(shard, partition, at.next_offset, at.next_offset, at.clock_ms, changes)
