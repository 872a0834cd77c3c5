"""Runs a job of ours in a process of its own and watches it from outside: the store says how far it is, /proc what it holds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from bench.result import ROOT
from local import process
from store.client import ShopperStore

POLL_S = 0.05
WITHIN_S = 1_800


@dataclass(frozen=True)
class Sample:
    """One look at a running job."""

    at_s: float
    saved: int
    """Events that are saved in the store, over all partitions."""
    memory_mb: float
    """Resident memory of the job's processes together (the driver with its worker threads, the runner)."""


@dataclass(frozen=True)
class Watched:
    """A job's run over a topic, from its first saved batch to its last."""

    events: int
    changes: int
    samples: list[Sample]

    @property
    def seconds(self) -> float:
        """For all events, at the pace between the first and the last save (start-up is apart, the first batch too)."""
        first, last = self.samples[0], self.samples[-1]
        return (last.at_s - first.at_s) * self.events / (last.saved - first.saved)

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds

    @property
    def peak_mb(self) -> float:
        return max(sample.memory_mb for sample in self.samples)

    def memory_between(self, low: float, high: float) -> float:
        """Mean memory while the job was between these shares of the events, MB."""
        found = [s.memory_mb for s in self.samples if low <= s.saved / self.events <= high]
        return sum(found) / len(found)


def watch(name: str, command: Sequence[str], bootstrap: str, topic: str, store: ShopperStore, folder: Path) -> Watched:
    """Starts `command`, waits until the store has applied the topic to its end, ends it. Raises StartFailed if it ends early."""
    ends = end_offsets(bootstrap, topic)
    events, samples = sum(ends.values()), []
    child = process.start(name, command, folder / f"{name}.log", cwd=ROOT)
    try:
        deadline = time.monotonic() + WITHIN_S
        while not samples or samples[-1].saved < events:
            saved = saved_events(store, ends)
            if saved:
                samples.append(Sample(time.monotonic(), saved, memory_mb(child.pid)))
            if saved < events and not child.running and saved_events(store, ends) < events:
                raise process.StartFailed(f"{name} ended at {saved} of {events} events:\n{child.log_tail(40)}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name}: {saved} of {events} events after {WITHIN_S} s:\n{child.log_tail(40)}")
            time.sleep(POLL_S)
        # The other shards of the last batch follow within the same call; the job is stopped after them, not between.
        while child.running and saved_events(store, ends, furthest=min) < events and time.monotonic() < deadline:
            time.sleep(POLL_S)
    finally:
        child.stop(30)
    return Watched(events, store.fired(), samples)


def saved_events(store: ShopperStore, ends: dict[int, int], furthest: Callable[..., int] = max) -> int:
    """Events applied. The shards of a batch are saved in one call, so the furthest shard tells how far a partition is."""
    if not store.pinned():
        return 0  # the job has not opened the namespace yet
    return sum(furthest((a.next_offset for a in store.applied(partition).values()), default=0) for partition in ends)


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
            for partition in partitions
        }
    finally:
        consumer.close()


def memory_mb(root: int) -> float:
    """Resident memory of a process and all its descendants (the runner that a job starts is one), from /proc."""
    parents, pages = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        number = int(stat.parent.name)
        parents[number], pages[number] = int(fields[1]), int(fields[21])
    family = {root}
    while more := {number for number, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(pages.get(number, 0) for number in family) * 4096 / 2**20
