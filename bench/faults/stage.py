"""What a fault is tried on: a broker, a store and a model server of their own, and the job as its supervisor runs it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition
from redis import Redis

from bench.faults.model_server import Gate, model_server
from interest import TriggerPolicy
from local import process
from local.kafka import Kafka, kafka
from local.topics import create_topics
from local.valkey import Valkey, valkey
from tests.integration.oracle import Rule, fold_log, read_topic
from tests.integration.oracle_store import read_progress, read_store
from tests.integration.verdict import Verdict, judge

PARTITIONS, SHARDS = 4, 16
POLICY = TriggerPolicy(drift=0.2, settle_ms=300, max_wait_ms=1_500, cooldown_ms=1_000)
"""Quick, and each turn to another subject is a change, so that a run of a minute sees many lists; the rules are those of production."""
GRACE_S = 3.0
"""After the last record: longer than settle, max_wait and cooldown, so that whatever forms has fired."""
FENCED = 3


class DidNotRecover(Exception):
    """The job did not reach the end of the log, or requests stayed open."""


@dataclass
class Job:
    """One nearline job and all its processes."""

    child: process.Child
    family: list[psutil.Process] = field(default_factory=list)
    """Everything seen below it so far, vLLM's processes too."""

    def look(self) -> None:
        """Takes note of its processes: after a kill they cannot be found by their parent any more."""
        try:
            found = [*psutil.Process(self.child.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        self.family += [each for each in found if each not in self.family]

    def kill(self) -> None:
        """kill -9 of the process group."""
        self.look()
        self.child.kill()

    def freeze(self) -> None:
        self.look()
        os.killpg(self.child.guard.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.child.guard.pid, signal.SIGCONT)

    def orphans(self, within_s: float = 5.0) -> list[str]:
        """What outlived the job."""
        deadline = time.monotonic() + within_s
        while (left := [each for each in self.family if _alive(each)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [f"{each.pid} {each.name()}" for each in left if _alive(each)]


@dataclass
class Stage:
    """The servers, and one run's topic and namespace on them."""

    folder: Path
    broker: Kafka
    store: Valkey
    models: Path
    model: str
    gate: Gate
    """Before the model server."""
    name: str = ""
    """Of the namespace and, with an ending, of the topics."""
    pinned: bool = False
    """Jobs take the trigger policy from their namespace: for runs that change it."""
    jobs: list[Job] = field(default_factory=list)

    def begin(self, name: str) -> None:
        """A new run: fresh topics and namespace."""
        self.name, self.pinned, self.jobs = name, False, []
        create_topics(self.broker.bootstrap, (self.topic,), PARTITIONS)
        create_topics(self.broker.bootstrap, (f"{name}-letters", f"{name}-lists"), 1)

    @property
    def topic(self) -> str:
        return f"{self.name}-behaviour"

    @property
    def namespace(self) -> str:
        """What the name stands for now."""
        with Redis.from_url(self.store.url) as server:
            pointer: Any = server.hget("aigq:pointers", self.name)
        return pointer.decode() if pointer else self.name

    def start_job(self, *more: str) -> Job:
        """Starts a job beside whatever runs; returns at once."""
        options = {
            "bootstrap": self.broker.bootstrap,
            "topic": self.topic,
            "results_topic": f"{self.name}-lists",
            "dead_letter_topic": f"{self.name}-letters",
            "group": self.name,
            "store": self.store.url,
            "namespace": self.name,
            "models": self.models,
            "model": self.model,
            "model_server": self.gate.url,
            "lease_s": 10,
        }
        if not self.pinned:
            options |= {
                "trigger_drift": POLICY.drift,
                "trigger_settle_ms": POLICY.settle_ms,
                "trigger_max_wait_ms": POLICY.max_wait_ms,
                "trigger_cooldown_ms": POLICY.cooldown_ms,
            }
        command = process.python("pipelines.nearline", *(f"--{name}={value}" for name, value in options.items()), *more)
        log = self.folder / f"{self.name}-job-{len(self.jobs)}.log"
        self.jobs.append(Job(process.start("nearline", command, log)))
        return self.jobs[-1]

    def supervise(self) -> None:
        """Starts the newest job again if it has failed, as local.supervisor does (exit 3 stays down)."""
        newest = self.jobs[-1]
        newest.look()
        if newest.child.running:
            return
        status = newest.child.wait()
        newest.kill()
        if status in (0, 2, FENCED):
            raise DidNotRecover(f"{self.name}: the job ended with status {status}:\n{newest.child.log_tail(5)}")
        self.start_job()

    def wait(self, what: str, done: Callable[[], bool], within_s: float) -> float:
        """Seconds until `done()`; the job is supervised meanwhile. Raises DidNotRecover."""
        begun = time.monotonic()
        while not done():
            self.supervise()
            if time.monotonic() - begun > within_s:
                tail = self.jobs[-1].child.log_tail(8)
                raise DidNotRecover(f"{self.name}: no {what} within {within_s:g} s; the job's log ends:\n{tail}")
            time.sleep(0.1)
        return time.monotonic() - begun

    def has_reached(self, ends: dict[int, int], clock_ms: int = 0) -> bool:
        """Whether every shard has applied every partition up to `ends`, and its clock has come to `clock_ms`."""
        applied, _ = read_progress(self.store.url, self.namespace, SHARDS)
        return len(applied) == SHARDS * PARTITIONS and all(
            next_offset >= ends[partition] and clock >= clock_ms
            for (_, partition), (next_offset, clock) in applied.items()
        )

    def published(self) -> int:
        """Lists so far."""
        return read_store(self.store.url, self.namespace, SHARDS).counts.get("published", 0)

    def ends(self) -> dict[int, int]:
        """The log's ends now. A broker that has just come back leads nothing yet: it is asked again for a minute."""
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": "ends"})
        parts = [TopicPartition(self.topic, partition) for partition in range(PARTITIONS)]
        deadline = time.monotonic() + 60
        try:
            while True:
                try:
                    consumer.list_topics(
                        self.topic, timeout=10
                    )  # a consumer that has just begun may know of no partition yet
                    return {part.partition: consumer.get_watermark_offsets(part, timeout=10)[1] for part in parts}
                except KafkaException:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
        finally:
            consumer.close()

    def settle(self, within_s: float) -> None:
        """Waits until all records are applied, all that forms has fired and every request has ended; ends the job."""
        ends, until_ms = self.ends(), int((time.time() + GRACE_S) * 1000)
        self.wait("end of the log", lambda: self.has_reached(ends, until_ms), within_s)
        with suppress(DidNotRecover):  # the verdict names them: stuck
            self.wait("end of the requests", lambda: read_progress(self.store.url, self.namespace)[1] == 0, within_s)
        for job in self.jobs:
            job.kill()

    def verdict(self) -> Verdict:
        names = Rule.__dataclass_fields__.keys() - {"trigger_version"}
        rule = Rule(POLICY.version, **{name: getattr(POLICY, name) for name in names})
        records = read_topic(self.broker.bootstrap, self.topic)
        return judge(fold_log(records, rule), read_store(self.store.url, self.namespace))

    def close(self) -> None:
        for job in self.jobs:
            job.kill()


@contextmanager
def stage(folder: Path, models: Path, model: str) -> Iterator[Stage]:
    """A real broker, a store with append-only file and a vLLM server: any of them may be struck."""
    with (
        kafka(folder / "kafka") as broker,
        valkey(folder / "store", append_only=True) as store,
        model_server(folder, models, model) as gate,
    ):
        made = Stage(folder, broker, store, models, model, gate)
        try:
            yield made
        finally:
            made.close()


def _alive(each: psutil.Process) -> bool:
    try:
        return each.is_running() and each.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def exit_status(job: Job, within_s: float) -> int | None:
    """How the job ended; None if it still runs."""
    try:
        return job.child.wait(within_s)
    except subprocess.TimeoutExpired:
        return None
