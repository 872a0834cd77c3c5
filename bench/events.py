"""Events for the event path: many shoppers in sessions, seeded, made at 100,000 a second and produced to a topic.

The log runs at `per_s` events a second of its own time (`ingest_ms`), so changes settle and come due as they would in production
however fast the log is read. The worlds of `simulation/` say what shoppers want; here only sizes and rhythm count.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from confluent_kafka import Producer

from schemas import BehaviourEvent, Item

FIRST_MS = 1_700_000_000_000
"""In the past: the job trusts no log clock that is ahead of the broker's."""
SESSION_EVENTS = 6
"""Mean length of a session; lengths are geometric."""
SESSION_GAP_S = 20
"""Mean time between two events of a session."""
TOPICS, WORDS = 400, 30
BRANDS = ("Asterion", "Borealis", "Calder", "Dunmore", "Eskola", "Fairwind", "Granit", "Halden")


@dataclass(frozen=True)
class Stream:
    """Which events: the same stream is the same bytes anywhere."""

    events: int
    shoppers: int
    seed: int = 7
    per_s: float = 500.0


def shopper_events(stream: Stream) -> Iterator[BehaviourEvent]:
    """The events in log order. A shopper has three lasting topics; a session is about one of them, half clicks, half searches."""
    draw = random.Random(stream.seed)
    subjects = [_subject(draw, number) for number in range(TOPICS)]
    step_ms = 1000 / stream.per_s
    # As many sessions at once as make one event of each come every SESSION_GAP_S.
    active = [_Session(draw, stream.shoppers, subjects) for _ in range(int(stream.per_s * SESSION_GAP_S))]
    clock = float(FIRST_MS)
    for number in range(stream.events):
        clock += draw.expovariate(1.0) * step_ms
        at = int(draw.random() * len(active))
        session = active[at]
        yield session.event(draw, number, int(clock))
        if draw.random() < 1 / SESSION_EVENTS:
            active[at] = _Session(draw, stream.shoppers, subjects)


def produce(bootstrap: str, topic: str, stream: Stream) -> None:
    """Puts the stream into a topic, keyed by shopper, with Kafka's own partitioner. Returns when the broker has acknowledged all."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 50,
            "queue.buffering.max.messages": 200_000,
            "compression.type": "none",
        }
    )
    encode = msgspec.json.Encoder().encode
    failures: list[str] = []

    def note(error, _message) -> None:
        if error:
            failures.append(str(error))

    for event in shopper_events(stream):
        record, key = encode(event), event.user.encode()
        while True:
            try:
                producer.produce(topic, record, key, on_delivery=note)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    if failures:
        raise RuntimeError(f"{len(failures)} of {stream.events} events were not produced to {topic}: {failures[0]}")


@dataclass(frozen=True)
class _Subject:
    category: str
    queries: tuple[str, ...]
    items: tuple[Item, ...]


class _Session:
    def __init__(self, draw: random.Random, shoppers: int, subjects: list[_Subject]) -> None:
        number = int(draw.random() * shoppers)
        self._user = f"u{number:07d}"
        self._subject = subjects[(number * 3 + int(draw.random() * 3)) * 7919 % len(subjects)]

    def event(self, draw: random.Random, number: int, clock_ms: int) -> BehaviourEvent:
        subject = self._subject
        id = f"{number:012x}-{self._user}"
        if draw.random() < 0.5:
            query = subject.queries[int(draw.random() * len(subject.queries))]
            return BehaviourEvent(id, self._user, "search", clock_ms, query=query, ingest_ms=clock_ms)
        item = subject.items[int(draw.random() * len(subject.items))]
        return BehaviourEvent(id, self._user, "click", clock_ms, item=item, ingest_ms=clock_ms)


def _subject(draw: random.Random, number: int) -> _Subject:
    words = ["".join(draw.choice("bcdfgklmnprstv") + draw.choice("aeiou") for _ in range(3)) for _ in range(WORDS)]
    queries = tuple(" ".join(draw.sample(words, draw.randint(1, 3))) for _ in range(60))
    category = f"{words[0].title()} & {words[1].title()}"
    items = tuple(
        Item(
            id=f"sku{number:04d}{kind:03d}",
            title=f"{draw.choice(BRANDS)} - {' '.join(draw.sample(words, 5)).title()} - {draw.choice(words)}",
            category=category,
            attributes={"brand": draw.choice(BRANDS), "price": f"{draw.randint(5, 900)}.99"},
        )
        for kind in range(60)
    )
    return _Subject(category, queries, items)
