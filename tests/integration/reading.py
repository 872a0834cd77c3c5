"""Records into a topic and out of it again; and a reader driven as Beam does, with what it hands out."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import apache_beam as beam
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from transforms.batches import RecordBatch
from transforms.read_events import LogReader, LogSource
from transforms.read_plan import ReadPlan, ReadSettings

LONGEST_S = 90.0
_COLLECTED: dict[str, list[RecordBatch]] = {}


def settings_for(bootstrap: str, topic: str, archive: str = "") -> ReadSettings:
    return ReadSettings({"bootstrap.servers": bootstrap}, topic, start="earliest", archive=archive)


def produce(bootstrap: str, topic: str, partition: int, numbers: Iterable[int]) -> None:
    """Each number as a record; returns when the broker has them."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for number in numbers:
        producer.produce(topic, b"%d" % number, partition=partition)
        producer.poll(0)
    assert producer.flush(30) == 0


def records_in(bootstrap: str, topic: str, count: int, more_within_s: float = 0.5) -> list[Message]:
    """The first `count` records of a topic, and no more may come. Counted: Tansu's end lies before the last record of a batch."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "fetch.message.max.bytes": 20_000_000})
    try:
        partitions = consumer.list_topics(topic, 30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        found: list[Message] = []
        while len(found) < count:
            message = consumer.poll(60)
            assert message is not None, f"{len(found)} of {count} records came"
            assert message.error() is None, message.error()
            found.append(message)
        assert consumer.poll(more_within_s) is None, "more records than were written"
        return found
    finally:
        consumer.close()


@dataclass
class Reading:
    """One reader of all partitions and the batches it gave."""

    settings: ReadSettings
    plan: ReadPlan
    batches: list[RecordBatch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = LogSource(self.settings, self.plan, tuple(range(self.plan.partitions)))
        self.reader: LogReader = self.source.create_reader(None, None)

    def step(self) -> None:
        if self.reader.advance():
            self.batches.append(self.reader.get_current())
        else:
            time.sleep(0.01)

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONGEST_S
        while not done():
            assert time.monotonic() < deadline, f"never came to be; the last batches: {self.batches[-3:]}"
            self.step()

    def numbers(self, partition: int) -> list[int]:
        return [int(value or b"") for batch in self.batches if batch.partition == partition for value in batch.values]

    def proofs(self, partition: int) -> list[RecordBatch]:
        return [batch for batch in self.batches if batch.partition == partition and batch.progress_ms is not None]


class Collect(beam.DoFn):
    """Keeps batches in this process, where a loopback worker runs."""

    def __init__(self, name: str):
        self._name = name

    def process(self, element: RecordBatch) -> Iterable[None]:
        _COLLECTED.setdefault(self._name, []).append(element)
        return ()


def collected(name: str) -> list[RecordBatch]:
    return _COLLECTED.pop(name, [])
