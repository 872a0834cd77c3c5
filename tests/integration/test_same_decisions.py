"""Live, killed once, and a bounded run over the same log afterwards: the same states, requests and prompts, as one fold makes.

docs/sameness.md says what is promised and what may differ.
"""

import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from interest import TriggerPolicy, decode, encode, expire
from local import process
from local.ports import free_port
from local.topics import create_topics
from schemas import BehaviourEvent
from schemas.codec import decoder_for, encoder_for
from simulation.crowd import Crowd
from store.client import ShopperStore
from tests.integration.oracle import read_topic
from tests.integration.oracle_store import read_progress
from tests.sameness.simulated_log import FOR_EVER_MS, Log, OnePass, Record, one_pass

POLICY = TriggerPolicy(drift=0.2, settle_ms=300, max_wait_ms=1_500, cooldown_ms=1_000)
PARTITIONS, SHARDS = 4, 16
PER_S, SECONDS = 300, 14
PATIENCE_S = 120
"""For a loaded machine."""
BROKEN = b"{ not json"


@dataclass
class Servers:
    bootstrap: str
    store: str
    name: str
    folder: Path

    def options(self, namespace: str) -> list[str]:
        changed = ("drift", "settle_ms", "max_wait_ms", "cooldown_ms")
        return [
            *(f"--bootstrap={self.bootstrap}", f"--topic={self.name}", f"--store={self.store}"),
            *(f"--namespace={namespace}", f"--results_topic={self.name}-lists"),
            f"--dead_letter_topic={self.name}-letters",
            *(f"--trigger_{name}={getattr(POLICY, name)}" for name in changed),
        ]

    def log(self) -> Log:
        """The topic as it is, in the words of the simulation."""
        partitions: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        decoder = decoder_for()
        for record in sorted(read_topic(self.bootstrap, self.name), key=lambda each: (each.partition, each.offset)):
            event = decoder.decode([record.value])[0]
            assert record.offset == len(partitions[record.partition])
            partitions[record.partition].append(
                Record(record.ingest_ms, record.ingest_ms, event if isinstance(event, BehaviourEvent) else None)
            )
        return Log(partitions)


def a_days_trouble(seed: int) -> Iterator[bytes | BehaviourEvent]:
    """Shoppers as they come; some events again, some hours late, some erasures, some records that nobody can read."""
    rng, earlier = random.Random(seed), list[BehaviourEvent]()
    for event in Crowd(seed).live(PER_S, SECONDS):
        chance = rng.random()
        if chance < 0.02:
            yield BROKEN
        elif chance < 0.03:
            yield BehaviourEvent(f"erase {event.id}", event.user, "erase", event.time_ms)
        elif chance < 0.06:
            event_ms = event.time_ms - rng.choice((3_600_000, 30 * 3_600_000))
            yield BehaviourEvent(event.id, event.user, event.kind, event_ms, event.query, event.item)
        else:
            yield event
        earlier.append(event)
        if rng.random() < 0.05:
            yield rng.choice(earlier[-50:])


