"""Night 2 of the runbook: the job was down and catches up by itself, newest shoppers first, stale changes conflated and counted.

Seconds stand for the forty minutes of the runbook; the rules do not know the difference. Broker, store, runner and the shipped
model on vLLM's server are real, and the oracle folds the topic's records once more to say that nothing was lost.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import Producer

from bench.faults.model_server import Gate
from bench.faults.stage import GRACE_S, Stage
from local.kafka import Kafka
from local.valkey import Valkey
from serving.pace import log_words, queue_words
from serving.status import Status, read_status
from store.client import Ended, NamespaceMeta, ShopperStore
from tests.integration.nights import Night, night
from tests.integration.oracle_store import read_progress, read_store
from transforms.kafka_clients import broker_watcher, ends_now

DOWN_S = 5.0
"""Shoppers go on for so long while the job is down."""
SUBJECTS = ("gaming laptop", "oled tv", "espresso maker")
TURN_S = 1.2
"""A shopper turns to the next subject: longer than settle and cooldown of the stage's policy, so each turn is a change."""
IN_FLIGHT = 16
"""Few, so that the order of claims shows in the order of ends."""
JOB = (f"--in_flight={IN_FLIGHT}", "--batch_records=4")
"""Small batches, so that catching up takes long enough to be looked at."""


@pytest.fixture
def tonight(kafka: Kafka, valkey: Valkey, vllm: Gate, namespace: str, tmp_path) -> Iterator[Night]:
    with night(kafka, valkey, vllm, namespace, tmp_path) as made:
        yield made


@dataclass
class Shop:
    """Produces what shoppers do, in real time."""

    night: Stage

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._producer = Producer(
            {"bootstrap.servers": self.night.broker.bootstrap, "partitioner": "murmur2_random", "linger.ms": 5}
        )

    def visits(self, names: list[str], come_within_s: float, browsers: int = 0) -> None:
        """One after the other they come, and each turns through the subjects. Browsers stay with one subject all the time."""
        begun, done = time.monotonic(), dict.fromkeys(names, 0)
        while (now_s := time.monotonic() - begun) < come_within_s + TURN_S * len(SUBJECTS):
            for number, name in enumerate(names):
                here_s = now_s - number * come_within_s / len(names)
                if done[name] < len(SUBJECTS) and here_s >= done[name] * TURN_S:
                    for _ in range(4):
                        self._search(name, SUBJECTS[done[name]])
                    done[name] += 1
            for number in range(browsers):
                self._search(f"browser-{number}", "red shoes")
            self._producer.poll(0)
            time.sleep(0.02)
        assert self._producer.flush(30) == 0

    def _search(self, user: str, query: str) -> None:
        event = {"id": f"e{next(self._numbers)}", "user": user, "kind": "search", "time_ms": int(time.time() * 1000)}
        self._producer.produce(self.night.topic, json.dumps(event | {"query": query}).encode(), user.encode())


@pytest.mark.timeout(600)
def test_the_job_was_down_and_catches_up_by_itself(tonight: Night):
    night, page = tonight.stage, tonight.page("night-2-job-was-down")
    store, shop = ShopperStore(night.store.url, night.name), Shop(night)
    job = night.start_job(*JOB)
    shop.visits([f"early-{number}" for number in range(20)], 1.0)
    night.wait("first lists", lambda: night.published() >= 5, 300)

    job.kill()
    killed_ms = int(time.time() * 1000)
    shop.visits([f"shopper-{number}" for number in range(120)], DOWN_S, browsers=20)
    while_down = page.type("aigq status", "--watch_s=1", says="stands still", exits=1)
    assert f"aigq run nearline --bootstrap={night.broker.bootstrap} --topic={night.topic}" in while_down

    night.gate.shut()  # as while the model is loaded: nothing is claimed before all is tracked
    started_ms = int(time.time() * 1000)
    night.start_job(*page.next("aigq run nearline")[3:], *JOB)
    ends = night.ends()
    catching_up = looks_until(night, store, lambda: night.has_reached(ends))
    assert any(log_words(each.log_pace).startswith("level in about") for each in catching_up if each.log_pace)
    until_ms = int((time.time() + GRACE_S) * 1000)
    night.wait("end of the log", lambda: night.has_reached(ends, until_ms), 120)
    night.gate.open()
    draining = looks_until(night, store, lambda: read_progress(night.store.url, night.name)[1] == 0)
    assert any("is empty in about" in queue_words(each.queue_pace) for each in draining if each.queue_pace)

    page.finish()
    where = ["status", *tonight.where(), "--watch_s=1"]
    afterwards = tonight.aigq(*where)
    for said in ("level with the log", "the queue is empty", "nothing needs attention"):
        assert said in afterwards
    report = json.loads(tonight.aigq(*where, "--json"))["status"]["last_hour"]
    night.close()

    verdict = night.verdict()
    assert not verdict.wrong, str(verdict)
    due_while_down = [each for each in store.outcomes() if killed_ms < each.as_of_ms < started_ms]
    assert_newest_first(due_while_down)
    assert_stale_changes_were_conflated(due_while_down)
    assert report["outcomes"]["conflated"] == read_store(night.store.url, night.name).counts["conflated"]
    assert report["latest_s"] * 1000 > started_ms - killed_ms, "the first to come while it was down waited that long"
    runs = [run for user in {each.user for each in store.outcomes()} for run in store.runs(user)]
    latest_s = max(run.stored_ms - run.as_of_ms for run in runs) / 1000
    assert report["latest_s"] == pytest.approx(latest_s, abs=1), "the lists themselves say the same"


def assert_newest_first(due_while_down: list[Ended]) -> None:
    """Within a batch of the model any order; never further off."""
    order = [each for each in sorted(due_while_down, key=lambda each: each.ended_ms) if each.outcome == "published"]
    assert len(order) >= 140, "120 shoppers and 20 browsers"
    newest_first = sorted(order, key=lambda each: -each.as_of_ms)
    rank = {each.run_id: number for number, each in enumerate(newest_first)}
    off = [abs(rank[each.run_id] - number) for number, each in enumerate(order)]
    assert max(off) < 2 * IN_FLIGHT, off


def assert_stale_changes_were_conflated(due_while_down: list[Ended]) -> None:
    """Of each shopper all but the newest."""
    of_shopper: dict[str, list[Ended]] = {}
    for each in sorted(due_while_down, key=lambda each: each.as_of_ms):
        of_shopper.setdefault(each.user, []).append(each)
    stale = [each for ended in of_shopper.values() for each in ended[:-1]]
    assert len(stale) >= 120
    assert {each.outcome for each in stale} == {"conflated"}
    assert {ended[-1].outcome for ended in of_shopper.values()} == {"published"}


def looks_until(night: Stage, store: ShopperStore, done: Callable[[], bool]) -> list[Status]:
    """What `aigq status` knew until then, look by look."""
    watcher = broker_watcher({"bootstrap.servers": night.broker.bootstrap})

    def ends_of(meta: NamespaceMeta) -> dict[int, int]:
        return ends_now(watcher, meta.topic, range(meta.partitions), 5.0)

    seen: list[Status] = []

    def look() -> bool:
        status = read_status(store, ends_of, 0.2)
        assert status is not None
        seen.append(status)
        return done()

    night.wait("end of the catching up", look, 200)
    return seen
