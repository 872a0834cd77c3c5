"""Night 3 of the runbook: the store lost everything, or its last minutes; it is made anew from archive and log, or reads again."""

import random
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from bench.faults.load import Load
from bench.faults.model_server import Gate
from bench.faults.stage import POLICY, exit_status
from local.kafka import Kafka
from local.valkey import Valkey, valkey
from schemas import QueryRun
from schemas.wire_avro import reader
from store.client import ShopperStore
from tests.integration.nights import Night, night, rule
from tests.integration.oracle import Record, fold_log, read_topic
from tests.integration.oracle_store import read_store
from tests.integration.verdict import Verdict, judge

A_PERSON = 3


@pytest.fixture
def tonight(kafka: Kafka, vllm: Gate, namespace, tmp_path) -> Iterator[Night]:
    with (
        valkey(tmp_path / "store", append_only=True) as store,
        night(kafka, store, vllm, namespace, tmp_path) as made,
    ):
        yield made


def verdict(tonight: Night, records: list[Record], lists_put_back: bool = True) -> Verdict:
    read = reader(QueryRun)
    results = [read(each.value) for each in read_topic(tonight.stage.broker.bootstrap, f"{tonight.stage.name}-lists")]
    put_back = {run.run_id for run in results if isinstance(run, QueryRun) and lists_put_back}
    stored = read_store(tonight.stage.store.url, tonight.stage.namespace)
    return judge(fold_log(records, rule()), stored, put_back=put_back)


def forget_in_broker(kafka: Kafka, topic: str, ends: dict[int, int]) -> None:
    """As retention does."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for answer in admin.delete_records([TopicPartition(topic, p, end // 2) for p, end in ends.items()]).values():
        answer.result(30)


@pytest.mark.timeout(600)
def test_a_store_that_lost_everything_is_made_anew_from_archive_and_log(tonight: Night, kafka: Kafka, tmp_path):
    stage, page = tonight.stage, tonight.page("night-3-store-lost", before="**Single shoppers**")
    job = stage.start_job()
    tonight.shop(1, 5)
    before = tonight.lists()
    assert len(before) > 10
    page.ours["/data/aigq"] = str(tmp_path / "archive")
    tonight.archive(tmp_path / "archive")
    records = read_topic(kafka.bootstrap, stage.topic)
    forget_in_broker(kafka, stage.topic, stage.ends())

    stage.store.kill()
    wipe(stage.store)
    stage.store.start()
    assert exit_status(job, 60) == A_PERSON
    assert "aigq rebuild" in job.child.log_tail(40)
    assert tonight.lists() == {}

    page.type("aigq rebuild", *tonight.own_options(), says="nothing was written; --execute does it")
    pinned_again = [f"--trigger_{name}={getattr(POLICY, name)}" for name in ("drift", "settle_ms", "max_wait_ms")]
    pinned_again.append(f"--trigger_cooldown_ms={POLICY.cooldown_ms}")
    id = page.type("aigq rebuild", *pinned_again, *tonight.own_options(), says="rebuild-").strip()
    record = tonight.operation(id)
    assert record["status"] == "done"
    assert record["counts"]["shoppers checked"] == len(set(fold_log(records, rule())))
    assert stage.namespace != stage.name
    assert newest(tonight.lists()) == newest(before)
    again = [
        user for user, each in tonight.store.waiting() if user in before and before[user][0].as_of_ms >= each.as_of_ms
    ]
    assert again == [], "lists that are there would be made again"

    stage.pinned = True
    stage.start_job(*page.next("aigq run nearline")[3:])
    page.finish()
    tonight.shop(2, 2)
    assert f"namespace {stage.namespace}" in tonight.aigq("status", *tonight.where())
    since = [each for each in read_topic(kafka.bootstrap, stage.topic) if each not in set(records)]
    found = verdict(tonight, [*records, *since])
    assert not found.wrong, str(found)


@pytest.mark.timeout(600)
def test_a_rebuild_beside_the_running_job_is_killed_and_given_again(tonight: Night, kafka: Kafka):
    stage, rng = tonight.stage, random.Random(7)
    stage.start_job()
    tonight.shop(1, 3)
    load = Load(kafka.bootstrap, stage.topic, 2, 40, 40).start()
    reader = Watcher(stage.store.url, stage.name)
    try:
        stage.pinned = True
        command = ["rebuild", "--execute", *tonight.options()]
        for _ in range(3):
            child = tonight.start(*command)
            try:
                child.wait(rng.uniform(2, 9))
            except subprocess.TimeoutExpired:
                child.kill()
            child.wait()
            stage.supervise()
        if stage.namespace == stage.name:
            tonight.aigq(*command)
        stage.supervise()
    finally:
        load.stop()
    tonight.level()
    assert stage.namespace != stage.name
    assert reader.stop() == []
    found = verdict(tonight, read_topic(kafka.bootstrap, stage.topic))
    assert not found.wrong, str(found)


@pytest.mark.timeout(600)
def test_a_store_that_went_back_while_the_job_was_down_is_said_and_read_again(tonight: Night, kafka: Kafka, tmp_path):
    stage = tonight.stage
    job = stage.start_job()
    tonight.shop(1, 3)
    older = tmp_path / "older"
    stage.store.copy_append_files(older)
    tonight.shop(2, 3)
    time.sleep(2)  # the group is told within a second
    job.kill()
    stage.store.kill()
    stage.store.restore_append_files(older)
    stage.store.start()
    job = stage.start_job()
    tonight.level()
    assert "the store is behind" in job.child.log.read_text()
    found = verdict(tonight, read_topic(kafka.bootstrap, stage.topic), lists_put_back=False)
    assert not found.wrong, str(found)


class Watcher:
    """A home page: reads some shoppers' newest lists all the time."""

    def __init__(self, url: str, name: str):
        self._store = ShopperStore(url, name, follow_s=0.2)
        self._older: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> list[str]:
        """Whoever was ever shown an older list than before, or none after one."""
        self._over.set()
        self._thread.join()
        return self._older

    def _watch(self) -> None:
        newest: dict[str, int] = {}
        while not self._over.wait(0.05):
            for number in range(20):
                user = f"shopper-{number}"
                runs = self._store.runs(user)
                as_of = runs[0].as_of_ms if runs else 0
                if as_of < newest.get(user, 0):
                    self._older.append(f"{user}: {newest[user]} then {as_of}")
                newest[user] = as_of


def newest(lists) -> dict[str, tuple[str, ...]]:
    return {user: tuple(run.run_id for run in runs) for user, runs in lists.items()}


def wipe(store: Valkey) -> None:
    for path in store.folder.rglob("*"):
        if path.is_file() and (path.suffix in (".aof", ".rdb", ".manifest")):
            path.unlink()
