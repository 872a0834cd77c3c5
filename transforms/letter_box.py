"""Reads dead letters, and the records that they are about, out of Kafka: by place, with a consumer of its own that joins no group
and commits nothing, so that no live consumer is disturbed.
"""

import sys
import time
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec import Struct

from schemas import DeadLetter
from schemas.validate import Rejection
from schemas.wire_avro import reader
from transforms.dead_letters import CUT, letter_id
from transforms.kafka_clients import (
    KafkaSettings,
    beginnings_now,
    broker_watcher,
    ends_now,
    log_consumer,
    reachable_ends,
)

WITHIN_S = 30.0
"""A broker that hands nothing out for so long is away."""
SKIP_AHEAD = 2_000
"""Records between two that are wanted: fewer are read over, for more the consumer is sent ahead."""
LETTERS_AT_ONCE = 300
Place = tuple[int, int]
"""Partition and offset."""

read_letter = reader(DeadLetter)


class NoSuchTopic(LookupError):
    """The brokers have no topic of this name."""


class SeenLetter(Struct, frozen=True, gc=False):
    """A letter without its bytes: a hundred thousand of them fit in memory."""

    id: str
    stage: str
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    time_ms: int
    user: str
    run_id: str
    raw_bytes: int
    raw_crc: int
    at: Place
    """Where the letter itself lies in the topic of dead letters."""

    @property
    def cut(self) -> bool:
        """The letter holds the beginning of the record only."""
        return CUT.partition("{}")[0] in self.detail

    def is_of(self, value: bytes) -> bool:
        """Whether the letter holds this record's value, or its beginning."""
        length = self.raw_bytes if self.cut else len(value)
        return length == self.raw_bytes and zlib.crc32(value[:length]) == self.raw_crc


@dataclass
class LetterBox:
    """All letters of a topic, up to the ends that it had when reading began."""

    letters: dict[str, SeenLetter] = field(default_factory=dict)
    """By id. A record that was put aside twice is one letter: the newer."""
    times: Counter[str] = field(default_factory=Counter)
    """By id, how often it was put aside: a crash, or another reading of the log, does it again."""
    unreadable: int = 0
    """Messages that are no letters."""

    def take(self, partition: int, offset: int, value: bytes | None) -> None:
        letter = read_letter(value or b"")
        if isinstance(letter, Rejection):
            self.unreadable += 1
            return
        seen = seen_letter(letter, (partition, offset))
        self.times[seen.id] += 1
        before = self.letters.get(seen.id)
        if before is None or before.time_ms <= seen.time_ms:
            self.letters[seen.id] = seen


def seen_letter(letter: DeadLetter, at: Place) -> SeenLetter:
    return SeenLetter(
        letter_id(letter),
        letter.stage,
        sys.intern(letter.reason),
        sys.intern(letter.detail),
        sys.intern(letter.topic),
        letter.partition,
        letter.offset,
        letter.time_ms,
        letter.user,
        letter.run_id,
        len(letter.raw),
        zlib.crc32(letter.raw),
        at,
    )


def read_letters(kafka: KafkaSettings, topic: str) -> LetterBox:
    """Every letter that the topic holds now. Raises NoSuchTopic, KafkaException, TimeoutError."""
    box = LetterBox()
    with places(kafka) as at:
        bounds = at.bounds(topic, at.partitions(topic))
        ends = reachable_ends(kafka, topic, {partition: end for partition, (_, end) in bounds.items()}, WITHIN_S)
        starts = {partition: begin for partition, (begin, _) in bounds.items() if begin < ends[partition]}
        for message in at.read(topic, starts, ends):
            box.take(message.partition() or 0, message.offset() or 0, message.value())
    return box


