"""What the log says of each shopper, counted a second time: how far they were read, and how many behaviours are kept.

A rebuild is held to it before readers see it. On purpose it shares no rule with interest/: a slip there shows here.
"""

from bisect import insort
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

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
    """Counts batches of events, each partition's in offset order. Of all shoppers, or of a part of them: about 200 bytes a behaviour."""

    def __init__(self, policy: TriggerPolicy, part: int = 0, parts: int = 1):
        self._part, self._parts = part, parts
        self._most, self._horizon_ms = policy.behaviours_kept, policy.horizon_ms
        self._shoppers: dict[str, _Counted] = {}
        self._clocks: dict[int, int] = {}

    def add(self, batch: EventBatch) -> None:
        clock = self._clocks.get(batch.partition, 0)
        for offset, ingest_ms, event in zip(batch.offsets, batch.ingest_ms, batch.events, strict=True):
            clock = max(clock, ingest_ms)
            if not self.counts_of(event.user):
                continue
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

    def counts_of(self, user: str) -> bool:
        """Whether the shopper is of its part."""
        return self._parts == 1 or crc32(user.encode()) // 256 % self._parts == self._part

    def counts(self) -> dict[str, Count]:
        return {user: Count(each.partition, each.offset, len(each.kept)) for user, each in self._shoppers.items()}


class Differences(NamedTuple):
    """A namespace against a count of the log."""

    wrong: list[str]
    """Where the store holds something else, a line a shopper; some of them."""
    broken: list[str]
    """Shoppers in quarantine: what the store holds of them is not compared."""


def differences(store: ShopperStore, count: Recount) -> Differences:
    """Of the shoppers of the count's part."""
    counts, wrong, broken, seen = count.counts(), list[str](), list[str](), set[str]()
    for user, stored in store.scan_states():
        if user in seen or not count.counts_of(user):
            continue
        seen.add(user)
        state = decode(stored.blob)
        held, counted = count_of(state), counts.get(user)
        if state.broken_at >= 0:
            broken.append(user)
        elif held != counted:
            wrong.append(f"{user}: the store holds {held}, the log has {counted}")
    wrong += (f"{user}: no state, the log has {counts[user]}" for user in counts.keys() - seen)
    return Differences(wrong, broken)


def count_of(state: State) -> Count:
    return Count(state.partition, state.offset, len(state.rows) // ROW)
