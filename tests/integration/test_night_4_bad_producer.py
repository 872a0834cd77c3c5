"""Night 4: for an hour a producer sent times in seconds, a broken schema, duplicates, and to wrong partitions.

The letters say what and how much; the reader is mended; their records are given again by a command that is killed again and again;
each mended record counts exactly once; what fails again is quarantined, and discarded with a reason. Nothing is left open.
"""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from interest import behaviours_of, decode
from local import process
from local.kafka import Kafka
from local.valkey import Valkey
from store.client import ShopperStore
from store.letters import LetterRegistry
from store.operations import Operations
from tests.integration.dlq import PARTITIONS, Dlq, new_dlq, total
from transforms.redriven_records import LETTER_HEADER, partition_of

USERS = [f"shopper-{number}" for number in range(30)]
HOUR_MS = 3_600_000
SECONDS, BROKEN, ASTRAY, JUNK, TWICE = 110, 90, 30, 12, 20
PATIENCE_S = 120

BEFORE = """
import msgspec
from schemas import BehaviourEvent

event = msgspec.json.Decoder(BehaviourEvent).decode
"""
AFTER = """
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

    def send(self, value: dict | bytes, user: str, astray: bool = False) -> None:
        home = partition_of(user.encode(), PARTITIONS)
        partition = (home + 1) % PARTITIONS if astray else home
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        self._producer.produce(self.topic, raw, user, partition=partition)

    def bad_hour(self) -> None:
        """In any order."""
        kinds = ["seconds"] * SECONDS + ["broken"] * BROKEN + ["astray"] * ASTRAY + ["junk"] * JUNK
        kinds += ["good"] * 150 + ["twice"] * TWICE
        self.rng.shuffle(kinds)
        for kind in kinds:
            if kind == "junk":
                self.send(b"<html>502 Bad Gateway", self.rng.choice(USERS))
                continue
            event = self.event()
            user = event["user"]
            if kind == "broken":
                value = {"nr": event["id"], "uid": user, "ts": event["time_ms"] // 1000, "q": event["query"]}
            elif kind in ("seconds", "twice"):
                value = event | {"time_ms": event["time_ms"] // 1000}
            else:
                value = event
            for _ in range(2 if kind == "twice" else 1):
                self.send(value, user, astray=kind == "astray")

    def flush(self) -> dict[int, int]:
        """The ends of the topic when everything is in it."""
        assert self._producer.flush(60) == 0
        return ends_of(self.bootstrap, self.topic)


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


@contextmanager
def job(dlq: Dlq, mapper: str, folder: Path) -> Iterator[Callable[[dict[int, int]], None]]:
    """The tracking job. Hands out a wait for it to have taken the log up to some ends."""
    command = [sys.executable, "-m", "pipelines.nearline", "--stages=track", f"--mapper={mapper}"]
    command += [f"--bootstrap={dlq.bootstrap}", f"--store={dlq.store_url}", f"--namespace={dlq.namespace}"]
    command += [f"--topic={dlq.behaviour}", f"--dead_letter_topic={dlq.topic}"]
    child = process.start("job", command, folder / f"{mapper}.log", env={"PYTHONPATH": str(folder)})
    store = ShopperStore(dlq.store_url, dlq.namespace)

    def wait(ends: dict[int, int]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            progress = store.progress() if store.pinned() else {}
            if all(
                end == 0 or min((a.next_offset for (_, p), a in progress.items() if p == partition), default=0) >= end
                for partition, end in ends.items()
            ):
                return
            assert child.running, child.log_tail(30)
            assert time.monotonic() < deadline, child.log_tail(30)
            time.sleep(0.1)

    try:
        yield wait
    finally:
        child.stop(30)


@pytest.mark.timeout(400)
def test_an_hour_of_a_bad_producer_is_mended_and_counts_once(
    kafka: Kafka,
    valkey: Valkey,
    namespace: str,
    fresh_topic: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    dlq = new_dlq(kafka.bootstrap, valkey.url, namespace, fresh_topic)
    shop = Shop(kafka.bootstrap, dlq.behaviour, random.Random(seed))
    (tmp_path / "shop_before.py").write_text(BEFORE)
    (tmp_path / "shop_after.py").write_text(AFTER)
    monkeypatch.syspath_prepend(str(tmp_path))

    # The hour.
    with job(dlq, "shop_before:event", tmp_path) as taken:
        for user in USERS:  # everyone has a home before anything goes astray
            shop.send(shop.event(user), user)
        taken(shop.flush())
        shop.bad_hour()
        taken(shop.flush())

    sees(dlq, tmp_path / "letters.jsonl")

    # The mend; then a redrive that is killed, and given again.
    redrive = ["redrive", "--mapper", "shop_after:event"]
    letters, mended = SECONDS + 2 * TWICE + BROKEN + JUNK + ASTRAY, SECONDS + TWICE + BROKEN + ASTRAY
    with job(dlq, "shop_after:event", tmp_path) as taken:
        (preview,) = dlq.lines(*redrive)
        assert total(preview["expected"]) == {"folded": mended, "duplicate": TWICE, "dead mapper_refused": JUNK}
        registry = LetterRegistry(ShopperStore(dlq.store_url, namespace).calls)
        assert registry.all().keys().isdisjoint(dlq.statuses())  # a preview writes nothing
        for _ in range(3):
            kill_redrive(dlq, redrive, registry, shop.rng, tmp_path)
        done = len(set(registry.all()) & set(dlq.statuses()))
        assert 0 < done < letters, "killed too early or too late to say anything"
        dlq.redrive("--mapper", "shop_after:event", status=1)  # the junk comes back
        taken(shop.flush())

        # Each mended record counts exactly once, in whatever order and however often it was given.
        given = times_given(dlq.bootstrap, dlq.behaviour)
        assert len(given) == letters
        print(f"{given.total() - letters} records were given twice")
        assert behaviours(dlq) == shop.expected

        # What failed again is quarantined.
        statuses = dlq.statuses()
        assert Counter(statuses.values()) == {"redriven": letters - JUNK, "returned": JUNK}
        again = dlq.redrive("--mapper", "shop_after:event")
        assert (again["expected"], total(again["left"])) == ([], {"returned": JUNK})
        assert times_given(dlq.bootstrap, dlq.behaviour) == given
        junk = next(id for id, status in statuses.items() if status == "returned")
        once_more = dlq.redrive("--mapper", "shop_after:event", "--again", "--id", junk, status=1)
        assert once_more["came_back"] == {"mapper_refused": 1}
        (shown,) = dlq.lines("show", junk)
        assert (shown["status"], shown["fate"]["redrives"]) == ("returned", 2)

    # The rest is nobody's behaviour.
    dlq("discard", "--execute", "--why", "error pages of a proxy")
    sums = dlq.lines("list")
    assert sum(each["open"] + each["returned"] for each in sums) == 0
    assert sum(each["discarded"] for each in sums) == JUNK
    operations = Operations(ShopperStore(dlq.store_url, namespace).calls).list()
    ours = [(o.kind, p.status) for o, p in operations if dlq.topic in o.asked]
    assert sorted(ours) == [("discard", "done"), *[("redrive", "done")] * 3]  # the killed ones are one


def sees(dlq: Dlq, exported: Path) -> None:
    """What the on-call does before anything is mended."""
    open_by_reason = {each["reason"]: each["open"] for each in dlq.lines("list")}
    assert open_by_reason == {
        "bad_time": SECONDS + 2 * TWICE,
        "mapper_raised": BROKEN + JUNK,
        "wrong_partition": ASTRAY,
    }
    one = next(each["id"] for each in dlq.lines("list", "--letters", "--reason", "bad_time"))
    (shown,) = dlq.lines("show", one)
    assert json.loads(shown["letters"][0]["raw_text"])["time_ms"] < 100_000_000_000
    dlq("export", str(exported))
    assert len(exported.read_text().splitlines()) == sum(open_by_reason.values())


def kill_redrive(dlq: Dlq, words: list[str], registry: LetterRegistry, rng: random.Random, folder: Path) -> None:
    """Starts it, and kill -9 some letters later."""
    before = len(registry.all())
    enough = before + rng.randrange(1, 40)
    command = [sys.executable, "-m", "cli", *dlq.words(*words, "--execute", "--per_second=400")]
    child = process.start("redrive", command, folder / "redrive.log", env={"PYTHONPATH": str(folder)})
    deadline = time.monotonic() + PATIENCE_S
    try:
        while len(registry.all()) < enough:
            assert child.running, child.log_tail(30)
            assert time.monotonic() < deadline, child.log_tail(30)
            time.sleep(0.005)
        time.sleep(rng.random() * 0.05)
    finally:
        child.kill()


def behaviours(dlq: Dlq) -> dict[str, set[tuple[int, int, str]]]:
    """As the states hold them; fails where one is held twice."""
    found: dict[str, set[tuple[int, int, str]]] = {}
    for user, stored in ShopperStore(dlq.store_url, dlq.namespace).states(USERS).items():
        kept = [(each.time_ms, each.id, each.text) for each in behaviours_of(decode(stored.blob))]
        assert len(kept) == len(set(kept))
        found[user] = set(kept)
    return found
