"""What archiving costs: bytes an event, how fast the job is alone, and what it takes from the live path beside it.

Real Kafka and Valkey, JSON events of 235 bytes. Alone: a filled topic into a local folder. Beside: events are offered at a fixed
rate, below what the live path can take, and the nearline job tracks them, with the archive job running and without, in turn.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path

import msgspec
import redis
from confluent_kafka import Producer

from bench import paired
from bench.events import Stream, produce, shopper_events
from bench.result import ROOT, Target, write
from bench.servers import Servers, servers
from bench.watched_job import saved_events
from local import process
from local.topics import create_topics
from store.client import ShopperStore
from transforms.archive_layout import EVENTS, facts_of, files_of

PARTITIONS = 4
OFFERED_PER_S = 10_000
WARM_UP = 200
ROLL_RECORDS = 20_000
"""A fifth of the default: files come often enough to tell the pace from their times. More files are more work, not less."""
READY_S = 120.0
Records = Sequence[tuple[bytes, bytes]]
"""(key, value)."""

CAUSES = {
    "bytes_per_event": "the events hold more text that does not repeat",
    "events_per_s": "decoding and Zstandard share two cores with the broker and the runner",
    "live_share_lost": "the archive job, the broker and the live path share two cores",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="prove that it runs: short, no figures to quote")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    stream = Stream(100_000 if options.small else 1_000_000, 100_000, options.seed)
    seconds, rounds = (3, 2) if options.small else (15, 3)
    with servers() as at:
        create_topics(at.kafka.bootstrap, ("filled",), PARTITIONS)
        produce(at.kafka.bootstrap, "filled", stream)
        events_per_s, size = archive_alone(at, stream.events)
        encode = msgspec.json.Encoder().encode
        offered = Stream(WARM_UP + OFFERED_PER_S * seconds, 20_000, options.seed + 1)
        records = [(event.user.encode(), encode(event)) for event in shopper_events(offered)]
        live: dict[bool, list[float]] = {False: [], True: []}
        for number in range(rounds):
            for beside in paired.in_turn([False, True], number):
                live[beside].append(live_events_per_s(at, f"live-{number}-{beside}".lower(), records, beside))
    kept = paired.ratio(live[True], live[False])
    figures = {
        "events": stream.events,
        "bytes_of_values_per_event": round(sum(len(value) for _, value in records) / len(records), 1),
        "offered_per_s": OFFERED_PER_S,
        "seconds_a_round": seconds,
        "live_events_per_s": {
            "alone": [round(each) for each in live[False]],
            "beside the archive job": [round(each) for each in live[True]],
        },
        "live_share_kept": kept.rounded(),
    }
    targets = [
        Target("bytes_per_event", round(size / stream.events, 1), "<= 90", CAUSES["bytes_per_event"]),
        Target("events_per_s", round(events_per_s), ">= 50000", CAUSES["events_per_s"]),
        Target("live_share_lost", round(max(0.0, 1 - kept.value), 4), "<= 0.1", CAUSES["live_share_lost"]),
    ]
    write("archive", figures, targets, options.seed, options.small)


def archive_job(at: Servers, topic: str, folder: Path, *more: str) -> process.Child:
    command = [
        *process.python("pipelines.archive", f"--bootstrap={at.kafka.bootstrap}", f"--archive={folder}"),
        *(f"--topic={topic}", "--exposure_topic=", "--results_topic=", f"--group=archive-{topic}"),
        *("--log_clock=ingest_ms", "--format=json", *more),
    ]
    return process.start("archive", command, at.folder / "archive.log", cwd=ROOT)


def archive_alone(at: Servers, events: int) -> tuple[float, int]:
    """(events a second, bytes of all files). The pace is that between the first file and the last: start-up is apart."""
    folder = at.folder / "alone"
    child = archive_job(at, "filled", folder, "--end=now", f"--roll_records={ROLL_RECORDS}")
    try:
        if (status := child.wait(1_800)) != 0:
            raise process.StartFailed(f"the archive job ended with {status}:\n{child.log_tail(40)}")
    finally:
        child.kill()
    files = sorted(files_of(str(folder), EVENTS), key=lambda file: Path(file.path).stat().st_mtime_ns)
    records = [facts_of(file).records for file in files]
    if sum(records) != events:
        raise AssertionError(f"{sum(records)} of {events} events were archived")
    first_s, last_s = (Path(file.path).stat().st_mtime_ns / 1e9 for file in (files[0], files[-1]))
    size = sum(file.size for file in files)
    shutil.rmtree(folder)
    return (events - records[0]) / (last_s - first_s), size


def live_events_per_s(at: Servers, topic: str, records: Records, beside: bool) -> float:
    """Events saved a second, from the first offered one to the last saved one, at `OFFERED_PER_S`."""
    redis.Redis.from_url(at.valkey.url).flushall()
    create_topics(at.kafka.bootstrap, (topic,), PARTITIONS)
    store, folder = ShopperStore(at.valkey.url, "bench-live"), at.folder / topic
    with ExitStack() as stack:
        live = [
            *process.python("pipelines.nearline", "--stages=track", f"--bootstrap={at.kafka.bootstrap}"),
            *(f"--topic={topic}", f"--store={at.valkey.url}", "--namespace=bench-live", "--start=earliest"),
            *("--log_clock=ingest_ms", "--format=json"),
        ]
        job = process.start("live", live, at.folder / "live.log", cwd=ROOT)
        stack.callback(job.stop, 30)
        running = [job]
        if beside:
            running.append(archive_job(at, topic, folder, "--roll_s=5"))
            stack.callback(running[-1].stop, 30)
        offer(at.kafka.bootstrap, topic, records[:WARM_UP])
        wait_until(running, lambda: saved(store) >= WARM_UP, "the warm-up's save")
        if beside:
            wait_until(running, lambda: bool(files_of(str(folder), EVENTS)), "the warm-up's file")
        began = time.monotonic()
        offer(at.kafka.bootstrap, topic, records[WARM_UP:])
        wait_until(running, lambda: saved(store) >= len(records), "the last save")
        return (len(records) - WARM_UP) / (time.monotonic() - began)


def saved(store: ShopperStore) -> int:
    return saved_events(store, dict.fromkeys(range(PARTITIONS), 0))


def offer(bootstrap: str, topic: str, records: Records) -> None:
    """Produces at the offered rate, a hundred times a second some."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 5})
    waiting, began = iter(records), time.monotonic()
    for tick in count(1):
        some = list(islice(waiting, OFFERED_PER_S // 100))
        for key, value in some:
            producer.produce(topic, value, key)
        producer.poll(0)
        if not some:
            break
        time.sleep(max(0.0, began + tick / 100 - time.monotonic()))
    producer.flush()


def wait_until(children: Sequence[process.Child], done, what: str) -> None:
    deadline = time.monotonic() + READY_S
    while not done():
        for child in children:
            if not child.running or time.monotonic() > deadline:
                raise process.StartFailed(f"{what} did not come within {READY_S:.0f} s:\n{child.log_tail(40)}")
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
