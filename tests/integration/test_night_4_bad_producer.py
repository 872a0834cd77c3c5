"""Night 4: for an hour a producer sent times in seconds, a broken schema, duplicates, and to wrong partitions.

The letters say what and how much; the reader is mended; their records are given again by a command that is killed again and again;
each mended record counts exactly once; what fails again is quarantined, and discarded with a reason. Nothing is left open.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.faults.evidence import operations
from bench.faults.model_server import Gate
from local import process
from local.kafka import Kafka
from local.valkey import Valkey
from store.client import ShopperStore
from store.letters import LetterRegistry
from tests.integration.dlq import PARTITIONS, Dlq, total
from tests.integration.nights import Night, night, rule
from tests.integration.oracle import Record, fold_log, read_topic
from tests.integration.oracle_store import read_store
from tests.integration.verdict import judge
from transforms.redriven_records import LETTER_HEADER, partition_of

USERS = [f"shopper-{number}" for number in range(30)]
HOUR_MS = 3_600_000
SECONDS, BROKEN, ASTRAY, JUNK, TWICE = 110, 90, 30, 12, 20
PATIENCE_S = 120

HTML = b"<html>502 Bad Gateway"
MENDED = """
import msgspec
from schemas import BehaviourEvent

def event(record):
    try:
        fields = msgspec.json.decode(record)
    except msgspec.DecodeError:
        return "no JSON"
    if "uid" in fields:
        fields = {"id": fields["nr"], "user": fields["uid"], "kind": "search", "time_ms": fields["ts"], "query": fields["q"]}
    if fields["time_ms"] < 100_000_000_000:
        fields["time_ms"] *= 1000
    return msgspec.convert(fields, BehaviourEvent)
