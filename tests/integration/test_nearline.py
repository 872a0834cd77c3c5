"""The whole way on real parts: broker, store, Prism, vLLM and the shipped model; events in, lists out, drained by SIGTERM."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from local import process
from local.ports import free_port
from local.topics import create_topics
from schemas import BehaviourEvent
from schemas.codec import encoder_for
from serving.lookup import Lookup
from simulation.crowd import Crowd
from store.client import ShopperStore
from tests.integration import readme
from tests.integration.reading import records_in

MODELS = Path(__file__).parents[2] / "models"
PATIENCE_S = 280
"""For a loaded machine, where vLLM alone takes two minutes to load."""


def until(condition, child: process.Child) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert child.running, child.log_tail(40)
        assert time.monotonic() < deadline, child.log_tail(40)
        time.sleep(0.2)


@pytest.mark.timeout(600)
def test_events_become_lists_and_sigterm_drains(tansu, valkey, namespace, tmp_path):
    topics = {name: f"{name}-{namespace}" for name in ("behaviour", "query-runs", "dead-letters")}
    create_topics(tansu.bootstrap, tuple(topics.values()))
    port = free_port()
    job = process.start(
        "job",
        [
            *readme.words(
                "aigq run nearline --bootstrap=broker:9092 --store=redis://store:6379",
                broker=tansu.bootstrap,
                store=valkey.tcp_url,
            ),
            *(f"--namespace={namespace}", f"--group={namespace}", f"--topic={topics['behaviour']}"),
            *(f"--results_topic={topics['query-runs']}", f"--dead_letter_topic={topics['dead-letters']}"),
            *(f"--models={MODELS}", f"--metrics_port={port}", f"--summary={tmp_path / 'summary.json'}"),
        ],
        tmp_path / "job.log",
    )
    try:
        store = ShopperStore(valkey.url, namespace)
        events = list(Crowd(11).bursts(int(time.time() * 1000), 20, 8))
        producer, encode = (
            Producer({"bootstrap.servers": tansu.bootstrap, "partitioner": "murmur2_random"}),
            encoder_for(BehaviourEvent),
        )
        for event in events:
            producer.produce(topics["behaviour"], key=event.user, value=encode(event))
        producer.produce(topics["behaviour"], key="nobody", value=b"{ not json")
        producer.flush()
        until(lambda: store.pinned() and store.fired() >= 10, job)
        until(lambda: sum(store.counts().values()) == store.fired() and store.counts()["published"] >= 10, job)

        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'aigq_dead_letters_total{reason="bad_json",stage="decode"} 1.0' in metrics
        assert 'aigq_time_to_list_seconds_count{part="total"}' in metrics
        served = [user for user in {event.user for event in events} if Lookup(store).hints(user)]
        assert len(served) >= 10
        run = store.runs(served[0])[0]
        assert len(run.queries) >= 5
        assert run.newest_ms <= run.as_of_ms <= run.claimed_ms <= run.generated_ms <= run.stored_ms
        assert run.model_version.startswith("aigq-small/")
        published = store.counts()["published"]
        assert run.queries[0] in command("get", served[0], valkey.tcp_url, namespace)
        explained = command("explain", served[0], valkey.tcp_url, namespace)
        assert "interest (drift" in explained
        assert "aigq-small/" in explained
        status_screen = command("status", "", valkey.tcp_url, namespace)
        assert f"published {published:,}" in status_screen
    finally:
        status = job.stop(within_s=90)
    assert status == 0, job.log_tail(40)
    last = [line for line in job.log.read_text().splitlines() if line.startswith('{"summary"')][-1]
    summary = json.loads(last)["summary"]
    assert summary == json.loads((tmp_path / "summary.json").read_text())["summary"]
    assert summary["events"]["folded"] + summary["events"].get("duplicate", 0) == len(events)
    assert summary["requests"]["published"] == published
    assert len(records_in(tansu.bootstrap, topics["query-runs"], published)) == published


def command(name: str, user: str, store: str, namespace: str) -> str:
    """What `aigq NAME [USER]` prints; exits 0."""
    arguments = [
        sys.executable,
        "-m",
        "cli",
        name,
        *([user] if user else []),
        "--store",
        store,
        "--namespace",
        namespace,
    ]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout
