"""Operators' commands while they run: pause, resume, cancel, how far they are; and where a replay must not go."""

import json
import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from interest import EMPTY, FOLD_VERSION, TriggerPolicy, encode
from pipelines import adopt as adopting
from pipelines import operation
from pipelines.backfill import Backfill, backfill
from pipelines.drop import drop
from pipelines.drop import preview as preview_drop
from pipelines.operation import Interrupted, Running, Stopped, Window, running
from pipelines.options import NearlineSettings
from pipelines.replay import replay, take_back
from store import operations
from store.client import NamespaceMeta, ShopperStore
from store.namespaces import NamespaceInUse, Namespaces
from store.operations import Operations
from tests.integration.pages import Page, runbook
from tests.integration.stores import META, claimed, fire, new, open_store, put
from tests.integration.typed import typed

PATIENCE_S = 60


class Asked(msgspec.Struct, frozen=True):
    what: str = "a hundred"


@pytest.fixture
def store(valkey, namespace: str) -> ShopperStore:
    return open_store(valkey.url, namespace)


class Work(threading.Thread):
    """An operation that has a hundred pieces of work, and looks up after each."""

    def __init__(self, store: ShopperStore):
        super().__init__(daemon=True)
        self._store = store
        self.done: list[int] = []
        self.ended = ""
        self.run_of: Running | None = None

    def run(self) -> None:
        try:
            with running(self._store, "test", Asked()) as run:
                self.run_of = run
                for piece in range(int(run.progress.checkpoint or 0), 100):
                    self.done.append(piece)
                    run.note(checkpoint=str(piece + 1), done=piece + 1, of=100, now=True)
                    time.sleep(0.02)
        except Stopped as stopped:
            self.ended = str(stopped)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ask(store: ShopperStore, page: Page, begins: str, exits: int = 0) -> str:
    """What the page's next command says."""
    return typed(*page.next(begins)[1:], f"--store={store.calls.url}", exits=exits)


def runs(store: ShopperStore, *words: str, exits: int = 0) -> str:
    return typed("runs", *words, f"--store={store.calls.url}", exits=exits)


def test_an_operation_is_paused_resumed_cancelled_and_given_again_without_doing_anything_twice(store):
    page = Page(runbook("README"))
    page.ours["redis://store:6379"] = store.calls.url
    first = Work(store)
    first.start()
    until(lambda: len(first.done) > 5)
    assert first.run_of is not None
    id = page.ours["ID"] = first.run_of.id
    (line,) = [line for line in ask(store, page, "aigq runs list").splitlines() if id in line]
    assert "running" in line
    assert "of 100 (" in line
    assert "s to go" in line
    assert "running" in ask(store, page, "aigq runs show", exits=5)

    ask(store, page, "aigq runs pause")
    until(lambda: json.loads(runs(store, "show", id, "--json", exits=5))["status"] == "paused")
    done = len(first.done)
    time.sleep(0.5)
    assert len(first.done) == done

    ask(store, page, "aigq runs resume")
    until(lambda: len(first.done) > done + 5)
    ask(store, page, "aigq runs cancel")
    page.finish()
    first.join(PATIENCE_S)
    assert first.ended == f"{id} was cancelled"
    shown = json.loads(runs(store, "show", id, "--json", exits=4))
    assert shown["status"] == "cancelled"
    assert shown["done"] == len(first.done)
    assert shown["checkpoint"] == str(len(first.done))
    for control in ("pause", "resume", "cancel"):
        assert "is cancelled: there is nothing to" in runs(store, control, id, exits=3)
    assert "no operation 'nobody'" in runs(store, "cancel", "nobody", exits=2)


@pytest.mark.parametrize(("asked", "status", "exits"), [("", "interrupted", 1), ("pause", "stopped", 4)])
def test_what_cannot_wait_in_place_ends_says_why_and_is_cancelled_or_given_again(store, asked, status, exits):
    """As a replay, whose process ends at SIGTERM and at a pause."""
    run = None
    try:
        with running(store, "test", Asked()) as run:
            run.note(checkpoint="70", done=70, of=100, now=True)
            if asked:
                runs(store, "pause", run.id)
            run.stopped()
    except Interrupted:
        assert not asked
    except Stopped:
        assert asked
    assert run is not None
    shown = json.loads(runs(store, "show", run.id, "--json", exits=exits))
    assert (shown["status"], shown["left_s"]) == (status, None)
    for control in ("pause", "resume"):
        assert "same command goes on" in runs(store, control, run.id, exits=3)
    again = Work(store)
    again.run()
    assert again.run_of is not None
    assert (again.run_of.id, again.done) == (run.id, list(range(70, 100)))


def test_one_that_failed_goes_on_where_it_was_when_it_is_given_again(store):
    first = None
    try:
        with running(store, "test", Asked()) as first:
            first.note(checkpoint="70", now=True)
            raise OSError("the disk is full")
    except OSError:
        assert first is not None
    said = runs(store, "show", first.id, exits=1)
    assert "same command goes on" in said
    assert "the disk is full" in said
    again = Work(store)
    again.run()
    assert again.run_of is not None
    assert again.run_of.id == first.id
    assert again.done == list(range(70, 100))
    runs(store, "show", first.id)


