"""What `aigq status` knows: two looks at store and log some seconds apart, so that it can say where things are going."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from serving.lateness import Lateness, lateness
from serving.pace import Pace, pace
from store.client import Applied, NamespaceMeta, ShopperStore

LEVEL_S = 5.0
"""A partition whose log clock is at most this old is level with its log: some records are always on their way."""
OTHER_CLOCK_S = 86_400.0
"""A log clock that is older than this at the end of its log is not the wall clock: an imported log, or no job has run since."""
WINDOW_S = 3_600
"""Lateness and outcomes are of this last time."""

AskEnds = Callable[[NamespaceMeta], Mapping[int, int] | None]
"""The ends of the topic's partitions now; empty where no broker was named, None where it does not answer."""


@dataclass(frozen=True)
class PartitionStatus:
    partition: int
    next_offset: int
    """Least over the shards: everything below is applied everywhere."""
    clock_ms: int
    age_s: float
    """Of the log clock, by the wall clock."""
    end_offset: int | None
    """End of the log, None where the broker was not asked."""
    lag: int | None
    """Records behind it."""

    @property
    def level(self) -> bool:
        return self.lag == 0 or self.age_s <= LEVEL_S

    @property
    def other_clock(self) -> bool:
        return self.lag == 0 and self.age_s > OTHER_CLOCK_S


@dataclass(frozen=True)
class QueueStatus:
    waiting: int
    leased: int
    low: int
    """Of low priority, beside `waiting`."""
    oldest_as_of_ms: int | None
    oldest_age_s: float
    """By the wall clock; 0 where none waits."""


@dataclass(frozen=True)
class Status:
    """What was seen at `seen_ms`."""

    namespace: str
    store: str
    """Its URL without a password."""
    meta: NamespaceMeta
    seen_ms: int
    broker_answers: bool
    """False only where one was asked and did not answer."""
    partitions: tuple[PartitionStatus, ...]
    queue: QueueStatus
    fired: int
    outcomes: dict[str, int]
    """Requests that ever ended."""
    last_hour: Lateness
    late_records: int = 0
    """Folded when progress had passed them already, since the namespace began (docs/sameness.md)."""
    watched_s: float = 0.0
    """Between the two looks; 0 where one was enough."""
    log_pace: Pace | None = None
    """None without a second look or without the log's ends."""
    queue_pace: Pace | None = None

    @property
    def other_clock(self) -> bool:
        return bool(self.partitions) and all(each.other_clock for each in self.partitions if each.clock_ms)


def read_status(store: ShopperStore, ends: AskEnds, watch_s: float = 0.0) -> Status | None:
    """None where no job has opened the namespace. With `watch_s` it looks twice, that far apart."""
    meta = store.pinned()
    if meta is None:
        return None
    first = _look(store, meta, ends(meta))
    if not watch_s:
        return first
    time.sleep(watch_s)
    return _moving(first, _look(store, meta, ends(meta)))


def _look(store: ShopperStore, meta: NamespaceMeta, ends: Mapping[int, int] | None) -> Status:
    now_ms = int(time.time() * 1000)
    by_partition: dict[int, list[Applied]] = {}
    for (_, partition), applied in store.progress().items():
        by_partition.setdefault(partition, []).append(applied)
    depth = store.depth()
    oldest = depth.oldest_as_of_ms
    return Status(
        namespace=store.namespace,
        store=store.calls.where,
        meta=meta,
        seen_ms=now_ms,
        broker_answers=ends is not None,
        partitions=tuple(
            _partition(partition, shards, (ends or {}).get(partition), now_ms)
            for partition, shards in sorted(by_partition.items())
        ),
        queue=QueueStatus(
            depth.waiting, depth.leased, depth.low, oldest, max(0.0, (now_ms - oldest) / 1000) if oldest else 0.0
        ),
        fired=store.fired(),
        outcomes=store.counts(),
        late_records=sum(store.clamped().values()),
        last_hour=lateness(store.outcomes(now_ms - WINDOW_S * 1000), now_ms - WINDOW_S * 1000),
    )


def _partition(partition: int, shards: list[Applied], end: int | None, now_ms: int) -> PartitionStatus:
    next_offset = min(applied.next_offset for applied in shards)
    clock_ms = max(applied.clock_ms for applied in shards)
    lag = None if end is None else max(0, end - next_offset)
    return PartitionStatus(partition, next_offset, clock_ms, (now_ms - clock_ms) / 1000, end, lag)


def _moving(before: Status, after: Status) -> Status:
    seconds = max(0.001, (after.seen_ms - before.seen_ms) / 1000)
    ended = sum(after.outcomes.values()) - sum(before.outcomes.values())
    open_now = after.queue.waiting + after.queue.leased + after.queue.low
    return replace(
        after,
        watched_s=round(seconds, 1),
        log_pace=_log_pace(before, after, seconds),
        queue_pace=pace(open_now, ended / seconds, (after.fired - before.fired) / seconds),
    )


def _log_pace(before: Status, after: Status, seconds: float) -> Pace | None:
    """Of all partitions together: one reader takes them in turn, so that within seconds one of them may not move at all."""
    was = {each.partition: each for each in before.partitions}
    read = arrived = backlog = 0
    for each in after.partitions:
        earlier = was.get(each.partition)
        if each.end_offset is None or each.lag is None or earlier is None or earlier.end_offset is None:
            return None
        read += max(0, each.next_offset - earlier.next_offset)
        arrived += max(0, each.end_offset - earlier.end_offset)
        backlog += 0 if each.level else each.lag
    return pace(backlog, read / seconds, arrived / seconds) if after.partitions else None
