"""Seconds that a rebuild takes for a million events: fold, lists put back, independent count, and the move of the name.

`aigq rebuild --execute` over a filled topic and a results topic with a list for every second shopper, as one process from its
start to its end.
"""

import argparse
import logging
import time

from confluent_kafka import Producer

from bench.events import Stream, produce, shopper_events
from bench.progress import show_progress
from bench.result import ROOT, Target, write
from bench.servers import Servers, servers
from local import process
from local.topics import create_topics
from schemas import QueryRun
from schemas.codec import encoder_for
from store.client import ShopperStore
from store.namespaces import Namespaces
from store.operations import Operations

LOG = logging.getLogger(__name__)
CAUSE = "the log is folded once and counted once, on two cores shared with broker and store"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="prove that it runs: short, no figures to quote")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    show_progress()
    stream = Stream(*(30_000, 3_000) if options.small else (1_000_000, 100_000), options.seed)
    with servers() as at:
        create_topics(at.kafka.bootstrap, ("rebuilt",), partitions=4)
        create_topics(at.kafka.bootstrap, ("lists",), partitions=1)
        produce(at.kafka.bootstrap, "rebuilt", stream)
        lists = produce_lists(at, stream)
        began = time.monotonic()
        rebuild(at)
        seconds = time.monotonic() - began
        store = ShopperStore(at.valkey.url, "live")
        put_back = sum(1 for _ in store.scan_runs())
        assert Namespaces(store.calls).pointed_to("live") != "live"
        ((_, progress),) = Operations(store.calls).list()
    assert put_back == lists, f"{put_back} of {lists} lists were put back"
    figures = {
        "events": stream.events,
        "shoppers": stream.shoppers,
        "lists_put_back": lists,
        "seconds": round(seconds, 1),
        "seconds_by_phase": {
            name.removesuffix(" seconds"): count for name, count in progress.counts.items() if name.endswith(" seconds")
        },
    }
    target = Target("s_per_million_events", round(seconds / stream.events * 1e6, 1), "<= 150", CAUSE)
    write("rebuild", figures, [target], options.seed, options.small)


def produce_lists(at: Servers, stream: Stream) -> int:
    """A stored list for every second shopper of the stream, as of before the events. Returns how many."""
    users = sorted({event.user for event in shopper_events(stream)})[::2]
    encode = encoder_for(QueryRun)
    producer = Producer({"bootstrap.servers": at.kafka.bootstrap, "linger.ms": 20})
    for number, user in enumerate(users):
        queries = tuple(f"query {number} {place}" for place in range(10))
        run = QueryRun(f"{number:016x}", user, 1_600_000_000_000, queries, "m/1", 1, "1", "t", (), *[0] * 4, 200, 60)
        producer.produce("lists", encode(run), user.encode())
        producer.poll(0)
    producer.flush()
    return len(users)


def rebuild(at: Servers) -> None:
    """Runs the command to its end."""
    where = [
        f"--bootstrap={at.kafka.bootstrap}",
        "--topic=rebuilt",
        f"--store={at.valkey.url}",
        "--results_topic=lists",
    ]
    command = process.python("cli", "rebuild", "--execute", "--log_clock=ingest_ms", "--format=json", *where)
    child = process.start("rebuild", command, at.folder / "rebuild.log", cwd=ROOT)
    try:
        if (status := child.wait(1_800)) != 0:
            raise process.StartFailed(f"the rebuild ended with {status}:\n{child.log_tail(40)}")
    finally:
        child.kill()


if __name__ == "__main__":
    main()
