"""What the nights of the runbook are tried on: a running system, and the operator's commands as they are typed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.faults.load import Load
from bench.faults.model_server import model_server
from bench.faults.stage import Stage
from bench.result import ROOT
from local.kafka import Kafka
from local.valkey import Valkey
from schemas import QueryRun
from store.client import ShopperStore

MODELS = ROOT / "models"
AIGQ = str(Path(sys.executable).with_name("aigq"))


@dataclass
class Night:
    """A stage, and what is typed in front of it."""

    stage: Stage
    model_version: str = ""

    @property
    def store(self) -> ShopperStore:
        return ShopperStore(self.stage.store.url, self.stage.name)

    def options(self) -> list[str]:
        """Of the job's commands: where everything is."""
        return [
            f"--bootstrap={self.stage.broker.bootstrap}",
            f"--topic={self.stage.topic}",
            f"--results_topic={self.stage.name}-lists",
            f"--dead_letter_topic={self.stage.name}-letters",
            f"--store={self.stage.store.url}",
            f"--namespace={self.stage.name}",
            f"--models={self.stage.models}",
            f"--model_server={self.stage.gate.url}",
        ]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`aigq WORDS`, as its own process."""
        environment = os.environ | {"COLUMNS": "200"}
        pipe = subprocess.PIPE
        return subprocess.Popen([AIGQ, *words], stdout=pipe, stderr=pipe, text=True, env=environment, cwd=ROOT)

    def aigq(self, *words: str, exits: int = 0, within_s: float = 200) -> str:
        """What `aigq WORDS` prints. Fails where it exits otherwise."""
        child = self.start(*words)
        try:
            said, complaint = child.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
        assert child.returncode == exits, (
            f"aigq {' '.join(words)}: {child.returncode}\n{said[-2000:]}\n{complaint[-3000:]}"
        )
        return said

    def in_store(self, *words: str, exits: int = 0) -> str:
        """A command that needs only the store."""
        return self.aigq(*words, f"--store={self.stage.store.url}", exits=exits)

    def operation(self, id: str) -> dict[str, Any]:
        """The record of an operation, whatever its status."""
        child = self.start("runs", "show", id, f"--store={self.stage.store.url}", "--json")
        return json.loads(child.communicate(timeout=60)[0])

    def shop(self, seed: int, seconds: float, per_s: float = 60, shoppers: int = 60) -> None:
        """Shoppers come for a while; returns when the job has made their lists."""
        load = Load(self.stage.broker.bootstrap, self.stage.topic, seed, per_s, shoppers).start()
        time.sleep(seconds)
        load.stop()
        self.level()

    def level(self, within_s: float = 120) -> None:
        """Waits until the job has applied the log, all that forms has fired, and every request has ended."""
        ends, until_ms = self.stage.ends(), int((time.time() + 2) * 1000)
        self.stage.wait("end of the log", lambda: self.stage.has_reached(ends, until_ms), within_s)
        self.stage.wait("end of the requests", lambda: not any(self.store.depth()[:2]), within_s)

    def lists(self, namespace: str = "") -> dict[str, list[QueryRun]]:
        store = ShopperStore(self.stage.store.url, namespace, literal=True) if namespace else self.store
        return dict(store.scan_runs())


@contextmanager
def night(kafka: Kafka, valkey: Valkey, name: str, folder: Path, models: Path = MODELS) -> Iterator[Night]:
    """Broker and store of the test's, a vLLM server with the shipped model, and no job yet."""
    with model_server(folder, models, "aigq-small") as gate:
        stage = Stage(folder, kafka, valkey, models, "aigq-small", gate)
        stage.begin(name)
        try:
            yield Night(stage)
        finally:
            stage.close()
