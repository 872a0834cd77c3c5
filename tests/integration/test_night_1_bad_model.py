"""Night 1 of the runbook: a bad model wrote bad lists for a while. It is rolled back, and exactly its lists are made again. Broker,
store, runner, vLLM and the shipped model are real; the bad version is a copy of it under another name."""

import json
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from inference.model_versions import promote, publish
from tests.integration.night_shop import SHIPPED, Shop, shop

GOOD, BAD = "aigq-small/3", "aigq-small/4"
BEFORE, WITHIN, AFTER = ([f"{when}-{number}" for number in range(15)] for when in ("before", "within", "after"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The bad version serves, the good one did before."""
    folder, bad = tmp_path / "models", tmp_path / "bad"
    shutil.copytree(SHIPPED / "aigq-small" / "3", bad)
    card = json.loads((bad / "card.json").read_text())
    (bad / "card.json").write_text(json.dumps(card | {"version": "4"}))
    for bundle, version in ((SHIPPED / "aigq-small" / "3", "3"), (bad, "4")):
        publish(bundle, folder)
        promote(folder, "aigq-small", version)
    return folder


@pytest.mark.timeout(600)
def test_a_bad_models_lists_of_a_window_are_made_again_and_nobody_elses(tansu, valkey, namespace, tmp_path, models):
    with shop(tansu, valkey, namespace, models, tmp_path) as here:
        play(here, BEFORE)
        time.sleep(0.01)
        begin = int(time.time() * 1000)
        play(here, WITHIN)
        assert versions(here, [*BEFORE, *WITHIN]) == {BAD: 30}

        back = here.run(
            "models",
            "rollback",
            f"--from={BAD}",
            "--revoke",
            f"--models={models}",
            f"--namespace={namespace}",
            "--why=bad lists",
        )
        assert back.returncode == 0, back.stderr
        here.until(lambda: f"model {GOOD} (promotion 3) serves" in here.job.log.read_text())
        play(here, AFTER)
        assert versions(here, AFTER) == {GOOD: 15}
        end = int(time.time() * 1000) + 1
        others = here.lists([*BEFORE, *AFTER])
        bad = {user: here.store.runs(user)[0] for user in WITHIN}

        words = ["replay", f"--from={begin}", f"--to={end}", "--regenerate"]
        words += [f"--models={models}", f"--namespace={namespace}"]
        fired, lists = here.store.fired(), here.lists(WITHIN)
        preview = here.run(*words)
        assert preview.returncode == 0, preview.stderr
        assert "15 shoppers, 15 lists" in preview.stdout
        assert f"15 lists of {BAD}" in preview.stdout
        assert (here.store.fired(), here.lists(WITHIN), here.operations()) == (fired, lists, [])

        done = here.run(*words, "--execute")
        assert done.returncode == 0, done.stderr
        assert versions(here, WITHIN) == {GOOD: 15}
        assert here.lists([*BEFORE, *AFTER]) == others
        ((operation, progress),) = here.operations()
        assert (progress.status, progress.note) == ("done", "no bad list is left")
        for user in WITHIN:
            (run,) = here.store.runs(user)
            assert run.origin == operation.id
            assert run.replaces == (bad[user].run_id,)
            assert run.as_of_ms > bad[user].as_of_ms
            assert len(run.queries) >= 5
        results = Counter(run.run_id for run in here.results())
        assert max(results.values()) == 1


def play(here: Shop, users: list[str]) -> None:
    """Each searches once, and gets a list."""
    for number, user in enumerate(users):
        here.search(user, ("gaming laptop", "wireless mouse", "sony microphone")[number % 3])
    here.flush()
    here.until(lambda: all(here.lists(users).values()))
    here.until(lambda: here.store.depth()[:2] == (0, 0))


def versions(here: Shop, users: list[str]) -> dict[str, int]:
    """Stored lists of these shoppers by version of the model."""
    return dict(Counter(run.model_version for user in users for run in here.store.runs(user)))
