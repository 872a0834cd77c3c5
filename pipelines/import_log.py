"""Events of an imported log (schemas/search_log.py) into a topic, with their own times."""

from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError, Message, Producer

from schemas import BehaviourEvent
from schemas.codec import encoder_for


def produce(events: Iterable[BehaviourEvent], kafka: Mapping[str, str], topic: str, format: str = "avro") -> int:
    """Writes events to a topic in their order, keyed by user, and returns how many once all are acknowledged.

    Raises RuntimeError with the broker's answer. Kafka's timestamp is the time of writing, not the event's.
    """
    # librdkafka's own default partitioner agrees with Kafka's (murmur2) on 9 % of keys; one shopper must have one partition.
    producer = Producer(
        {
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "compression.type": "lz4",
            **kafka,
        }
    )
    encode = encoder_for(BehaviourEvent, format)
    failures: list[KafkaError] = []

    def note(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    count = 0
    for event in events:
        value, key = encode(event), event.user.encode()
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=note)
                break
            except BufferError:  # the queue is full: wait for deliveries
                producer.poll(0.1)
        producer.poll(0)
        count += 1
    producer.flush()
    if failures:
        raise RuntimeError(
            f"{len(failures)} of {count} events were not written to topic {topic!r}: {failures[0].str()}"
        )
    return count
