"""A topic with more partitions: the records are copied into a new one, and the namespace is rebuilt over it, as the runbook says."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from interest import behaviours_of, decode
from local import process
from local.kafka import Kafka
from local.valkey import Valkey
from store.client import ShopperStore
from store.namespaces import Namespaces
from tests.integration.oracle import read_topic

USERS = [f"shopper-{number}" for number in range(30)]


class Stage:
    def __init__(self, kafka: Kafka, valkey: Valkey, namespace: str, folder: Path):
        self.kafka, self.url, self.namespace, self.folder = kafka, valkey.tcp_url, namespace, folder
        self.made = 0

    def options(self, topic: str) -> list[str]:
        where = [f"--bootstrap={self.kafka.bootstrap}", f"--store={self.url}", f"--namespace={self.namespace}"]
        return [*where, f"--topic={topic}", "--results_topic=", f"--dead_letter_topic={topic}-letters"]

    def aigq(self, *words: str) -> str:
        command = [str(Path(sys.executable).with_name("aigq")), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=200, env=os.environ | {"COLUMNS": "200"}
        )
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
        return done.stdout

    @contextmanager
    def job(self, topic: str) -> Iterator[Callable[[], None]]:
        """The tracking job. Hands out a wait for every shopper's state to hold all behaviours so far."""
        words = process.python("pipelines.nearline", "--stages=track", *self.options(topic))
        child = process.start("job", words, self.folder / f"{topic}.log")

        def wait() -> None:
            deadline = time.monotonic() + 120
            while sum(map(len, self.behaviours().values())) < self.made:
                assert child.running, child.log_tail(30)
                assert time.monotonic() < deadline, child.log_tail(30)
                time.sleep(0.1)

        try:
            yield wait
        finally:
            child.stop(30)

    def search(self, topic: str, times: int = 3) -> None:
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "partitioner": "murmur2_random"})
        for _ in range(times):
            for user in USERS:
                self.made += 1
                event = {"id": f"e{self.made}", "user": user, "kind": "search", "time_ms": int(time.time() * 1000)}
                event |= {"query": f"thing {self.made}"}
                producer.produce(topic, json.dumps(event), user)
        assert producer.flush(30) == 0

    def copy(self, topic: str, into: str) -> None:
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "partitioner": "murmur2_random"})
        for record in read_topic(self.kafka.bootstrap, topic):
            producer.produce(into, record.value, json.loads(record.value)["user"])
        assert producer.flush(30) == 0

    def behaviours(self) -> dict[str, list[str]]:
        states = ShopperStore(self.url, self.namespace).states(USERS)
        return {user: [each.text for each in behaviours_of(decode(state.blob))] for user, state in states.items()}


@pytest.mark.timeout(400)
def test_a_namespace_is_rebuilt_over_a_topic_with_more_partitions_and_goes_back(
    kafka: Kafka, valkey: Valkey, namespace: str, fresh_topic: Callable[..., str], tmp_path: Path
):
    few, many = fresh_topic(kafka.bootstrap, 2), fresh_topic(kafka.bootstrap, 5)
    stage = Stage(kafka, valkey, namespace, tmp_path)
    with stage.job(few) as wait:
        stage.search(few)
        wait()
    before = stage.behaviours()
    stage.copy(few, many)

    assert "90 records" in stage.aigq("rebuild", *stage.options(many))
    assert stage.behaviours() == before
    stage.aigq("rebuild", "--execute", *stage.options(many))
    assert stage.behaviours() == before
    with stage.job(many) as wait:
        stage.search(many)
        wait()
    assert all(len(texts) == 6 for texts in stage.behaviours().values())
    pinned = ShopperStore(valkey.url, namespace).pinned()
    assert pinned
    assert (pinned.topic, pinned.partitions) == (many, 5)

    stage.aigq("promote", namespace, "--execute", *stage.options(few))
    assert stage.behaviours() == before
    assert Namespaces(ShopperStore(valkey.url, namespace).calls).pointed_to(namespace) == namespace
