"""The importer's records on a real broker: one shopper in one partition, in order, with the time of writing as Kafka's."""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, TopicPartition
from kafka.partitioner.default import murmur2

from local.kafka import Kafka
from schemas import BehaviourEvent
from schemas.codec import decoder_for
from simulation.real_log import produce

PARTITIONS = 4
IN_2011 = 1_313_035_144_270


def test_imported_events_lie_where_kafkas_own_partitioner_puts_them(
    kafka: Kafka, fresh_topic: Callable[..., str]
) -> None:
    topic, before = fresh_topic(kafka.bootstrap, partitions=PARTITIONS), time.time() * 1000
    times = [IN_2011 + number for number in range(200)]
    events = [BehaviourEvent(f"e{t}", f"u{t % 23}", "search", t, query=f"tv {t}", ingest_ms=t) for t in times]
    assert produce(events, {"bootstrap.servers": kafka.bootstrap}, topic) == 200

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "test"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    read: dict[str, list[BehaviourEvent]] = {}
    for _ in events:
        message = consumer.poll(30)
        assert message is not None
        key, value = message.key(), message.value()
        assert key is not None
        assert message.partition() == (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
        assert message.timestamp()[1] >= before - 60_000, "an event time of 2011 would let retention delete the topic"
        (event,) = decoder_for().decode([value])
        assert isinstance(event, BehaviourEvent)
        assert key.decode() == event.user
        read.setdefault(event.user, []).append(event)
    consumer.close()
    assert read == {user: [event for event in events if event.user == user] for user in read}
