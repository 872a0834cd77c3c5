"""The event path without Beam: the job's own decoder and tracker, called from a plain consumer loop.

Durability: the job's (states, offsets and requests saved in one step), but nothing restarts, scales or supervises it.
Run by bench/event_path.py: python -m bench.bare_loop BOOTSTRAP TOPIC STORE NAMESPACE EVENTS [PROFILE]
"""

import cProfile
import sys

from confluent_kafka import Consumer, TopicPartition

from bench.decision import decode_event
from interest import TriggerPolicy
from store.client import ShopperStore
from transforms.batches import EventBatch
from transforms.track_interest import Tracker

BATCH = 2_000
PARTITIONS = 4


def main(bootstrap: str, topic: str, store: ShopperStore, events: int) -> None:
    tracker = Tracker(store, TriggerPolicy(), _NoLetters(), _no_rewind)  # type: ignore[arg-type]
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bare-loop", "queued.min.messages": 100_000})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    read, positions = 0, dict.fromkeys(range(PARTITIONS), 0)
    while read < events:
        messages = consumer.consume(BATCH, 0.05)
        by_partition: dict[int, list] = {}
        for message in messages:
            by_partition.setdefault(message.partition() or 0, []).append(message)
        for partition, found in by_partition.items():
            decoded = [decode_event(message.value()) for message in found]
            end = (found[-1].offset() or 0) + 1
            offsets = [message.offset() for message in found]
            ingest = [event.ingest_ms or 0 for event in decoded]
            tracker.track(EventBatch(topic, topic, partition, positions[partition], offsets, ingest, decoded, end))
            positions[partition] = end
        read += len(messages)
    consumer.close()


class _NoLetters:
    def write(self, letters: list) -> None:
        raise AssertionError(f"the benchmark's events are all good, yet: {letters[0]}")


def _no_rewind(topic: str, partition: int, offset: int) -> None:
    raise AssertionError(f"nothing lost a save, yet {topic}-{partition} is to be read again from {offset}")


if __name__ == "__main__":
    bootstrap, topic, url, namespace, events, *profile = sys.argv[1:]
    shopper_store = ShopperStore(url, namespace)
    if profile:
        cProfile.run("main(bootstrap, topic, shopper_store, int(events))", profile[0])
    else:
        main(bootstrap, topic, shopper_store, int(events))
