"""What the log says of each shopper, counted a second time: how far they were read, and how many behaviours are kept.

A rebuild is held to it before readers see it. On purpose it shares no rule with interest/: a slip there shows here.
"""

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from interest import State, TriggerPolicy, decode
from store.client import ShopperStore
from transforms.batches import EventBatch

ROW = 16
"""Bytes of a behaviour in a stored state (interest/state.py)."""


class Count(NamedTuple):
    """Of one shopper."""

    partition: int
    offset: int
    """Of the newest record."""
    behaviours: int


@dataclass
class _Counted:
    partition: int
    offset: int = -1
    erased_ms: int = -1
    """Log clock at which the shopper asked to be forgotten."""
    kept: list[tuple[int, bytes]] = field(default_factory=list)
    """(time, id) of the behaviours, in order."""
    trimmed: tuple[int, bytes] = (-1, b"")
    """The newest that is not kept any more."""


class Recount:
    """Counts batches of events, each partition's in offset order."""

    def __init__(self, policy: TriggerPolicy):
        self._most, self._horizon_ms = policy.behaviours_kept, policy.horizon_ms
        self._shoppers: dict[str, _Counted] = {}
        self._clocks: dict[int, int] = {}

    def add(self, batch: EventBatch) -> None:
        clock = self._clocks.get(batch.partition, 0)
        for offset, ingest_ms, event in zip(batch.offsets, batch.ingest_ms, batch.events, strict=True):
            clock = max(clock, ingest_ms)
            shopper = self._shoppers.setdefault(event.user, _Counted(batch.partition))
            if shopper.partition != batch.partition:
                continue  # a dead letter: the shopper is at home elsewhere
            shopper.offset = offset
            if event.kind == "erase":
                shopper.kept, shopper.trimmed, shopper.erased_ms = [], (-1, b""), clock
                continue
            key = (min(event.time_ms, clock), blake2b(event.id.encode(), digest_size=6).digest())
            known = any(id == key[1] for _, id in shopper.kept)
            if known or key[0] <= shopper.erased_ms or key <= shopper.trimmed or key[0] < clock - self._horizon_ms:
                continue
            insort(shopper.kept, key)
            while len(shopper.kept) > self._most or shopper.kept[0][0] < clock - self._horizon_ms:
                shopper.trimmed = max(shopper.trimmed, shopper.kept.pop(0))
        self._clocks[batch.partition] = clock

    def counts(self) -> dict[str, Count]:
        return {user: Count(each.partition, each.offset, len(each.kept)) for user, each in self._shoppers.items()}


def differences(store: ShopperStore, counts: dict[str, Count], users: Iterable[str] = ()) -> Iterator[str]:
    """Where the store holds something else than was counted, one line a shopper. `users`: only those; else all."""
    states = store.states(tuple(users)).items() if users else store.scan_states()
    seen = set()
    for user, stored in states:
        seen.add(user)
        state = decode(stored.blob)
        held, counted = count_of(state), counts.get(user)
        if held != counted and state.broken_at < 0:  # a shopper in quarantine has a letter that says so
            yield f"{user}: the store holds {held}, the log has {counted}"
    for user in (set(users) or counts.keys()) - seen:
        if user in counts:
            yield f"{user}: no state, the log has {counts[user]}"


def count_of(state: State) -> Count:
    return Count(state.partition, state.offset, len(state.rows) // ROW)
