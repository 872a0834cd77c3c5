"""A bad model's lists of a window are made again and go; everyone else's stay as they are. The model answers at once here."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from inference.engine import ServedModel
from inference.model_versions import promote, publish
from inference.scripted_engine import ScriptedEngine, generated
from pipelines.list_requests import Limits
from pipelines.operation import A_PERSON_DECIDES, DONE, FAILED, WRONG_ARGUMENTS, Window
from pipelines.regenerate import Regenerate, regenerate, run_regenerate
from store.client import ShopperStore, Wanted
from tests.integration.stores import a_list
from tests.integration.test_backfill import (  # noqa: F401  fixtures among them
    HOUR_MS,
    every_key,
    mine,
    now_ms,
    store,
    until,
    without_lists,
    worker,
)
from training.tiny import random_bundle

# ruff: noqa: F811
GOOD, BAD = ServedModel("", "tiny/1", 3, "1"), ServedModel("", "tiny/2", 2, "1")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 serves."""
    folder = tmp_path_factory.mktemp("models")
    for version in ("2", "1"):
        publish(random_bundle(folder / f"bundle-{version}", version=version).path, folder / "models")
        promote(folder / "models", "tiny", version)
    return folder / "models"


def engine_of(model: ServedModel) -> ScriptedEngine:
    return ScriptedEngine(lambda run_id, prompt: generated(model=model))


def put_list(store: ShopperStore, user: str, run_id: str, as_of_ms: int, model: ServedModel) -> None:
    """Stored at its as-of."""
    store.begin("backfill")
    assert store.want("backfill", [Wanted(user, run_id, as_of_ms, b"change")], low=True) == ["requested"]
    assert store.claim(1, HOUR_MS)
    assert store.publish(a_list(user, run_id, as_of_ms, model=model.version)).outcome == "published"


def settings(store: ShopperStore, models: Path, now_ms: int, **more) -> Regenerate:
    window = Window(now_ms - 2 * HOUR_MS, now_ms - 1)
    chosen = Regenerate(store.calls.url, store.namespace, window, (), str(models), "tiny", Limits(100_000.0))
    return replace(chosen, **more)


def test_exactly_the_shoppers_with_a_bad_list_of_the_window_get_a_new_one(store, models, now_ms, worker):
    bad, good = [f"bad-{n}" for n in range(150)], [f"good-{n}" for n in range(50)]
    without_lists(store, [*bad, *good], now_ms - 3 * HOUR_MS, now_ms)
    for user in [*bad, *good]:
        put_list(store, user, f"run-{user}", now_ms - HOUR_MS, BAD if user in bad else GOOD)
    before = every_key(store)
    lists = {user: store.runs(user) for user in good}
    assert regenerate(settings(store, models, now_ms), execute=False) == DONE
    assert every_key(store) == before
    worker(engine_of(GOOD))
    assert regenerate(settings(store, models, now_ms), execute=True) == DONE
    for user in good:
        assert store.runs(user) == lists[user]
    for user in bad:
        (run,) = store.runs(user)
        assert (run.model_version, run.replaces, run.as_of_ms) == ("tiny/1", (f"run-{user}",), now_ms)
    ((_, progress),) = mine(store)
    assert (progress.status, progress.note) == ("done", "no bad list is left")
    assert progress.counts == {"requested": 150, "ended published": 150}
    assert (progress.done, progress.of) == (150, 150), "the last round, which finds nobody, leaves the sum as it was"


def test_lists_outside_the_window_and_of_versions_not_named_stay(store, models, now_ms, worker):
    without_lists(store, ["u"], now_ms - 3 * HOUR_MS, now_ms)
    put_list(store, "u", "bad", now_ms - HOUR_MS, BAD)
    worker(engine_of(GOOD))
    for window in (Window(0, now_ms - HOUR_MS), Window(now_ms - HOUR_MS + 1, now_ms)):
        assert regenerate(settings(store, models, now_ms, window=window), execute=True) == DONE
    assert regenerate(settings(store, models, now_ms, versions=("tiny/7",)), execute=True) == DONE
    assert [run.run_id for run in store.runs("u")] == ["bad"]
    assert regenerate(settings(store, models, now_ms, versions=("tiny/2",)), execute=True) == DONE
    assert [run.model_version for run in store.runs("u")] == ["tiny/1"]


