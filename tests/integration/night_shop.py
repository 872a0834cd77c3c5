"""A shop at night for the tests of operators' commands: broker, store, runner, vLLM with the shipped model, and `aigq` as typed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

from local import process
from local.tansu import Tansu
from local.topics import create_topics
from local.valkey import Valkey
from schemas import BehaviourEvent, Item, QueryRun
from schemas.codec import encoder_for
from schemas.wire_avro import reader
from store.client import ShopperStore
from store.operations import Operation, OperationProgress, Operations
from tests.integration.reading import records_in

SHIPPED = Path(__file__).parents[2] / "models"
PATIENCE_S = 280
"""For a loaded machine, where vLLM alone takes two minutes to load."""
QUICK = [f"--trigger_{name}" for name in ("drift=0.2", "settle_ms=300", "max_wait_ms=1500", "cooldown_ms=1000")]
encode, decode_run = encoder_for(BehaviourEvent), reader(QueryRun)


@dataclass
class Shop:
    broker: Tansu
    valkey: Valkey
    namespace: str
    job: process.Child
    store: ShopperStore
    _number: int = 0

    def __post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.broker.bootstrap, "partitioner": "murmur2_random"})

    def search(self, user: str, query: str) -> None:
        """Enough for a change."""
        self._produce(user, "search", query=query)

    def click(self, user: str, title: str) -> None:
        """One of them is kept, and is no change yet."""
        self._produce(user, "click", item=Item(title.replace(" ", "-"), title))

    def _produce(self, user: str, kind: str, **more) -> None:
        self._number += 1
        event = BehaviourEvent(f"{user}-{self._number}", user, kind, int(time.time() * 1000), **more)  # type: ignore[arg-type]
        self._producer.produce(f"behaviour-{self.namespace}", encode(event), user)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def until(self, done: Callable[[], object], within_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + within_s
        while not done():
            assert self.job.running, self.job.log_tail(40)
            assert time.monotonic() < deadline, self.job.log_tail(40)
            time.sleep(0.05)

    def aigq(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "cli", *words, f"--store={self.valkey.tcp_url}"]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command, with --store; it may take a minute."""
        wide = {**os.environ, "COLUMNS": "250"}
        return subprocess.run(self.aigq(*words), capture_output=True, text=True, check=False, timeout=200, env=wide)

    def lists(self, users: Sequence[str]) -> dict[str, bytes | None]:
        """As they lie in the store, byte for byte."""
        return {user: self.valkey_get(self.store._shard_of(user).runs(user)) for user in users}

    def valkey_get(self, key: bytes) -> bytes | None:
        value = self.store.calls.client.get(key)
        assert value is None or isinstance(value, bytes)
        return value

    def operations(self) -> list[tuple[Operation, OperationProgress]]:
        """Of this namespace, the newest first."""
        found = Operations(self.store.calls).list()
        return [each for each in found if each[0].namespace == self.namespace]

    def results(self) -> list[QueryRun]:
        """Everything on the results topic: as many as the store counted as published."""
        published = self.store.counts()["published"]
        found = records_in(self.broker.bootstrap, f"query-runs-{self.namespace}", published)
        runs = [decode_run(message.value() or b"") for message in found]
        assert all(isinstance(run, QueryRun) for run in runs)
        return runs  # type: ignore[return-value]


@contextmanager
def shop(broker: Tansu, valkey: Valkey, namespace: str, models: Path, folder: Path, *options: str) -> Iterator[Shop]:
    """The job runs and its model serves."""
    topics = {name: f"{name}-{namespace}" for name in ("behaviour", "query-runs", "dead-letters")}
    create_topics(broker.bootstrap, tuple(topics.values()))
    job = process.start(
        "job",
        [
            *process.python("pipelines.nearline", f"--bootstrap={broker.bootstrap}", f"--store={valkey.url}"),
            *(f"--namespace={namespace}", f"--topic={topics['behaviour']}", f"--models={models}", *QUICK, *options),
            *(f"--results_topic={topics['query-runs']}", f"--dead_letter_topic={topics['dead-letters']}"),
        ],
        folder / "job.log",
        cwd=SHIPPED.parent,
    )
    made = Shop(broker, valkey, namespace, job, ShopperStore(valkey.url, namespace))
    try:
        made.until(lambda: "serves" in job.log.read_text())
        yield made
    finally:
        job.stop(within_s=60)
