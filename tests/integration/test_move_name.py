"""A name moves to another namespace: who holds it, who is stopped, and what goes with it."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from interest import TriggerPolicy
from pipelines import move_name as moving
from pipelines import operation
from pipelines.move_name import move_name
from pipelines.operation import Stopped, running
from store.client import ShopperStore, WriterFenced
from store.namespaces import HoldLost, Mover, NamespaceInUse, Namespaces
from store.operations import Operations
from tests.integration.stores import META, a_list, fire, open_store, users_of

ANN, BOB, CAT = users_of(0, 3)
POLICY = TriggerPolicy()
PINNED = replace(META, policy_digest=POLICY.version, policy=POLICY.to_json())


@pytest.fixture
def old(valkey, namespace: str) -> ShopperStore:
    """With a list of a good model and one of a revoked one; its job is at work."""
    store = open_store(valkey.url, namespace)
    for user, model in ((ANN, "small/1"), (BOB, "small/2")):
        fire(store, user, f"run-{user}", 10)
        store.publish(a_list(user, f"run-{user}", 10, model=model))
    store.revoke("small/2")
    return store


@pytest.fixture
def new(valkey, namespace: str) -> ShopperStore:
    store = ShopperStore(valkey.url, f"{namespace}-new", META.shards)
    store.open(PINNED)
    store.begin("rebuild")
    return store


class Asked(msgspec.Struct, frozen=True):
    """Nothing."""


def move(name: str, new: ShopperStore, read_level: Callable[[], object]) -> int:
    with running(ShopperStore(new.calls.url, name), "test", Asked()) as run:
        return move_name(name, new, run, "rebuild", read_level)


def read_nothing() -> None:
    """The log has nothing that the new namespace lacks."""


def lists_of(store: ShopperStore, user: str) -> list[str]:
    return [run.run_id for run in store.runs(user)]


@pytest.fixture(autouse=True)
def level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "check_level", lambda old, new: None)


def test_lists_go_along_and_those_of_a_revoked_version_do_not(namespace: str, old: ShopperStore, new: ShopperStore):
    old.begin("rebuild")
    old.erase("rebuild", {CAT: 100})
    assert move(namespace, new, read_nothing) == 1
    assert (lists_of(new, ANN), lists_of(new, BOB)) == ([f"run-{ANN}"], [])
    assert new.revoked() == {"small/2"}
    assert list(new.scan_erased()) == [{CAT: 100}]
    assert Namespaces(new.calls).pointed_to(namespace) == new.namespace


@pytest.mark.parametrize("stage", moving.WRITERS)
def test_whoever_writes_to_the_old_namespace_is_stopped(namespace: str, old: ShopperStore, new: ShopperStore, stage):
    old.begin(stage)
    move(namespace, new, read_nothing)
    with pytest.raises(WriterFenced):
        old.restore(stage, {ANN: []}, {ANN: ["x"]})


def test_a_mover_that_has_lost_its_hold_does_not_move_the_name(namespace: str, old: ShopperStore, new: ShopperStore):
    names = Namespaces(new.calls)

    def hold_runs_out() -> None:
        old.calls.one("test", "DEL", f"aigq:moving:{namespace}")

    with pytest.raises(HoldLost, match="was not moved"):
        move(namespace, new, hold_runs_out)
    assert names.pointed_to(namespace) == namespace

    def another_moves() -> None:
        hold_runs_out()
        names.take(namespace, Mover("other"))

    with pytest.raises(NamespaceInUse, match="other is moving"):
        move(namespace, new, another_moves)
    assert (names.pointed_to(namespace), names.moving(namespace)) == (namespace, "other")


def test_a_job_that_began_in_the_old_namespace_meanwhile_is_stopped_too(
    namespace: str, old: ShopperStore, new: ShopperStore, monkeypatch: pytest.MonkeyPatch
):
    """Its hold ran out and was taken again: the mover cannot know who began in between."""
    late = ShopperStore(old.calls.url, namespace)
    begun_after = 0

    def job_begins(*_: object) -> list[int]:
        nonlocal begun_after
        late.begin("generate")
        late.revoke("small/3")
        begun_after = Namespaces(late.calls).moves(namespace)
        return []

    monkeypatch.setattr(moving, "copy_lists", job_begins)
    move(namespace, new, read_nothing)
    with pytest.raises(WriterFenced):
        late.publish(a_list(ANN, "late", 20))
    assert Namespaces(late.calls).moves(namespace) > begun_after  # so it starts again, instead of asking for a person
    assert "small/3" in new.revoked()


def test_a_move_that_is_cancelled_leaves_the_name_where_it_was(
    namespace: str, old: ShopperStore, new: ShopperStore, monkeypatch: pytest.MonkeyPatch
):
    names = Namespaces(new.calls)
    monkeypatch.setattr(operation, "SAVE_S", 0.0)

    def cancel() -> None:
        Operations(new.calls).cancel(Operations(new.calls).list()[0][0].id)

    with pytest.raises(Stopped, match="was cancelled"):
        move(namespace, new, cancel)
    assert (names.pointed_to(namespace), names.moving(namespace)) == (namespace, None)
    assert move(namespace, new, read_nothing) == 0, "the cancelled one had copied the list"
    assert names.pointed_to(namespace) == new.namespace
