"""`aigq dlq` as a test calls it, and a job in miniature that reads a real topic into a real store through the product's own steps."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import KafkaException, Producer

from interest import State, TriggerPolicy, decode
from interest.state import behaviours_of
from pipelines.meanwhile import meanwhile
from schemas import DeadLetter
from schemas.codec import Decoder, decoder_for
from store.client import NamespaceMeta, ShopperStore
from tests.integration.oracle import Record, read_topic
from tests.integration.typed import typed
from transforms.batches import RecordBatch
from transforms.dead_letter_limits import DeadLetterLimits
from transforms.dead_letters import DeadLetterWriter
from transforms.decode_events import EventDecoder
from transforms.track_interest import Tracker

PARTITIONS = 4
POLICY = TriggerPolicy()


@dataclass
class Dlq:
    """With its connection, its topic of letters, and the topic that they are about."""

    bootstrap: str
    store_url: str
    namespace: str
    topic: str
    behaviour: str

    def words(self, *words: str) -> list[str]:
        where = ["--bootstrap", self.bootstrap, "--store", self.store_url, "--namespace", self.namespace]
        return ["dlq", *words, *where, "--dead_letter_topic", self.topic]

    def __call__(self, *words: str, status: int = 0) -> str:
        return typed(*self.words(*words), exits=status)

    def lines(self, *words: str, status: int = 0) -> list[dict]:
        return [json.loads(line) for line in self(*words, "--json", status=status).splitlines() if line.startswith("{")]

    def statuses(self) -> dict[str, str]:
        return {each["id"]: each["status"] for each in self.lines("list", "--letters")}

    def redrive(self, *words: str, status: int = 0) -> dict:
        """With --execute; what it says it has done."""
        (said,) = self.lines("redrive", "--execute", "--per_second=5000", *words, status=status)
        return said

    def write(self, *letters: DeadLetter) -> None:
        DeadLetterWriter({"bootstrap.servers": self.bootstrap}, self.topic).write(letters)


def total(rows: list[dict]) -> Counter[str]:
    """Outcomes over all reasons of what a redrive says."""
    return Counter(
        {name: sum(row.get(name, 0) for row in rows) for row in rows for name in row.keys() - {"reason", "topic"}}
    )


@dataclass
class SmallJob:
    """Takes what the topic holds when it is asked to. Its letters go to the topic of `dlq`."""

    dlq: Dlq
    decoder: Decoder = field(default_factory=decoder_for)
    at: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.store = ShopperStore(self.dlq.store_url, self.dlq.namespace, 4)
        policy = POLICY.version, POLICY.to_json()
        self.store.open(NamespaceMeta(self.dlq.behaviour, "id", PARTITIONS, "murmur2", 4, 1, *policy))
        self.store.begin("track")
        self.writer = DeadLetterWriter({"bootstrap.servers": self.dlq.bootstrap}, self.dlq.topic)
        self.producer = Producer({"bootstrap.servers": self.dlq.bootstrap, "partitioner": "murmur2_random"})
        self.tracker = Tracker(self.store, POLICY, self.writer, DeadLetterLimits(), lambda *_: None)

    def produce(self, value: bytes | None, key: str | None, partition: int | None = None) -> None:
        where = {} if partition is None else {"partition": partition}
        self.producer.produce(self.dlq.behaviour, value, key, **where)
        assert self.producer.flush(30) == 0

    def take(self) -> None:
        """All records that are new."""
        records = self._records()
        for partition in range(PARTITIONS):
            new = sorted((r for r in records if r.partition == partition), key=lambda r: r.offset)[self.at[partition] :]
            start, end = self.at[partition], self.at[partition] + len(new)
            offsets, times, values = [r.offset for r in new], [r.ingest_ms for r in new], [r.value for r in new]
            batch = RecordBatch(self.dlq.behaviour, "id", partition, start, offsets, times, values, end)
            decoder = EventDecoder(self.decoder, self.writer, DeadLetterLimits())
            self.tracker.track(decoder.decode(batch))
            self.at[partition] = end

    @contextmanager
    def taking(self) -> Iterator[None]:
        """As a job that runs: it takes what comes."""
        with meanwhile("job", 0.2, self.take):
            yield

    def _records(self) -> list[Record]:
        for _ in range(20):
            try:
                return read_topic(self.dlq.bootstrap, self.dlq.behaviour)
            except KafkaException:  # a fresh topic, whose partitions have no leader yet
                time.sleep(0.5)
        raise AssertionError("the topic cannot be read")

    def state(self, user: str) -> State:
        stored = self.store.state(user)
        assert stored is not None, f"{user!r} has no state"
        return decode(stored.blob)

    def texts(self, user: str) -> list[str]:
        return [behaviour.text for behaviour in behaviours_of(self.state(user))] if self.store.state(user) else []


def new_dlq(bootstrap: str, store_url: str, namespace: str, fresh_topic: Callable[..., str]) -> Dlq:
    return Dlq(bootstrap, store_url, namespace, fresh_topic(bootstrap), fresh_topic(bootstrap, PARTITIONS))
