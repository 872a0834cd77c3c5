"""`aigq models rollback --from=VERSION --revoke`: the given-up version's lists are refused, those still being made too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference.model_versions import latest, promote, publish
from store.client import Fired, NamespaceMeta, Publication, ShopperStore, StateChange
from training.tiny import random_bundle

META = NamespaceMeta("behaviour", "id", 1, "murmur2", 4, 1, "")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in ("1", "2"):
        publish(random_bundle(tmp_path / f"bundle-{version}", version=version).path, tmp_path / "models")
        promote(tmp_path / "models", "tiny", version)
    return tmp_path / "models"


def roll_back(models: Path, store: str, namespace: str) -> subprocess.CompletedProcess[str]:
    return aigq_models(
        models, "rollback", "--from=2", "--revoke", "--why=bad lists", f"--store={store}", f"--namespace={namespace}"
    )


def aigq_models(models: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "models", *words, f"--models={models}", "--name=tiny"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})


def test_a_list_of_the_given_up_version_that_was_under_way_is_refused(valkey, namespace, models):
    store = ShopperStore(valkey.url, namespace)
    store.open(META)
    store.begin("track")
    store.begin("generate")
    under_way = latest(models, "tiny")
    assert under_way is not None
    for user in ("anna", "bert"):
        shard = store._shard_of(user).number
        change = StateChange(user, b"", b"state", None, (Fired(f"run-{user}", 10, b"change"),))
        offset = 0 if (applied := store.applied(0).get(shard)) is None else applied.next_offset
        assert store.save(shard, 0, offset, offset + 1, 10, [change]).status == "saved"
    assert len(store.claim(2, 60_000)) == 2

    done = roll_back(models, valkey.tcp_url, namespace)
    assert done.returncode == 0, done.stderr
    assert "revoked tiny/2" in done.stdout

    served = latest(models, "tiny")
    assert served is not None
    assert (served.version, served.promotion) == ("tiny/1", 3)
    late = Publication("anna", "run-anna", 10, under_way.promotion, under_way.version, b"list")
    good = Publication("bert", "run-bert", 10, served.promotion, served.version, b"list")
    assert [result.outcome for result in store.publish_many([late, good])] == ["refused", "published"]

    again = roll_back(models, valkey.tcp_url, namespace)
    assert (again.returncode, "tiny/2 no longer serves: tiny/1 does since" in again.stderr) == (3, True)
    assert store.revoked() == {"tiny/2"}, "the good one is not revoked by who comes second"

    recorded = f"revoked tiny/2 in namespace '{namespace}' of {valkey.tcp_url}  bad lists"
    assert recorded in aigq_models(models, "list").stdout
    assert recorded in aigq_models(models, "show", "2").stdout
    assert recorded not in aigq_models(models, "show", "1").stdout
    again = aigq_models(models, "promote", "2")
    assert (again.returncode, "every list is refused there" in again.stderr) == (0, True)


def test_where_no_job_has_opened_the_namespace_nothing_is_rolled_back(valkey, namespace, models):
    refused = roll_back(models, valkey.tcp_url, namespace)
    assert refused.returncode == 2
    assert namespace in refused.stderr
    assert json.loads((models / "tiny" / "CURRENT").read_text())["version"] == "2"