def whole_letters(
    kafka: KafkaSettings, topic: str, letters: Iterable[SeenLetter]
) -> Iterator[tuple[SeenLetter, DeadLetter]]:
    """The same letters with their bytes, some hundreds at a time; those that retention has deleted meanwhile are left out."""
    waiting = sorted(letters, key=lambda letter: letter.at)
    with places(kafka) as reading:
        for start in range(0, len(waiting), LETTERS_AT_ONCE):
            some = waiting[start : start + LETTERS_AT_ONCE]
            found = reading.at(topic, [letter.at for letter in some])
            for seen in some:
                letter = read_letter(found[seen.at].value() or b"") if seen.at in found else None
                if isinstance(letter, DeadLetter):
                    yield seen, letter


@contextmanager
def places(kafka: KafkaSettings) -> Iterator["Places"]:
    """A reader of any topic's records by their places."""
    consumer = log_consumer(kafka, "", **{"queued.max.messages.kbytes": 4_096})
    try:
        yield Places(consumer, broker_watcher(kafka))
    finally:
        consumer.close()


@dataclass(frozen=True)
class Places:
    """Made by `places`. Every call may raise KafkaException or TimeoutError."""

    _consumer: Consumer
    _watcher: AdminClient

    def partitions(self, topic: str) -> list[int]:
        """Raises NoSuchTopic."""
        found = self._consumer.list_topics(topic, timeout=WITHIN_S).topics[topic]
        if found.error is not None or not found.partitions:
            raise NoSuchTopic(
                f"no topic {topic!r} at these brokers ({found.error}); check --bootstrap and the topic's name"
            )
        return sorted(found.partitions)

    def bounds(self, topic: str, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """Of each partition, the first offset that retention has left and the end."""
        begins = beginnings_now(self._watcher, topic, partitions, WITHIN_S)
        ends = ends_now(self._watcher, topic, partitions, WITHIN_S)
        return {partition: (begins[partition], ends[partition]) for partition in partitions}

    def at(self, topic: str, wanted: Iterable[Place]) -> dict[Place, Message]:
        """The records at these places; those that are gone, or never were, are left out. Raises NoSuchTopic."""
        by_partition: dict[int, list[int]] = {}
        for partition, offset in sorted(set(wanted)):
            by_partition.setdefault(partition, []).append(offset)
        there = by_partition.keys() & set(self.partitions(topic))
        found: dict[Place, Message] = {}
        for partition, (begin, _) in self.bounds(topic, there).items():
            for near in _near([offset for offset in by_partition[partition] if offset >= begin]):
                within = set(near)
                for message in self.read(topic, {partition: near[0]}, {partition: near[-1] + 1}):
                    if message.offset() in within:
                        found[partition, message.offset() or 0] = message
        return found

    def read(self, topic: str, starts: dict[int, int], ends: dict[int, int]) -> Iterator[Message]:
        """Records from the starts up to (not with) the ends, or to where a partition ends before."""
        left = set(starts)
        self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in starts.items()])
        heard_at = time.monotonic()
        while left:
            messages = self._consumer.consume(1_000, 0.05)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > WITHIN_S:
                raise TimeoutError(f"topic {topic}, partitions {sorted(left)}: nothing came for {WITHIN_S:.0f} s")
            for message in messages:
                partition, offset, error = message.partition(), message.offset() or 0, message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        left.discard(partition)  # type: ignore[arg-type]
                    elif error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:
                        if starts[partition] < self.bounds(topic, [partition])[partition][0]:
                            raise KafkaException(error)  # deleted since we asked: given again, we find what is left
                        left.discard(partition)  # it lies beyond the end: another topic of this name is meant
                    elif not error.retriable() and error.code() not in PASSING:
                        raise KafkaException(error)
                elif partition in left:
                    if offset < ends[partition]:
                        yield message
                    if offset + 1 >= ends[partition]:
                        left.discard(partition)


PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}
"""librdkafka connects again by itself."""


def _near(offsets: list[int]) -> Iterator[list[int]]:
    """Sorted offsets in groups that are read in one go."""
    group: list[int] = []
    for offset in offsets:
        if group and offset - group[-1] > SKIP_AHEAD:
            yield group
            group = []
        group.append(offset)
    if group:
        yield group
