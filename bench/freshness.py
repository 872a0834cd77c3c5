"""How long from a shopper's event to the readable list, at 200 events a second, settle and model apart.

The whole job on real servers, shoppers who play in real time. Apart are settle, which the policy chooses, and the model, whose time
is its own: an engine that answers at once stands in for it, because two cores could not generate for 200 events a second. The
list counts as readable when the broker has stamped its record on the results topic, which is written after the store.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.result import ROOT, Target, write
from bench.servers import Servers, servers
from bench.watched_job import end_offsets
from local import process
from local.topics import create_topics
from schemas import BehaviourEvent, QueryRun
from schemas.codec import encoder_for
from schemas.wire_avro import reader
from simulation.crowd import Crowd
from store.client import ShopperStore

EVENTS_PER_S = 200
encode_event = encoder_for(BehaviourEvent)
READY_S, DRAIN_S = 120.0, 60.0


@dataclass(frozen=True)
class Waits:
    """Of one list, seconds."""

    settle: float
    queue: float
    """From due to a worker's claim: progress of the log clock, expiry, polling."""
    model: float
    publish: float
    """From the model's answer to readable."""

    @property
    def ours(self) -> float:
        return self.queue + self.publish

    @property
    def total(self) -> float:
        return self.settle + self.queue + self.model + self.publish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="prove that it runs: 10 s of play, no figures to quote")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    seconds = 10 if options.small else 120
    with servers() as at:
        create_topics(at.kafka.bootstrap)
        waits, counts = play(at, Crowd(options.seed), seconds)
    p95 = float(np.percentile([wait.ours for wait in waits], 95))
    figures = {
        "events_per_s": EVENTS_PER_S,
        "seconds": seconds,
        "lists": len(waits),
        "requests_by_outcome": counts,
        "seconds_by_part": {
            "ours (all but settle and model)": spread([wait.ours for wait in waits]),
            "total": spread([wait.total for wait in waits]),
            "settle": spread([wait.settle for wait in waits]),
            "queue": spread([wait.queue for wait in waits]),
            "model (answers at once)": spread([wait.model for wait in waits]),
            "publish": spread([wait.publish for wait in waits]),
        },
    }
    cause = "the runner's rounds: progress, expiry and claim each wait for the next poll of their branch"
    write("freshness", figures, [Target("p95_s", round(p95, 3), "<= 0.5", cause)], options.seed, options.small)


def play(at: Servers, market: Crowd, seconds: float) -> tuple[list[Waits], dict[str, int]]:
    """Runs the job while shoppers play; the lists of all but the first, which only shows that everything is up."""
    store = ShopperStore(at.valkey.url)
    child = process.start(
        "job",
        process.python("bench.scripted_job", f"--bootstrap={at.kafka.bootstrap}", f"--store={at.valkey.url}"),
        at.folder / "job.log",
        cwd=ROOT,
    )
    producer = Producer({"bootstrap.servers": at.kafka.bootstrap, "partitioner": "murmur2_random", "linger.ms": 2})
    try:
        produce(producer, BehaviourEvent("first", "first", "search", int(time.time() * 1000), query="first of all"))
        wait_until(child, lambda: bool(store.pinned() and store.runs("first")), READY_S, "the first list")
        for event in market.live(EVENTS_PER_S, seconds):
            produce(producer, event)
        producer.flush()
        time.sleep(5)  # the last changes settle
        wait_until(child, lambda: not store.depth().waiting and not store.depth().leased, DRAIN_S, "the last lists")
        counts = store.counts()
    finally:
        child.stop(30)
    return [wait for user, wait in read_waits(at.kafka.bootstrap, "query-runs") if user != "first"], counts


def produce(producer: Producer, event: BehaviourEvent) -> None:
    producer.produce("behaviour", encode_event(event), event.user.encode())
    producer.poll(0)


def wait_until(child: process.Child, done: Any, within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        if not child.running or time.monotonic() > deadline:
            raise process.StartFailed(f"{what} did not come within {within_s:.0f} s:\n{child.log_tail(40)}")
        time.sleep(0.1)


def read_waits(bootstrap: str, topic: str) -> list[tuple[str, Waits]]:
    """(shopper, waits) of every list on the results topic."""
    ends = end_offsets(bootstrap, topic)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    decode, found = reader(QueryRun), []
    while len(found) < sum(ends.values()):
        for message in consumer.consume(1_000, 1.0):
            value = message.value()
            run = decode(value) if value else None
            assert isinstance(run, QueryRun), run
            found.append((run.user, _waits(run, message.timestamp()[1])))
    consumer.close()
    return found


def _waits(run: QueryRun, readable_ms: int) -> Waits:
    marks = (run.newest_ms, run.as_of_ms, run.claimed_ms, run.generated_ms, readable_ms)
    return Waits(*((after - before) / 1000 for before, after in pairwise(marks)))


def spread(values: list[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (50, 95, 99)} | {"max": round(max(values), 3)}


if __name__ == "__main__":
    sys.exit(main())
