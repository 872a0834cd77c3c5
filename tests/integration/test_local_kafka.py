"""The real broker: append time is its own, and its records outlive a kill."""

from collections.abc import Callable
from pathlib import Path

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Message, Producer, TopicPartition

from local.kafka import Kafka
from local.kafka import kafka as start_kafka
from local.topics import create_topics

YEAR_2011_MS = 1_300_000_000_000


def test_a_record_of_2011_gets_the_append_time_of_today(kafka: Kafka, fresh_topic: Callable[..., str]) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    _produce(kafka, topic, YEAR_2011_MS)
    kind, time_ms = _first(kafka, topic).timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert time_ms > YEAR_2011_MS


def test_records_outlive_kill_9_of_the_broker(tmp_path: Path) -> None:
    with start_kafka(tmp_path / "broker") as broker:
        create_topics(broker.bootstrap, ("kept",), partitions=1)
        _produce(broker, "kept", YEAR_2011_MS)
        broker.kill()
        broker.start()
        assert _first(broker, "kept").value() == b"hello"


def _produce(broker: Kafka, topic: str, time_ms: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(topic, b"hello", timestamp=time_ms)
    assert producer.flush(30) == 0


def _first(broker: Kafka, topic: str) -> Message:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "test"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    record = consumer.poll(60)
    consumer.close()
    assert record is not None
    assert record.error() is None
    return record