"""


@dataclass
class Shop:
    """Producers of events, and what should come of them: a behaviour for each event, whatever happened to its record."""

    bootstrap: str
    topic: str
    rng: random.Random
    expected: dict[str, set[tuple[int, int, str]]] = field(default_factory=lambda: {user: set() for user in USERS})
    """Shopper -> (time, id, text) of all that was ever meant."""
    bad: Counter[bytes] = field(default_factory=Counter)
    """How often each record was sent so that nobody could use it; what is sent again later is a redrive's."""
    meant: dict[bytes, bytes] = field(default_factory=dict)
    """Such a record -> the event in it. Junk means none."""
    _made: int = 0

    def __post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random"})
        self._hour_ago = (int(time.time()) - 3_700) * 1000

    def event(self, user: str = "") -> dict:
        """A shopper's search, in whole seconds of the last hour."""
        self._made += 1
        user, id = user or self.rng.choice(USERS), f"event-{self._made}"
        time_ms = self._hour_ago + self.rng.randrange(HOUR_MS // 1000) * 1000
        query = f"{self.rng.choice(('red', 'blue', 'green'))} thing {self._made}"
        number = int.from_bytes(blake2b(id.encode(), digest_size=6).digest(), "big")
        self.expected[user].add((time_ms, number, query))
        return {"id": id, "user": user, "kind": "search", "time_ms": time_ms, "query": query}

    def send(self, raw: bytes, user: str, astray: bool = False) -> None:
        home = partition_of(user.encode(), PARTITIONS)
        partition = (home + 1) % PARTITIONS if astray else home
        self._producer.produce(self.topic, raw, user, partition=partition)

    def bad_hour(self) -> None:
        """In any order."""
        kinds = ["seconds"] * SECONDS + ["broken"] * BROKEN + ["astray"] * ASTRAY + ["junk"] * JUNK
        kinds += ["good"] * 150 + ["twice"] * TWICE
        self.rng.shuffle(kinds)
        for kind in kinds:
            if kind == "junk":
                self.bad[HTML] += 1
                self.send(HTML, self.rng.choice(USERS))
                continue
            event = self.event()
            user = event["user"]
            if kind == "broken":
                value = {"nr": event["id"], "uid": user, "ts": event["time_ms"] // 1000, "q": event["query"]}
            elif kind in ("seconds", "twice"):
                value = event | {"time_ms": event["time_ms"] // 1000}
            else:
                value = event
            raw, times = json.dumps(value).encode(), 2 if kind == "twice" else 1
            if kind != "good":
                self.bad[raw], self.meant[raw] = times, json.dumps(event).encode()
            for _ in range(times):
                self.send(raw, user, astray=kind == "astray")

    def readable(self, records: Iterable[Record]) -> list[Record]:
        """What the jobs could read, as it was meant."""
        left, found = self.bad.copy(), []
        for record in sorted(records, key=lambda each: (each.ingest_ms, each.offset)):
            if left[record.value]:
                left[record.value] -= 1
            elif record.value != HTML:
                value = self.meant.get(record.value, record.value)
                found.append(Record(record.partition, record.offset, record.ingest_ms, value))
        return found

    def flush(self) -> None:
        assert self._producer.flush(60) == 0


def ends_of(bootstrap: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test"})
    try:
        bounds = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 30) for p in range(PARTITIONS)}
        return {partition: end for partition, (_, end) in bounds.items()}
    finally:
        consumer.close()


def times_given(bootstrap: str, topic: str) -> Counter[str]:
    """Letter -> records in the topic that carry its id."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test"})
    ends = ends_of(bootstrap, topic)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    given: Counter[str] = Counter()
    for _ in range(sum(ends.values())):
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        given.update(value.decode() for name, value in message.headers() or [] if name == LETTER_HEADER)
    consumer.close()
    return given


@pytest.fixture
def tonight(kafka: Kafka, valkey: Valkey, vllm: Gate, namespace: str, tmp_path: Path) -> Iterator[Night]:
    with night(kafka, valkey, vllm, namespace, tmp_path) as made:
        yield made


@pytest.mark.timeout(400)
def test_an_hour_of_a_bad_producer_is_mended_and_counts_once(  # noqa: PLR0915 - one night
    tonight: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    stage, page = tonight.stage, tonight.page("night-4-bad-producer", before="**5. Records")
    bootstrap, url, name = stage.broker.bootstrap, stage.store.url, stage.name
    dlq = Dlq(bootstrap, url, name, f"{name}-letters", stage.topic)
    shop = Shop(bootstrap, stage.topic, random.Random(seed))
    letters, mended = SECONDS + 2 * TWICE + BROKEN + JUNK + ASTRAY, SECONDS + TWICE + BROKEN + ASTRAY
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "events.py").write_text(MENDED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    of_letters = f"--dead_letter_topic={dlq.topic}"

    # The hour.
    stage.start_job()
    for user in USERS:  # everyone has a home before anything goes astray
        shop.send(json.dumps(shop.event(user)).encode(), user)
    shop.flush()
    tonight.level()
    shop.bad_hour()
    shop.flush()
    tonight.level()
    stage.jobs[-1].kill()

    # What the on-call sees before anything is mended.
    page.type("aigq dlq list", of_letters, says="bad_time: fix the producer")
    assert sum(each["open"] for each in dlq.lines("list")) == letters
    page.type("aigq dlq list", of_letters, says="is not in Unix milliseconds")
    one = next(each["id"] for each in dlq.lines("list", "--letters", "--reason", "bad_time"))
    page.ours |= {"behaviour/0/9": one, "letters.jsonl": str(tmp_path / "letters.jsonl")}
    page.type("aigq dlq show", of_letters, says="is not in Unix milliseconds")
    page.type("aigq dlq export", of_letters, says="letters in")
    assert len((tmp_path / "letters.jsonl").read_text().splitlines()) == letters

    # The mend; then a redrive that is killed, and given again.
    stage.start_job(*page.next("aigq run nearline")[3:])
    registry = LetterRegistry(ShopperStore(url, name).calls)
    page.type("aigq dlq redrive", of_letters, says="letters would be redriven; --execute does it")
    (preview,) = dlq.lines("redrive", "--mapper=shop.events:event")
    assert total(preview["expected"]) == {"folded": mended, "duplicate": TWICE, "dead mapper_refused": JUNK}
    assert registry.all().keys().isdisjoint(dlq.statuses())  # a preview writes nothing
    for _ in range(3):
        kill_redrive(tonight, registry, shop.rng, tmp_path)
    done = len(set(registry.all()) & set(dlq.statuses()))
    assert 0 < done < letters, "killed too early or too late to say anything"
    page.type("aigq dlq redrive", of_letters, "--per_second=5000", says="came back as dead letters", exits=1)
    tonight.level()

    # Each mended record counts exactly once, in whatever order and however often it was given.
    given = times_given(bootstrap, stage.topic)
    assert len(given) == letters
    print(f"{given.total() - letters} records were given twice")
    stored = read_store(url, name)
    held = {user: sorted((each.time_ms, each.id, each.text) for each in s.kept) for user, s in stored.shoppers.items()}
    assert held == {user: sorted(meant) for user, meant in shop.expected.items()}

    # What failed again is quarantined.
    statuses = dlq.statuses()
    assert Counter(statuses.values()) == {"redriven": letters - JUNK, "returned": JUNK}
    again = dlq.redrive("--mapper=shop.events:event")
    assert (again["expected"], total(again["left"])) == ([], {"returned": JUNK})
    assert times_given(bootstrap, stage.topic) == given
    junk = next(id for id, status in statuses.items() if status == "returned")
    once_more = dlq.redrive("--mapper=shop.events:event", "--again", "--id", junk, status=1)
    assert once_more["came_back"] == {"mapper_refused": 1}
    (shown,) = dlq.lines("show", junk)
    assert (shown["status"], shown["fate"]["redrives"]) == ("returned", 2)

    # The rest is nobody's behaviour.
    page.type("aigq dlq discard", of_letters, says="letters discarded by")
    page.finish()
    sums = dlq.lines("list")
    assert sum(each["open"] + each["returned"] for each in sums) == 0
    assert sum(each["discarded"] for each in sums) == JUNK
    ended = [each.status for kind in ("redrive", "discard") for each in operations(url, kind, name)]
    assert ended == ["done"] * 4  # the killed ones are one

    # Nothing is lost or doubled, and every change became the list that the mended log leads to.
    tonight.level()
    expected = fold_log(shop.readable(read_topic(bootstrap, stage.topic)), rule())
    verdict = judge(expected, read_store(url, name))
    assert not verdict.wrong, str(verdict)
    assert verdict.outcomes["published"] > len(USERS)


def kill_redrive(tonight: Night, registry: LetterRegistry, rng: random.Random, folder: Path) -> None:
    """Starts it, and kill -9 some letters later."""
    enough = len(registry.all()) + rng.randrange(1, 40)
    words = ["dlq", "redrive", "--mapper=shop.events:event", "--execute", "--per_second=400"]
    where = [*tonight.where(), tonight.topics()[2]]
    child = process.start("redrive", process.python("cli", *words, *where), folder / "redrive.log")
    deadline = time.monotonic() + PATIENCE_S
    try:
        while len(registry.all()) < enough:
            assert child.running, child.log_tail(30)
            assert time.monotonic() < deadline, child.log_tail(30)
            time.sleep(0.005)
        time.sleep(rng.random() * 0.05)
    finally:
        child.kill()
