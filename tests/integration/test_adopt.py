"""Another policy, fold or number of shards under a running system, with requests in flight, and back again."""

import json
import random
import subprocess
import time
from dataclasses import replace

import msgspec
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from bench.faults.load import Load
from bench.faults.model_server import Gate
from inference.scripted_engine import ScriptedEngine
from interest import FOLD_VERSION, TriggerPolicy, behaviours_of, decode, due_ms
from local.kafka import Kafka
from local.valkey import Valkey
from pipelines.adopt import adopt, preview
from pipelines.nearline import prepare
from pipelines.options import NearlineOptions, NearlineSettings
from pipelines.unmoved import NamespaceMoved
from store.client import NamespaceMeta, NamespaceMismatch, Publication, ShopperStore, StateChange, WriterFenced
from store.layout import shard_of
from tests.integration.nights import Night, night
from tests.integration.oracle import read_topic
from tests.integration.test_generate_branch import META, POLICY, SHARDS, a_second_ago, branch, shop
from transforms.fire_due import fire_due


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


@pytest.mark.parametrize("written_by", [FOLD_VERSION - 1, FOLD_VERSION + 1], ids=["forward", "back"])
def test_another_fold_is_adopted_in_place_with_requests_in_flight(valkey: Valkey, namespace: str, written_by: int):
    """Forward this release finds what the one before it wrote, back what a later one did. One request waits, one is at a model,
    and one shopper's change has not come due yet: each ends in that shopper's list."""
    now_ms = int(time.time() * 1000)
    of_today = replace(META, fold_version=FOLD_VERSION, policy=POLICY.to_json())
    before = ShopperStore(valkey.url, namespace, SHARDS)
    before.open(replace(of_today, fold_version=written_by))
    before.begin("track")
    before.begin("generate")
    a_second_ago(before, ["ann", "bert"], now_ms)
    shop(before, ["cleo"], now_ms, now_ms, query="lego")
    assert fire_due(before, POLICY, {where: at.clock_ms for where, at in before.progress().items()}) == (2, 2)
    (at_model,) = before.claim(1, lease_ms=500)
    as_written_by(written_by, before)
    requests = {user: each.run_id for found in (before.waiting(), before.leased()) for user, each in found}
    assert len(requests) == 2

    named = f"fold_version is {FOLD_VERSION}, the namespace has {written_by}.*aigq adopt"
    with pytest.raises(NamespaceMismatch, match=named):
        ShopperStore(valkey.url, namespace).open(of_today)
    settings = PipelineOptions(
        [f"--store={valkey.url}", f"--namespace={namespace}", "--bootstrap=none:9092"], streaming=True
    ).view_as(NearlineOptions)
    looked_at = preview(settings.settings(), ShopperStore(valkey.url, namespace))
    assert f"fold_version: {written_by} -> {FOLD_VERSION}" in looked_at
    assert "1 wait and 1 are at the model" in looked_at
    adopt(settings.settings(), ShopperStore(valkey.url, namespace))
    with pytest.raises(WriterFenced):
        before.save(0, 0, 2, 3, now_ms)
    with pytest.raises(WriterFenced):
        before.publish_many([Publication(at_model.user, at_model.run_id, now_ms, 1, "old/1", b"late")])

    now = ShopperStore(valkey.url, namespace, deadline_s=10)
    now.open(of_today)
    now.begin("track")
    now.begin("generate")
    held = {user: [each.text for each in behaviours_of(decode(state.blob))] for user, state in now.scan_states()}
    assert held == {"ann": ["red tv"], "bert": ["red tv"], "cleo": ["lego"]}
    working = branch(now, ScriptedEngine())
    working.run_until_ended(published=2)
    assert {user: [run.run_id for run in now.runs(user)] for user in requests} == {
        u: [id] for u, id in requests.items()
    }
    for shard in range(SHARDS):  # time passes, and the state that the other fold wrote comes due
        assert now.save(shard, 0, 2, 2, now_ms + POLICY.settle_ms + 1_000, []).status == "saved"
    working.run_until_ended(published=3)
    assert len(now.runs("cleo")) == 1
    assert now.fired() == 3


def as_written_by(fold_version: int, store: ShopperStore) -> None:
    """The states as another release keeps them: a later one has a field more, the one before it had one less."""
    for user, state in dict(store.scan_states()).items():
        fields = msgspec.msgpack.decode(state.blob)
        fields = [*fields, "of tomorrow"] if fold_version > FOLD_VERSION else fields[:-1]
        at = due_ms(decode(state.blob), POLICY)
        change = StateChange(user, state.token, msgspec.msgpack.encode(fields), at)
        shard = shard_of(user, SHARDS)
        applied = store.applied(0)[shard]
        saved = store.save(shard, 0, applied.next_offset, applied.next_offset, applied.clock_ms, [change])
        assert saved.status == "saved"


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
