"""Events a second from Kafka to saved state and decision: the nearline job against a bare loop, Quix Streams and Bytewax.

All read the same topic with the same decoder and the same `fold` on the same encoded state, one process each, in turn, round by
round; all must decide the same number of changes. Then the job alone over ten times the events, for growth and memory.
"""

import argparse
import logging
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import redis

from bench import paired
from bench.events import Stream, produce
from bench.peers.environment import run_peer
from bench.progress import show_progress
from bench.result import Target, write
from bench.servers import Servers, servers
from bench.stopwatch import Measured
from bench.watched_job import Watched, watch
from local import process
from local.topics import create_topics
from store.client import ShopperStore

LOG = logging.getLogger(__name__)

DURABILITY = {
    "nearline": "state, applied offset and request saved in Valkey in one step a batch and shard, append-only file fsynced each "
    "second; a kill of the job loses and doubles nothing",
    "loop": "as nearline, without a runner, dead letters or supervision",
    "quix": "RocksDB on local disk and offsets at each checkpoint (5 s); no changelog topic, so the disk is the only copy",
    "bytewax": "none: state in memory, no recovery store",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--small", action="store_true", help="prove that it runs: two short rounds, no figures to quote"
    )
    parser.add_argument("--rounds", type=int, default=0, help="rounds of all four (default 6)")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    show_progress()
    scale = 10 if options.small else 1
    rounds = options.rounds or (2 if options.small else 6)
    paired_stream = Stream(200_000 // scale, 20_000 // scale, options.seed)
    wide_stream = Stream(200_000 // scale, 200_000 // scale, options.seed)
    ten_fold = Stream(2_000_000 // scale, 200_000 // scale, options.seed)
    with servers() as at:
        for name, stream in (("few", paired_stream), ("many", wide_stream), ("long", ten_fold)):
            create_topics(at.kafka.bootstrap, (name,), partitions=4)
            LOG.info("producing %d events of %d shoppers to %s", stream.events, stream.shoppers, name)
            produce(at.kafka.bootstrap, name, stream)
        few = [run_round(at, "few", paired_stream.events, number) for number in range(rounds)]
        many = [run_round(at, "many", wide_stream.events, number) for number in range(rounds)]
        short = [watch_ours(at, "nearline", "few", paired_stream.events) for _ in range(2 if options.small else 3)]
        long = watch_ours(at, "nearline", "long", ten_fold.events)
    growth = long.seconds / statistics.median(run.seconds for run in short)
    start_mb, end_mb = long.memory_between(0.1, 0.2), long.memory_between(0.9, 1.0)
    against = {name: compare(few, name) for name in ("loop", "quix", "bytewax")}
    targets = [
        Target("to_loop", round(against["loop"].value, 3), ">= 0.8", CAUSES["to_loop"]),
        Target("to_quix", round(against["quix"].value, 3), ">= 1.3", CAUSES["to_quix"]),
        Target("to_bytewax", round(against["bytewax"].value, 3), ">= 1.0", CAUSES["to_bytewax"]),
        Target("growth_10x", round(growth, 2), "<= 11", CAUSES["growth_10x"]),
        Target("job_mb", round(end_mb, 1), f"<= {start_mb * 1.1:.1f}", CAUSES["job_mb"]),
    ]
    figures = {
        "durability": DURABILITY,
        "shoppers_20k": {"events_per_s": speeds(few), "ratios": {n: r.rounded() for n, r in against.items()}},
        "shoppers_200k": {
            "events_per_s": speeds(many),
            "ratios": {name: compare(many, name).rounded() for name in ("loop", "quix", "bytewax")},
        },
        "rounds": rounds,
        "events_a_run": paired_stream.events,
        "changes_decided": few[0]["nearline"].changes,
        "peak_mb": {name: round(max(run[name].peak_mb for run in few)) for name in SYSTEMS},
        "long": {
            "events": long.events,
            "seconds": round(long.seconds, 1),
            "events_per_s": round(long.events_per_s),
            "mb_at_10_to_20_percent": round(start_mb, 1),
            "mb_at_90_to_100_percent": round(end_mb, 1),
        },
    }
    write("event_path", figures, targets, options.seed, options.small)


CAUSES = {
    "to_loop": "the loop has no runner: Beam and Prism take about 6 us of CPU an event",
    "to_quix": "half of the job's time is the fold itself (15 us an event, by py-spy), which Quix pays too; what is left of both is alike: "
    "ours is Beam, the client's work and the wait for a store that outlives the process, Quix's its own RocksDB",
    "to_bytewax": "beside the fold (15 us an event, by py-spy) Bytewax pays about 10 us and saves nothing; loading, saving and the wait for "
    "them are about 10 us of ours, Beam and Prism 6",
    "growth_10x": "not found; what differs is ten times the shoppers in the store",
    "job_mb": "the job's memory grew",
}
"""Why a target may be missed, written with it if it is."""


def watch_ours(at: Servers, system: str, topic: str, events: int) -> Watched:
    redis.Redis.from_url(at.valkey.url).flushall()
    store = ShopperStore(at.valkey.url, f"bench-{system}")
    if system == "loop":
        command = process.python("bench.bare_loop", at.kafka.bootstrap, topic, at.valkey.url, "bench-loop", str(events))
    else:
        command = [
            *process.python("pipelines.nearline", "--stages=track"),
            *(f"--bootstrap={at.kafka.bootstrap}", f"--topic={topic}", f"--store={at.valkey.url}"),
            *("--namespace=bench-nearline", "--start=earliest", "--log_clock=ingest_ms", "--format=json"),
        ]
    return watch(system, command, at.kafka.bootstrap, topic, store, at.folder)


def run_quix(at: Servers, topic: str, events: int) -> Measured:
    state: Path = at.folder / "rocksdb"
    shutil.rmtree(state, ignore_errors=True)
    return run_peer("quix_streams", at.kafka.bootstrap, topic, str(events), str(state))


SYSTEMS: dict[str, Callable[[Servers, str, int], Watched | Measured]] = {
    "nearline": lambda at, topic, events: watch_ours(at, "nearline", topic, events),
    "loop": lambda at, topic, events: watch_ours(at, "loop", topic, events),
    "quix": run_quix,
    "bytewax": lambda at, topic, events: run_peer("bytewax_flow", at.kafka.bootstrap, topic, str(events)),
}


def run_round(at: Servers, topic: str, events: int, number: int) -> dict[str, Watched | Measured]:
    """All four once. Raises AssertionError if they did not decide the same."""
    done = {}
    for name in paired.in_turn(list(SYSTEMS), number):
        done[name] = SYSTEMS[name](at, topic, events)
        LOG.info("%s round %d: %-8s %6.0f events/s", topic, number + 1, name, done[name].events_per_s)
    changes = {name: run.changes for name, run in done.items()}
    assert len(set(changes.values())) == 1, f"the systems did not decide the same changes: {changes}"
    return done


def compare(rounds: list[dict[str, Watched | Measured]], other: str) -> paired.Interval:
    return paired.ratio([r["nearline"].events_per_s for r in rounds], [r[other].events_per_s for r in rounds])


def speeds(rounds: list[dict[str, Watched | Measured]]) -> dict[str, list[int]]:
    return {name: [round(run[name].events_per_s) for run in rounds] for name in SYSTEMS}


if __name__ == "__main__":
    main()
