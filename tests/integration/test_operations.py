"""Operators' commands while they run: pause, resume, cancel, how far they are; and where a replay must not go."""

import json
import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from pipelines.operation import Interrupted, Running, Stopped, Window, running
from pipelines.options import NearlineSettings
from pipelines.replay import replay
from store.client import ShopperStore
from store.namespaces import NamespaceInUse, Namespaces
from tests.integration.pages import Page, runbook
from tests.integration.stores import open_store
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
