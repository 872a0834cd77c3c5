"""Gives records again to their own topic, each acknowledged by the broker."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message, Producer

from transforms.kafka_clients import KafkaSettings

MESSAGE_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Record:
    """As it is produced again."""

    topic: str
    key: bytes
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]


def producer(kafka: KafkaSettings) -> Producer:
    """With the partitioner that namespaces are pinned to."""
    return Producer(
        {
            "client.id": "aigq-redrive",
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 2,
            "message.max.bytes": 20_000_000,
            "message.timeout.ms": MESSAGE_TIMEOUT_S * 1000,
            "log_level": 2,
            **kafka,
        }
    )


def deliver(out: Producer, records: Mapping[str, Record]) -> tuple[dict[str, str], dict[str, KafkaError]]:
    """Records by a name of their own -> where each lies now (`TOPIC/PARTITION/OFFSET`), and why one was not taken."""
    went: dict[str, str] = {}
    failed: dict[str, KafkaError] = {}
    for name, record in records.items():

        def note(error: KafkaError | None, message: Message, name: str = name) -> None:
            if error is not None:
                failed[name] = error
            else:
                went[name] = f"{message.topic()}/{message.partition()}/{message.offset()}"

        out.produce(record.topic, record.value, record.key, headers=record.headers, on_delivery=note)
    out.flush()  # ends: every message is delivered or fails within message.timeout.ms
    return went, failed
