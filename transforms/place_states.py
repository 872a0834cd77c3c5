"""Puts whole states into a fresh namespace: of a snapshot, or of a namespace with another number of shards."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from interest import TriggerPolicy, decode, due_ms
from store.client import Applied, NamespaceMismatch, ShardSave, ShopperStore, StateChange
from store.layout import shard_of

AT_ONCE = 300
"""States of one shard and partition in one save."""


def place_states(
    store: ShopperStore, states: Iterable[tuple[str, bytes]], applied: Mapping[int, Applied], policy: TriggerPolicy
) -> int:
    """(shopper, state) into `store`, which is opened, empty, and begun in stage `track`. A shopper may come twice. Returns how many.

    applied: by partition, up to where *all* states have been folded; one that is further skips what it holds already.
    Only the last save of a shard sets its applied offset (before, it is 0): after a crash in here, a job that is started on the
    namespace folds the log from offset 0, which is right and slow, or is refused where it no longer reaches back so far.

    Raises NamespaceMismatch where somebody else writes to the namespace.
    """
    placed = 0
    store.save_many([ShardSave(shard, p, 0, 0, 0, []) for shard in range(store.shards) for p in applied])
    waiting: dict[tuple[int, int], dict[str, StateChange]] = defaultdict(dict)
    for user, blob in states:
        state = decode(blob)
        where = shard_of(user, store.shards), state.partition
        waiting[where][user] = StateChange(user, b"", blob, due_ms(state, policy), (), state.erased_ms or None)
        if len(waiting[where]) == AT_ONCE:
            placed += _save(store, *where, list(waiting.pop(where).values()), Applied(0, 0))
    for shard in range(store.shards):
        for partition, at in applied.items():
            placed += _save(store, shard, partition, list(waiting.pop((shard, partition), {}).values()), at)
    return placed


def _save(store: ShopperStore, shard: int, partition: int, changes: list[StateChange], at: Applied) -> int:
    """Saves what is not there yet. Returns how many."""
    while True:
        result = store.save(shard, partition, 0, at.next_offset, at.clock_ms, changes)
        if result.status == "saved":
            return len(changes)
        if result.status != "conflict":
            raise NamespaceMismatch(
                f"namespace {store.namespace!r}: shard {shard} of partition {partition} is {result.status} of what puts states there "
                f"({result.applied}): somebody else writes to it. Stop that job, drop the namespace, and begin with a fresh one"
            )
        known = set(result.conflicts)
        changes = [change for number, change in enumerate(changes) if number not in known]