@dataclass
class LiveJob:
    servers: Servers
    prompts: Path
    clamped: int = 0

    def start(self) -> None:
        self._port = free_port()
        options = [*self.servers.options(self.servers.name), f"--metrics_port={self._port}", "--lease_s=5"]
        command = process.python("tests.sameness.recording_job", str(self.prompts), *options)
        self.child = process.start("job", command, self.servers.folder / f"job-{self._port}.log")

    def until(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.child.running, self.child.log_tail(40)
            assert time.monotonic() < deadline, self.child.log_tail(40)
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9, after a last look at how many records came later than the progress that was made without them."""
        metrics = httpx.get(f"http://127.0.0.1:{self._port}/metrics").text
        self.clamped += sum(
            int(float(n)) for n in re.findall(r"^aigq_clamped_records_total\{.*\} (\S+)$", metrics, re.M)
        )
        self.child.kill()


@pytest.mark.timeout(400)
def test_live_and_replayed_end_in_the_same_states_requests_and_prompts(kafka, valkey, namespace, tmp_path, capsys):
    servers = Servers(kafka.bootstrap, valkey.url, namespace, tmp_path)
    create_topics(kafka.bootstrap, (namespace,), PARTITIONS)
    create_topics(kafka.bootstrap, (f"{namespace}-lists", f"{namespace}-letters"), 1)
    job = LiveJob(servers, tmp_path / "prompts.jsonl")
    job.start()
    live = ShopperStore(valkey.url, namespace, SHARDS)
    try:
        produced = play(servers, job, live)
        log = servers.log()
        assert sum(map(len, log.partitions)) == produced
        until_ms = int(time.time() * 1000) + 2 * POLICY.max_wait_ms
        job.until(lambda: has_reached(servers, namespace, log, until_ms) and not any(live.depth()[:2]))
    finally:
        job.kill()

    again = f"{namespace}-again"
    bounded = ["--start=earliest", "--end=now", "--stages=track"]
    command = process.python("pipelines.nearline", *servers.options(again), *bounded)
    child = process.start("bounded", command, tmp_path / "bounded.log")
    assert child.wait(PATIENCE_S) == 0, child.log_tail(40)
    replayed = ShopperStore(valkey.url, again, SHARDS)
    expected = one_pass(log, POLICY)

    differ = [user for user, state in expected.states.items() if whole_state(live, user) != state]
    with capsys.disabled():
        print(f"\n{produced} records, {len(expected.states)} shoppers, {len(expected.changes)} requests; ", end="")
        print(f"{job.clamped} records came after the progress made without them, {len(differ)} shoppers differ by it")
    assert len(differ) <= job.clamped
    assert [user for user, state in expected.states.items() if whole_state(replayed, user) != state] == []
    same = {run_id for run_id, change in expected.changes.items() if change.user not in differ}
    assert len(same) > 300
    assert_same_requests(expected, same, job, live, replayed)


def play(servers: Servers, job: LiveJob, live: ShopperStore) -> int:
    """Produces as time passes and kills the job in the middle. Returns how many records there are."""
    producer = Producer({"bootstrap.servers": servers.bootstrap, "partitioner": "murmur2_random", "linger.ms": 2})
    encode_event, began, produced, killed = encoder_for(BehaviourEvent), time.monotonic(), 0, False
    for record in a_days_trouble(11):
        key, value = ("nobody", record) if isinstance(record, bytes) else (record.user, encode_event(record))
        producer.produce(servers.name, value, key)
        producer.poll(0)
        produced += 1
        if not killed and time.monotonic() - began > SECONDS / 2:
            job.until(lambda: live.pinned() and live.counts()["published"] > 20)
            job.kill()
            job.start()
            killed = True
    assert killed
    assert producer.flush(60) == 0
    return produced


def has_reached(servers: Servers, namespace: str, log: Log, clock_ms: int) -> bool:
    applied, _ = read_progress(servers.store, namespace, SHARDS)
    return len(applied) == SHARDS * PARTITIONS and all(
        next_offset >= len(log.partitions[partition]) and clock >= clock_ms
        for (_, partition), (next_offset, clock) in applied.items()
    )


def whole_state(store: ShopperStore, user: str) -> bytes:
    """The state once all that forms in it has fired: a bounded run ends with the last record's clock."""
    stored = store.state(user)
    return encode(expire(decode(stored.blob), user, FOR_EVER_MS, POLICY)[0]) if stored else b""


def assert_same_requests(
    expected: OnePass, same: set[str], job: LiveJob, live: ShopperStore, replayed: ShopperStore
) -> None:
    ended = [each.run_id for each in live.outcomes()]
    assert len(ended) == len(set(ended)) == live.fired()
    assert same <= set(ended)
    prompts = [json.loads(line) for line in job.prompts.read_text().splitlines()]
    assert len(prompts) > 200
    different = [run_id for run_id, prompt in prompts if run_id in same and prompt != expected.prompts[run_id]]
    assert different == []

    waiting = {request.run_id: request.blob for _, request in replayed.waiting()}
    assert {run_id: expected.blobs[run_id] for run_id in waiting} == waiting
    fired = {each.run_id for each in replayed.outcomes()} | set(waiting)
    for user in expected.states:
        stored = replayed.state(user)
        assert stored is not None
        fired |= {change.run_id for change in expire(decode(stored.blob), user, FOR_EVER_MS, POLICY)[1]}
    assert fired == set(expected.changes)
