"""What the ranked expectations of docs/field-promises.md are tried on: a topic that a job has tracked, and all that a command could change."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from redis import Redis

from local.prism import Prism
from local.topics import create_topics
from local.valkey import Valkey, valkey
from pipelines import beam_workarounds, worker
from pipelines.nearline import execute, prepare
from pipelines.operation import Window
from pipelines.options import NearlineOptions
from schemas import BehaviourEvent
from schemas.codec import encoder_for
from store.client import ShopperStore
from tests.integration.typed import typed
from transforms.drain import DRAINING, TRACKED
from transforms.redriven_records import partition_of

PARTITIONS, QUIET = 4, 3
"""The last one never gets a record."""
NAMES = [f"shopper-{number}" for number in range(16)]
SHOPPERS = [name for name in NAMES if partition_of(name.encode(), PARTITIONS) != QUIET]
BEFORE, WITHIN, AFTER = 20, 60, 10
"""Records before, in and behind the window."""
encode = encoder_for(BehaviourEvent, "json")


@dataclass(frozen=True)
class TrackedShop:
    bootstrap: str
    server: Valkey
    prism: Prism
    name: str
    folder: Path
    window: Window

    @property
    def store(self) -> ShopperStore:
        return ShopperStore(self.server.url, self.name)

    @property
    def group(self) -> str:
        """The job's."""
        return f"aigq-{self.name}"

    @property
    def in_store(self) -> list[str]:
        return [f"--store={self.server.url}", f"--namespace={self.name}"]

    @property
    def letters(self) -> list[str]:
        return [f"--bootstrap={self.bootstrap}", *self.in_store, f"--dead_letter_topic={self.name}-letters"]

    @property
    def options(self) -> list[str]:
        """Of commands that read the log."""
        topics = [f"--topic={self.name}", f"--results_topic={self.name}-lists", *self.letters]
        return [*topics, *self.prism.options]

    @property
    def of_window(self) -> list[str]:
        return [f"--from={self.window.from_ms}", f"--to={self.window.to_ms}"]

    def committed(self) -> dict[int, int]:
        """Of the job's group."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self.group)])
        return {at.partition: at.offset for at in asked[self.group].result(30).topic_partitions or []}

    def traces(self) -> dict[str, object]:
        """Every key of the store, the end of every topic, every group's offsets, every file."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        client: Any = Redis.from_url(self.server.url)  # its types know replies of text only
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group})
        try:
            topics = {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=30).topics.items()}
            ends = {
                (name, partition): consumer.get_watermark_offsets(TopicPartition(name, partition), 30)
                for name, count in topics.items()
                if name.startswith(self.name)
                for partition in range(count)
            }
        finally:
            consumer.close()
        return {
            "keys": {key: client.dump(key) for key in client.scan_iter()},
            "topics": sorted(topics),
            "ends": ends,
            "groups": sorted(group.group_id for group in admin.list_consumer_groups().result().valid or []),
            "committed": self.committed(),
            "files": {str(path): path.stat().st_mtime_ns for path in self.folder.rglob("*") if path.is_file()},
        }


@contextmanager
def tracked_shop(bootstrap: str, prism: Prism, name: str, folder: Path) -> Iterator[TrackedShop]:
    """Its window has `WITHIN` records; one record behind it is a dead letter; a snapshot is in its archive."""
    create_topics(bootstrap, (name, f"{name}-lists", f"{name}-letters"), PARTITIONS)
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    with valkey(folder / "store") as server:
        produce(producer, name, 0, BEFORE)
        from_ms = a_moment()
        produce(producer, name, BEFORE, WITHIN)
        to_ms = a_moment()
        produce(producer, name, BEFORE + WITHIN, AFTER)
        producer.produce(name, b"{ no json", SHOPPERS[0])
        assert producer.flush(30) == 0
        shop = TrackedShop(bootstrap, server, prism, name, folder / "archive", Window(from_ms, to_ms))
        track(shop)
        typed("archive", "snapshot", f"--archive={shop.folder}", *shop.in_store)
        yield shop


def produce(producer: Producer, topic: str, first: int, count: int) -> None:
    for number in range(first, first + count):
        user = SHOPPERS[number % len(SHOPPERS)]
        event = BehaviourEvent(f"e{number}", user, "search", int(time.time() * 1000), query=f"thing {number}")
        producer.produce(topic, encode(event), user)
    assert producer.flush(30) == 0


def a_moment() -> int:
    """A time between what the broker has taken and what it is given next."""
    time.sleep(0.05)
    now = int(time.time() * 1000)
    time.sleep(0.05)
    return now


def track(shop: TrackedShop) -> None:
    """As the job does, up to the log's end; what its group is told within a second of that is told here."""
    options = PipelineOptions([*shop.options, "--stages=track", "--end=now"], streaming=True)
    settings = options.view_as(NearlineOptions).settings()
    beam_workarounds.treat_unknown_progress_as_no_split()
    job, plan = prepare(settings)
    assert plan is not None
    assert plan.ends is not None
    execute(job, plan, shop.prism.options)
    worker.close()
    DRAINING.clear()
    TRACKED.clear()
    told = [TopicPartition(shop.name, partition, end) for partition, end in plan.ends.items()]
    admin = AdminClient({"bootstrap.servers": shop.bootstrap})
    asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(shop.group, told)])
    asked[shop.group].result(30)
