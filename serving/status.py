"""`aigq status`: how the job is doing, in one screen, and what needs attention."""

import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from store.client import Applied, Depth, NamespaceMeta, ShopperStore

LATE_S = 30.0
"""Progress that is older than this in a live log needs attention: the job is down, or behind."""


@dataclass(frozen=True)
class PartitionStatus:
    partition: int
    next_offset: int
    """Least over the shards: everything below is applied everywhere."""
    clock_ms: int
    end_offset: int | None
    """End of the log, None where the broker was not asked."""

    @property
    def lag(self) -> int | None:
        return None if self.end_offset is None else max(0, self.end_offset - self.next_offset)


@dataclass(frozen=True)
class Status:
    meta: NamespaceMeta
    partitions: tuple[PartitionStatus, ...]
    depth: Depth
    fired: int
    outcomes: dict[str, int]

    def attention(self, now_ms: int) -> list[str]:
        """What an on-call should look at, each with what to do; empty in a healthy system."""
        found = []
        ended = sum(self.outcomes.values())
        if not self.partitions:
            found.append("nothing has been tracked yet: is the job running, and does it read this topic?")
        for each in self.partitions:
            age_s = (now_ms - each.clock_ms) / 1000
            if age_s > LATE_S and each.lag != 0:
                behind = "" if each.lag is None else f", {each.lag:,} records"
                found.append(
                    f"partition {each.partition} is {age_s:,.0f} s{behind} behind: is the track stage running?"
                )
        if self.depth.oldest_as_of_ms and now_ms - self.depth.oldest_as_of_ms > LATE_S * 1000:
            age_s = (now_ms - self.depth.oldest_as_of_ms) / 1000
            found.append(f"the oldest request waits {age_s:,.0f} s: look at the engine (/metrics: aigq_engine_state)")
        if ended >= 100 and self.outcomes.get("malformed", 0) > 0.05 * ended:
            found.append(
                f"{self.outcomes['malformed']:,} of {ended:,} requests ended malformed: is the model the right one?"
            )
        if self.outcomes.get("exhausted"):
            found.append(f"{self.outcomes['exhausted']:,} requests failed in all attempts: their dead letters say why")
        return found


def read_status(store: ShopperStore, end_offsets: dict[int, int]) -> Status | None:
    """None where no job has opened the namespace."""
    meta = store.pinned()
    if meta is None:
        return None
    by_partition: dict[int, list[Applied]] = {}
    for (_, partition), applied in store.progress().items():
        by_partition.setdefault(partition, []).append(applied)
    partitions = tuple(
        PartitionStatus(
            partition,
            min(applied.next_offset for applied in shards),
            max(applied.clock_ms for applied in shards),
            end_offsets.get(partition),
        )
        for partition, shards in sorted(by_partition.items())
    )
    return Status(meta, partitions, store.depth(), store.fired(), store.counts())


def show_status(store: ShopperStore, end_offsets: dict[int, int]) -> int:
    """Prints the screen; returns 1 where something needs attention, else 0."""
    console, now_ms = Console(), int(time.time() * 1000)
    status = read_status(store, end_offsets)
    if status is None:
        console.print(f"no job has opened namespace {store.namespace!r} of this store", style="red")
        return 1
    meta = status.meta
    console.print(
        f"namespace [bold]{store.namespace}[/]: topic {meta.topic}, {meta.partitions} partitions ({meta.partitioner}), "
        f"{meta.shards} shards, fold {meta.fold_version}, trigger policy {meta.policy_digest}"
    )
    table = Table("partition", "applied up to", "behind (records)", "log clock", "its age (s)")
    for each in status.partitions:
        clock = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(each.clock_ms / 1000))
        lag = "-" if each.lag is None else f"{each.lag:,}"
        table.add_row(
            str(each.partition), f"{each.next_offset:,}", lag, clock, f"{(now_ms - each.clock_ms) / 1000:,.1f}"
        )
    console.print(table)
    oldest = status.depth.oldest_as_of_ms
    age = f", the oldest {(now_ms - oldest) / 1000:,.1f} s old" if oldest else ""
    console.print(
        f"requests: {status.fired:,} fired; {status.depth.waiting:,} wait{age}; {status.depth.leased:,} at the model"
    )
    console.print("ended: " + "  ".join(f"{name} {count:,}" for name, count in status.outcomes.items()))
    attention = status.attention(now_ms)
    console.print("\n".join(attention) or "nothing needs attention", style="red" if attention else "green")
    return 1 if attention else 0
