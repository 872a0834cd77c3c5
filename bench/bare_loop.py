"""The event path without Beam: the job's own decoder and tracker, called from a plain consumer loop.

Durability: the job's (states, offsets and requests saved in one step), but nothing restarts, scales or supervises it.
Run by bench/event_path.py: python -m bench.bare_loop BOOTSTRAP TOPIC STORE NAMESPACE EVENTS
Where the time goes: python -m cProfile -s tottime -m bench.bare_loop ...
"""

import sys

from confluent_kafka import Consumer, TopicPartition

from interest import FOLD_VERSION, TriggerPolicy
from schemas.codec import decoder_for
from store.client import NamespaceMeta, ShopperStore
from transforms.batches import RecordBatch
from transforms.collector import collect_seldom
from transforms.dead_letter_limits import DeadLetterLimits
from transforms.decode_events import EventDecoder
from transforms.track_interest import Tracker

BATCH = 2_000
PARTITIONS = 4


def main(bootstrap: str, topic: str, url: str, namespace: str, events: int) -> None:
    collect_seldom()
    policy = TriggerPolicy()
    store = ShopperStore(url, namespace)
    store.open(NamespaceMeta(topic, topic, PARTITIONS, "murmur2", 16, FOLD_VERSION, policy.version))
    store.begin("track")
    decoder = EventDecoder(decoder_for("json"), _NoLetters(), DeadLetterLimits(), "ingest_ms")  # type: ignore[arg-type]
    tracker = Tracker(store, policy, _NoLetters(), DeadLetterLimits(), _no_rewind)  # type: ignore[arg-type]
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bare-loop", "queued.min.messages": 100_000})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    read, positions = 0, dict.fromkeys(range(PARTITIONS), 0)
    while read < events:
        messages = consumer.consume(BATCH, 0.05)
        by_partition: dict[int, list] = {}
        for message in messages:
            by_partition.setdefault(message.partition() or 0, []).append(message)
        for partition, found in by_partition.items():
            offsets = [message.offset() for message in found]
            appended = [message.timestamp()[1] for message in found]
            values = [message.value() for message in found]
            start, positions[partition] = positions[partition], offsets[-1] + 1
            tracker.track(
                decoder.decode(
                    RecordBatch(topic, topic, partition, start, offsets, appended, values, positions[partition])
                )
            )
        read += len(messages)
    consumer.close()


class _NoLetters:
    def write(self, letters: list) -> None:
        raise AssertionError(f"the benchmark's events are all good, yet: {letters[0]}")


def _no_rewind(topic: str, partition: int, offset: int) -> None:
    raise AssertionError(f"nothing lost a save, yet {topic}-{partition} is to be read again from {offset}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
