"""What the nights of the runbook are tried on: a running system, its shoppers, and the operator's commands as they are typed."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer
from safetensors.numpy import load_file, save_file

from bench.faults.load import Load
from bench.faults.model_server import Gate
from bench.faults.stage import POLICY, Stage
from bench.result import ROOT
from interest import TriggerPolicy
from local.kafka import Kafka
from local.valkey import Valkey
from schemas import QueryRun
from store.client import ShopperStore
from tests.integration.oracle import Rule
from tests.integration.oracle_store import read_store
from tests.integration.pages import Page, runbook

MODELS = ROOT / "models"
CURRENT = json.loads((MODELS / "aigq-small" / "CURRENT").read_text())
GOOD, PROMOTION = str(CURRENT["version"]), int(CURRENT["promotion"])
OTHER = str(int(GOOD) + 1)
"""Versions: the one that ships (by its so many-th promotion), and the next, which nights publish beside it."""
AIGQ = str(Path(sys.executable).with_name("aigq"))


@dataclass
class Night:
    """A stage, and what is typed in front of it."""

    stage: Stage

    @property
    def store(self) -> ShopperStore:
        return ShopperStore(self.stage.store.url, self.stage.name)

    def page(self, name: str, before: str = "") -> Page:
        """A page of the runbook, or what is before a mark in it, to be typed where broker, store and namespace are exported."""
        names = ("AIGQ_BOOTSTRAP", "AIGQ_STORE", "AIGQ_NAMESPACE")
        exported = (self.stage.broker.bootstrap, self.stage.store.url, self.stage.name)
        return Page(runbook(name, before), dict(zip(names, exported, strict=True)))

    def where(self) -> list[str]:
        """What an on-call exports, as options."""
        stage = self.stage
        return [f"--bootstrap={stage.broker.bootstrap}", f"--store={stage.store.url}", f"--namespace={stage.name}"]

    def options(self) -> list[str]:
        """Of the job's commands: where everything is."""
        return [*self.where(), *self.own_options()]

    def own_options(self) -> list[str]:
        """Those of them that an on-call does not export."""
        return [*self.topics(), f"--models={self.stage.models}", f"--model_server={self.stage.gate.url}"]

    def topics(self) -> list[str]:
        name = self.stage.name
        return [
            f"--topic={self.stage.topic}",
            f"--results_topic={name}-lists",
            f"--dead_letter_topic={name}-letters",
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

    def archive(self, folder: Path) -> None:
        """What the topics hold now, as Parquet files."""
        words = ["run", "archive", "--supervise=no", "--end=now", f"--archive={folder}", "--exposure_topic="]
        self.aigq(*words, self.where()[0], *self.topics()[:2])

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

    def level(self, within_s: float = 200) -> None:
        """Waits until the job has applied the log, all that forms has fired, and every request has ended."""
        ends, until_ms = self.stage.ends(), int((time.time() + 2) * 1000)
        self.stage.wait("end of the log", lambda: self.stage.has_reached(ends, until_ms), within_s)
        self.stage.wait("end of the requests", lambda: not any(self.store.depth()[:2]), within_s)

    def promotions(self, users: Iterable[str]) -> Counter[int]:
        """Lists that these shoppers have, by promotion of the model that made them; read without the product."""
        lists = read_store(self.stage.store.url, self.stage.namespace).lists
        return Counter(promotion for user in users for _, promotion, _ in lists.get(user, []))

    def lists(self, namespace: str = "") -> dict[str, list[QueryRun]]:
        store = ShopperStore(self.stage.store.url, namespace, literal=True) if namespace else self.store
        return dict(store.scan_runs())


@dataclass
class Shoppers:
    """Produces single behaviours, where a night's story needs to know who did what."""

    night: Night
    _number: int = 0

    def __post_init__(self) -> None:
        self._producer = Producer(
            {"bootstrap.servers": self.night.stage.broker.bootstrap, "partitioner": "murmur2_random"}
        )

    def search(self, user: str, query: str) -> None:
        """Enough for a change."""
        self._produce(user, {"kind": "search", "query": query})

    def click(self, user: str, title: str) -> None:
        """One of them is kept, and is no change yet."""
        self._produce(user, {"kind": "click", "item": {"id": title.replace(" ", "-"), "title": title}})

    def _produce(self, user: str, what: dict[str, object]) -> None:
        self._number += 1
        event = {"id": f"{user}-{self._number}", "user": user, "time_ms": int(time.time() * 1000), **what}
        self._producer.produce(self.night.stage.topic, json.dumps(event), user)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


@contextmanager
def night(kafka: Kafka, valkey: Valkey, vllm: Gate, name: str, folder: Path, models: Path = MODELS) -> Iterator[Night]:
    """A topic and a namespace of the night's own on these servers, and no job yet."""
    vllm.open()
    stage = Stage(folder, kafka, valkey, models, "aigq-small", vllm)
    stage.begin(name)
    try:
        yield Night(stage)
    finally:
        stage.close()


def next_second() -> int:
    """Waits for it; Unix milliseconds. Windows are typed in whole seconds."""
    time.sleep(1 - time.time() % 1)
    return round(time.time()) * 1000


def operation_in(said: str) -> str:
    """The operation that a command names."""
    found = re.search(r"[a-z-]+-\d{8}T\d{6}Z-[0-9a-f]{4}", said)
    assert found, said
    return found[0]


def with_another_version(folder: Path) -> tuple[Path, Path]:
    """The shipped models, and a bundle that nobody has published yet: the next version, whose weights were disturbed."""
    models, bundle = folder / "models", folder / "bundle"
    shutil.copytree(MODELS, models)
    shutil.copytree(MODELS / "aigq-small" / GOOD, bundle)
    card = json.loads((bundle / "card.json").read_text())
    (bundle / "card.json").write_text(json.dumps(card | {"version": OTHER}))
    chance = np.random.default_rng(1)
    weights = load_file(bundle / "model.safetensors")
    for name, values in weights.items():
        noise = chance.normal(0, 0.5 * float(values.std()), values.shape)
        weights[name] = values + noise.astype(values.dtype)
    save_file(weights, bundle / "model.safetensors", {"format": "pt"})
    return models, bundle


def rule(policy: TriggerPolicy = POLICY) -> Rule:
    """A policy in the oracle's words."""
    names = Rule.__dataclass_fields__.keys() - {"trigger_version"}
    return Rule(policy.version, **{name: getattr(policy, name) for name in names})
