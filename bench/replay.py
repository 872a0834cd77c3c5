"""Events a second of a replay against the live path: the same million events, decided into a shadow and into a live namespace.

The live path is the nearline job's track stage, which also reads a backlog like this after an outage. The replay is
`aigq replay --into --no_lists` over a window that holds all of the topic, from the broker and, as a figure, from an archive.
"""

import argparse
import logging
import shutil
import time
from pathlib import Path

import redis

from bench import paired
from bench.events import Stream, produce
from bench.progress import show_progress
from bench.result import ROOT, Target, write
from bench.servers import Servers, servers
from bench.watched_job import Watched, watch
from local import process
from local.topics import create_topics
from store.client import ShopperStore

LOG = logging.getLogger(__name__)
TOPIC = "replayed"
CAUSE = "both are the same steps over the same records; what differs is the size of a batch, and a second log of what is done"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="prove that it runs: short, no figures to quote")
    parser.add_argument("--rounds", type=int, default=0, help="rounds (default 4)")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    show_progress()
    stream = Stream(*(30_000, 3_000) if options.small else (1_000_000, 100_000), options.seed)
    rounds = options.rounds or 4
    with servers() as at:
        create_topics(at.kafka.bootstrap, (TOPIC,), partitions=4)
        from_ms = int(time.time() * 1000)
        produce(at.kafka.bootstrap, TOPIC, stream)
        to_ms = int(time.time() * 1000) + 1
        archive = archived(at)
        replay = ["cli", "replay", f"--from={from_ms}", f"--to={to_ms}", "--into=shadow", "--no_lists", "--execute"]
        systems = {
            "live": (["pipelines.nearline", "--stages=track", "--namespace=live", "--start=earliest"], "live"),
            "replay": (replay, "shadow"),
            "replay from the archive": ([*replay, f"--archive={archive}"], "shadow"),
        }
        done: dict[str, list[Watched]] = {name: [] for name in systems}
        for number in range(rounds):
            for name in paired.in_turn(list(systems), number):
                done[name].append(run(at, *systems[name]))
                LOG.info("round %d: %-24s %7.0f events/s", number + 1, name, done[name][-1].events_per_s)
    changes = {name: {each.changes for each in runs} for name, runs in done.items()}
    assert changes["replay"] == changes["replay from the archive"], f"the replays decided differently: {changes}"
    speeds = {name: [each.events_per_s for each in runs] for name, runs in done.items()}
    to_live = paired.ratio(speeds["replay"], speeds["live"])
    figures = {
        "events": stream.events,
        "shoppers": stream.shoppers,
        "rounds": rounds,
        "events_per_s": {name: [round(each) for each in each_round] for name, each_round in speeds.items()},
        "to_live": to_live.rounded(),
        "from_archive_to_live": paired.ratio(speeds["replay from the archive"], speeds["live"]).rounded(),
    }
    write("replay", figures, [Target("to_live", round(to_live.value, 3), ">= 1.0", CAUSE)], options.seed, options.small)


def run(at: Servers, command: list[str], namespace: str) -> Watched:
    redis.Redis.from_url(at.valkey.url).flushall()
    store = ShopperStore(at.valkey.url, namespace)
    where = [f"--bootstrap={at.kafka.bootstrap}", f"--topic={TOPIC}", f"--store={at.valkey.url}", "--format=json"]
    module, *words = command
    return watch(namespace, process.python(module, *words, *where), at.kafka.bootstrap, TOPIC, store, at.folder)


def archived(at: Servers) -> Path:
    """The topic as files."""
    folder = at.folder / "archive"
    shutil.rmtree(folder, ignore_errors=True)
    words = [f"--bootstrap={at.kafka.bootstrap}", f"--archive={folder}", f"--topic={TOPIC}", "--exposure_topic="]
    command = process.python("pipelines.archive", *words, "--results_topic=", "--end=now", "--format=json")
    child = process.start("archive", command, at.folder / "archive.log", cwd=ROOT)
    try:
        if (status := child.wait(1_800)) != 0:
            raise process.StartFailed(f"the archive job ended with {status}:\n{child.log_tail(40)}")
    finally:
        child.kill()
    return folder


if __name__ == "__main__":
    main()