def test_good_lists_beside_the_bad_one_stay_and_the_newest_never_goes_back(store, models, now_ms, worker):
    without_lists(store, ["u", "newer"], now_ms - 4 * HOUR_MS, now_ms)
    put_list(store, "u", "good", now_ms - 3 * HOUR_MS, GOOD)
    put_list(store, "u", "bad", now_ms - HOUR_MS, BAD)
    put_list(store, "newer", "bad2", now_ms - HOUR_MS, BAD)
    put_list(store, "newer", "good2", now_ms - HOUR_MS // 2, GOOD)
    worker(engine_of(GOOD))
    assert regenerate(settings(store, models, now_ms), execute=True) == DONE
    for user, kept in (("u", "good"), ("newer", "good2")):
        new, old = store.runs(user)
        assert (new.as_of_ms, old.run_id) == (now_ms, kept)


def test_a_bad_list_that_is_on_its_way_when_the_command_begins_goes_in_another_round(store, models, now_ms, worker):
    without_lists(store, ["first", "late"], now_ms - 3 * HOUR_MS, now_ms)
    put_list(store, "first", "bad", now_ms - HOUR_MS, BAD)
    assert store.want("backfill", [Wanted("late", "on-its-way", now_ms - HOUR_MS, b"")], low=True)
    (held,) = store.claim(1, HOUR_MS)
    other = ShopperStore(store.calls.url, store.namespace)
    other.begin("generate", store._epochs["generate"])

    def script(run_id: str, prompt: str):
        if not other.runs("late"):
            other.publish(a_list("late", held.run_id, now_ms - HOUR_MS, model=BAD.version))
        return generated(model=GOOD)

    worker(ScriptedEngine(script))
    assert regenerate(settings(store, models, now_ms), execute=True) == DONE
    assert [run.model_version for run in store.runs("late")] == ["tiny/1"]
    assert [run.model_version for run in store.runs("first")] == ["tiny/1"]


def test_killed_and_given_again_each_shopper_is_asked_for_once(store, models, now_ms, worker, monkeypatch):
    users = [f"u{n}" for n in range(60)]
    without_lists(store, users, now_ms - 3 * HOUR_MS, now_ms)
    for user in users:
        put_list(store, user, f"bad-{user}", now_ms - HOUR_MS, BAD)
    made: list[str] = []

    def script(run_id: str, prompt: str):
        made.append(run_id)
        return generated(model=GOOD)

    worker(ScriptedEngine(script))
    want, calls = ShopperStore.want, itertools.count()

    class Killed(BaseException):
        pass

    def dies(self, stage, wanted, low):
        answers = want(self, stage, wanted, low)
        if next(calls) in (1, 3):
            raise Killed
        return answers

    monkeypatch.setattr(ShopperStore, "want", dies)
    slowly = settings(store, models, now_ms, limits=Limits(200.0))
    for _ in range(2):
        with pytest.raises(Killed):
            regenerate(slowly, execute=True)
        ((_, progress),) = mine(store)
        assert progress.of == 60
        until(lambda: store.depth().low + store.depth().leased == 0)  # made while nobody counts
    assert regenerate(settings(store, models, now_ms), execute=True) == DONE
    assert len(made) == len(set(made)) == 60
    ((_, progress),) = mine(store)
    assert progress.counts["requested"] == progress.counts["ended published"] == 60
    assert progress.done == progress.of == 60
    assert all(run.model_version == "tiny/1" for user in users for run in store.runs(user))


def test_it_says_who_is_left_and_why(store, models, now_ms, worker, capsys):
    without_lists(store, ["fails", "fine"], now_ms - 3 * HOUR_MS, now_ms)
    for user in ("fails", "fine", "stateless"):
        put_list(store, user, f"bad-{user}", now_ms - HOUR_MS, BAD)
    good = generated(model=GOOD)

    def script(run_id: str, prompt: str):
        return good if store_user(store, run_id) == "fine" else generated("no list", GOOD)

    worker(ScriptedEngine(script))
    assert regenerate(settings(store, models, now_ms), execute=True) == FAILED
    said = capsys.readouterr().err
    assert "bad lists are left of 2 shoppers: no state 1; the model failed at it 1" in said
    assert [run.model_version for run in store.runs("fine")] == ["tiny/1"]


def store_user(store: ShopperStore, run_id: str) -> str:
    return next(user for user, request in store.leased() if request.run_id == run_id)


def test_where_the_workers_still_have_the_bad_model_it_stops_and_says_so(store, models, now_ms, worker, capsys):
    users = [f"u{n}" for n in range(120)]
    without_lists(store, users, now_ms - 3 * HOUR_MS, now_ms)
    for user in users:
        put_list(store, user, f"bad-{user}", now_ms - HOUR_MS, BAD)
    worker(engine_of(BAD))
    assert regenerate(settings(store, models, now_ms), execute=True) == FAILED
    assert "a bad version made the new list too 120" in capsys.readouterr().err


def test_a_bad_version_that_serves_is_refused_and_so_are_unknown_words(store, models, now_ms, capsys):
    assert regenerate(settings(store, models, now_ms, versions=("tiny/1",)), execute=True) == A_PERSON_DECIDES
    assert "aigq models rollback" in capsys.readouterr().err
    assert mine(store) == []
    words = [f"--store={store.calls.url}", f"--namespace={store.namespace}", f"--models={models}", "--model=tiny"]
    window = Window(now_ms - HOUR_MS, now_ms)
    assert run_regenerate([*words, "--modelversion=2"], window, False) == WRONG_ARGUMENTS
    assert run_regenerate([*words, "--bootstrap=broker:9092", "--model_version=2"], window, False) == DONE
    assert "0 lists to ask for" in capsys.readouterr().out
