"""The real broker: append time is its own, and its records outlive a kill."""

from collections.abc import Callable
from pathlib import Path

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Producer

from local.kafka import Kafka
from local.kafka import kafka as start_kafka
from local.topics import create_topics
from tests.integration.reading import records_in

YEAR_2011_MS = 1_300_000_000_000


def test_a_record_of_2011_gets_the_append_time_of_today(kafka: Kafka, fresh_topic: Callable[..., str]) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    _produce(kafka, topic, YEAR_2011_MS)
    (record,) = records_in(kafka.bootstrap, topic, 1)
    kind, time_ms = record.timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert time_ms > YEAR_2011_MS


def test_records_outlive_kill_9_of_the_broker(tmp_path: Path) -> None:
    with start_kafka(tmp_path / "broker") as broker:
        create_topics(broker.bootstrap, ("kept",), partitions=1)
        _produce(broker, "kept", YEAR_2011_MS)
        broker.kill()
        broker.start()
        (record,) = records_in(broker.bootstrap, "kept", 1)
        assert record.value() == b"hello"


def _produce(broker: Kafka, topic: str, time_ms: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(topic, b"hello", timestamp=time_ms)
    assert producer.flush(30) == 0
