"""Another policy, fold or number of shards under a running system, with requests in flight, and back again."""

import json
import random
import subprocess
from dataclasses import replace

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from bench.faults.load import Load
from bench.faults.model_server import Gate
from interest import EMPTY, FOLD_VERSION, TriggerPolicy, behaviours_of, decode, encode
from local.kafka import Kafka
from local.valkey import Valkey
from pipelines.adopt import adopt
from pipelines.nearline import prepare
from pipelines.options import NearlineOptions, NearlineSettings
from pipelines.unmoved import NamespaceMoved
from store.client import Fired, NamespaceMeta, NamespaceMismatch, ShopperStore, StateChange, WriterFenced
from store.layout import shard_of
from tests.integration.nights import Night, night
from tests.integration.oracle import read_topic


@pytest.fixture
def tonight(kafka: Kafka, valkey: Valkey, vllm: Gate, namespace: str, tmp_path):
    with night(kafka, valkey, vllm, namespace, tmp_path) as made:
        yield made


@pytest.mark.timeout(600)
def test_shards_and_policy_change_under_load_and_back(tonight: Night, kafka: Kafka):
    stage, rng = tonight.stage, random.Random(3)
    stage.start_job()
    tonight.shop(1, 3)
    stage.pinned = True
    said = tonight.aigq("adopt", "--shards=5", *tonight.options())
    assert "shards: 16 -> 5" in said
    assert stage.namespace == stage.name
    load = Load(kafka.bootstrap, stage.topic, 2, 40, 40).start()
    try:
        killed_and_given_again(tonight, rng, "adopt", "--shards=5", "--execute")
        held = tonight.store.pinned()
        assert held
        assert held.shards == 5
        tonight.aigq("adopt", "--trigger_drift=0.5", "--execute", *tonight.options())
        stage.supervise()
        tonight.aigq("adopt", "--trigger_drift=0.2", "--shards=16", "--execute", *tonight.options())
    finally:
        load.stop()
    level(tonight)
    held = tonight.store.pinned()
    assert held
    assert (held.shards, json.loads(held.policy)["drift"]) == (16, 0.2)

    # nothing lost, nothing doubled: every behaviour of the log is held once
    produced: dict[str, set[str]] = {}
    for record in read_topic(kafka.bootstrap, stage.topic):
        event = json.loads(record.value)
        produced.setdefault(event["user"], set()).add(event["id"])
    states = {user: decode(state.blob) for user, state in tonight.store.scan_states()}
    assert states.keys() == produced.keys()
    for user, ids in produced.items():
        assert len(list(behaviours_of(states[user]))) == min(50, len(ids)), user
    assert len(tonight.lists()) > 10


def killed_and_given_again(tonight: Night, rng: random.Random, *words: str) -> None:
    """kill -9 at two random instants, then the same command to its end."""
    for _ in range(2):
        child = tonight.start(*words, *tonight.options())
        try:
            child.wait(rng.uniform(1, 5))
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        tonight.stage.supervise()
    tonight.aigq(*words, *tonight.options())
    tonight.stage.supervise()


def level(tonight: Night) -> None:
    """The stage counts sixteen shards; here the store is asked."""
    ends = tonight.stage.ends()

    def reached() -> bool:
        store = ShopperStore(tonight.stage.store.url, tonight.stage.name)
        at = store.progress()
        return bool(at) and all(applied.next_offset >= ends[p] for (_, p), applied in at.items())

    tonight.stage.wait("end of the log", reached, 120)
    tonight.stage.wait("end of the requests", lambda: not any(tonight.store.depth()[:2]), 120)


def test_another_fold_version_is_refused_until_it_is_adopted_in_place(valkey: Valkey, namespace: str):
    store = ShopperStore(valkey.url, namespace, 4)
    of_today = NamespaceMeta("behaviour", "id", 1, "murmur2", 4, FOLD_VERSION, *_policy())
    store.open(replace(of_today, fold_version=FOLD_VERSION - 1))
    store.begin("track")
    shard = shard_of("ann", 4)
    store.save(shard, 0, 0, 1, 5, [StateChange("ann", b"", encode(EMPTY), None, (Fired("run", 5, b"change"),))])
    with pytest.raises(NamespaceMismatch, match=r"fold_version is 2, the namespace has 1.*aigq adopt"):
        ShopperStore(valkey.url, namespace, 4).open(of_today)
    settings = PipelineOptions(
        [f"--store={valkey.url}", f"--namespace={namespace}", "--bootstrap=none:9092"], streaming=True
    ).view_as(NearlineOptions)
    adopt(settings.settings(), ShopperStore(valkey.url, namespace))
    now = ShopperStore(valkey.url, namespace)
    now.open(of_today)
    assert [request.run_id for _, request in now.waiting()] == ["run"]
    with pytest.raises(WriterFenced):
        store.save(shard, 0, 1, 2, 6)


def test_a_job_that_begins_while_the_policy_changes_starts_again(valkey: Valkey, namespace: str, monkeypatch):
    store = ShopperStore(valkey.url, namespace, 4)
    store.open(NamespaceMeta("behaviour", "id", 1, "murmur2", 4, FOLD_VERSION, *_policy()))
    options = [f"--store={valkey.url}", f"--namespace={namespace}", "--bootstrap=none:9092", "--stages=generate"]
    settings = PipelineOptions(options, streaming=True).view_as(NearlineOptions).settings()
    drifted = replace(settings, trigger_drift=TriggerPolicy().drift + 0.1)
    policy_of = NearlineSettings.policy_of

    def slow(self, pinned):
        found = policy_of(self, pinned)
        if self is settings:
            adopt(drifted, ShopperStore(valkey.url, namespace))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(NearlineSettings, "policy_of", slow)
        with pytest.raises(NamespaceMoved, match="aigq adopt"):
            prepare(settings)
    job, _ = prepare(settings)
    assert job.policy.drift == drifted.trigger_drift


def _policy() -> tuple[str, str]:
    policy = TriggerPolicy()
    return policy.version, policy.to_json()