def test_a_replay_never_goes_into_a_namespace_that_is_served(store, valkey):
    settings = NearlineSettings(bootstrap="127.0.0.1:1", store=valkey.url, namespace=store.name, stages="track")
    Namespaces(store.calls).point(f"{store.name}-page", f"{store.name}-moved")
    for into in (store.name, f"{store.name}-page", f"{store.name}-moved"):
        with pytest.raises(NamespaceInUse, match="another namespace"):
            replay(settings, store, Window(0, 1), into, ())
    job = open_store(valkey.url, f"{store.name}-job")
    with pytest.raises(NamespaceInUse, match="opened by a job"):
        replay(settings, store, Window(0, 1), job.name, ())


def test_a_second_backfill_of_a_namespace_is_refused_while_the_first_works(store, monkeypatch):
    put(store, new("ann"))
    with running(store, "backfill", Asked("others")) as first:
        store.begin("backfill")
        wanted = Backfill(store.calls.url, store.name, None, users=("nobody",))
        with pytest.raises(
            NamespaceInUse, match=f"{first.id} works on .*aigq runs show {first.id}.*said nothing for 30 s"
        ):
            backfill(wanted, execute=True)
        assert store.want("backfill", [], low=True) == []
        assert [each.id for each, _ in Operations(store.calls).list() if each.namespace == store.name] == [first.id]
        monkeypatch.setattr(operations, "SILENT_S", -1.0)  # it was killed
        assert backfill(wanted, execute=True) == 0


def test_a_namespace_that_is_dropped_leaves_a_record_and_is_gone_when_it_is_dropped_again(store, valkey):
    shadow = open_store(valkey.url, f"{store.name}-shadow")
    names = Namespaces(store.calls)
    names.make(shadow.name)
    words = ["drop", shadow.name, f"--store={valkey.url}"]
    assert "would remove" in typed(*words)
    assert "keys removed" in typed(*words, "--execute")
    assert "no longer" in typed(*words, "--execute")  # as where the first was killed at its very end
    assert "no longer" in typed(*words)
    records = [each for each in Operations(store.calls).list() if each[0].namespace == shadow.name]
    assert [(each.kind, progress.status) for each, progress in records] == [("drop", "done")] * 2
    assert records[1][1].counts["keys removed"] > 0


def test_a_shadow_is_not_dropped_while_the_command_that_fills_it_works(store, valkey, monkeypatch):
    shadow = open_store(valkey.url, f"{store.name}-filled")
    Namespaces(store.calls).make(shadow.name)
    with running(store, "replay", Asked(shadow.name)) as filling:
        assert f"{filling.id} works on" in preview_drop(shadow)
        with pytest.raises(NamespaceInUse, match=f"aigq runs cancel {filling.id}"):
            drop(shadow)
        assert shadow.pinned() is not None
        monkeypatch.setattr(operations, "SILENT_S", -1.0)  # it was killed
        assert "keys removed" in drop(shadow)


def test_what_a_killed_replay_had_at_its_model_is_free_at_once(store):
    fire(store, "ann", "run-1", 1_000)
    assert claimed(store) == [("ann", "run-1", 1)]
    assert claimed(store) == []
    take_back(store)
    assert claimed(store) == [("ann", "run-1", 2)]


@pytest.fixture
def lived_in(valkey, namespace: str) -> ShopperStore:
    """A namespace with shoppers, as a job left it."""
    policy = TriggerPolicy()
    store = ShopperStore(valkey.url, namespace, META.shards)
    store.open(
        NamespaceMeta("behaviour", "id", 1, "murmur2", META.shards, FOLD_VERSION, policy.version, policy.to_json())
    )
    store.begin("track")
    for number in range(5):
        put(store, new(f"shopper-{number}", encode(EMPTY)))
    return store


def test_a_cancelled_adoption_ends_at_once_lets_the_name_go_and_leaves_no_half_copy(lived_in, monkeypatch):
    settings = NearlineSettings(store=lived_in.calls.url, namespace=lived_in.name, bootstrap="unused:9092", shards=7)
    names, live = Namespaces(lived_in.calls), ShopperStore(lived_in.calls.url, lived_in.name)
    monkeypatch.setattr(operation, "SAVE_S", 0.0)
    monkeypatch.setattr(adopting, "AT_ONCE", 1)
    with monkeypatch.context() as patch:
        patch.setattr(ShopperStore, "scan_states", cancelling(ShopperStore.scan_states))
        with pytest.raises(Stopped, match="was cancelled"):
            adopting.adopt(settings, live)
    ((operation_, progress),) = [e for e in Operations(live.calls).list() if e[0].namespace == live.name]
    assert (progress.status, progress.done, progress.of) == ("cancelled", 1, 5)
    assert names.moving(live.name) is None
    assert [each for each in names.names() if each.startswith(live.name)] == [live.name]

    id = adopting.adopt(settings, live)
    assert id != operation_.id
    _, progress = Operations(live.calls).show(id)
    assert (progress.status, progress.done, progress.of) == ("done", 5, 5)
    assert ShopperStore(live.calls.url, live.name).shards == 7


def cancelling(scan: Callable) -> Callable:
    def scan_and_cancel(self: ShopperStore):
        for state in scan(self):
            newest, _ = Operations(self.calls).list()[0]
            Operations(self.calls).cancel(newest.id)
            yield state

    return scan_and_cancel
