"""Backfill against a real store; the workers are real but for the model, which answers at once."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import pytest

from inference.scripted_engine import ScriptedEngine
from interest import Arrival, State, decode, encode, quarantine
from pipelines import list_requests, operation
from pipelines.adopt import adopt
from pipelines.backfill import Backfill, Redo, Selection, backfill, failures
from pipelines.list_estimate import estimate
from pipelines.list_requests import Limits, clocks_of
from pipelines.move_name import move_name
from pipelines.operation import DONE, Window, running
from pipelines.options import NearlineSettings
from pipelines.unmoved import NamespaceMoved, unmoved
from store.client import Applied, ShopperStore, Stage, StateChange
from store.layout import shard_of
from store.namespaces import Mover, Namespaces
from store.operations import Operations
from tests.integration.stores import a_list, fire
from tests.integration.test_generate_branch import META, POLICY, SHARDS, branch, shop
from transforms.generate_queries import decode_change
from transforms.place_states import place_states

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
FAST = Limits(per_second=100_000.0)
EVER = Window(0, 1 << 47)


@pytest.fixture
def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture
def store(valkey, namespace: str) -> ShopperStore:
    store = ShopperStore(valkey.url, namespace, SHARDS, deadline_s=10)
    store.open(replace(META, policy=POLICY.to_json()))
    store.begin("track")
    store.begin("generate")
    return store


def settings(store: ShopperStore, **more) -> Backfill:
    return replace(Backfill(store.calls.url, store.namespace, EVER, limits=FAST), **more)


def without_lists(store: ShopperStore, users: list[str], at_ms: int, clock_ms: int) -> None:
    """States whose change never fired, as after an import: nothing comes due by itself."""
    shop(store, users, at_ms, clock_ms)
    for user in users:
        held = store.state(user)
        assert held
        calm = StateChange(user, held.token, encode(_calm(decode(held.blob))), None)
        assert store.fire(shard_of(user, SHARDS), 0, [calm]).status == "saved"


def _calm(state: State) -> State:
    return msgspec.structs.replace(state, started_ms=0, newest_ms=0, evidence=0.0)


@pytest.fixture
def worker(store: ShopperStore) -> Iterator[Callable[..., ScriptedEngine]]:
    """`worker()` starts the generate branch in a thread and returns its engine."""
    ending, threads = threading.Event(), []

    def start(engine: ScriptedEngine | None = None, on: ShopperStore = store) -> ScriptedEngine:
        engine = engine or ScriptedEngine()
        b = branch(on, engine, catch_up_s=0)  # a busy machine is behind, not wrong

        def work() -> None:
            while not ending.is_set():
                claims = b.claimer.next_batch()
                if claims is not None:
                    b.generation.submit(claims)
                    b.writer.write(b.generation.collect())

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()
        return engine

    yield start
    ending.set()
    for thread in threads:
        thread.join()


def every_key(store: ShopperStore) -> dict[bytes, bytes]:
    return {key: store.calls.client.dump(key) for key in store.calls.client.scan_iter()}  # type: ignore[misc]


def test_the_preview_counts_and_writes_nothing(store: ShopperStore, now_ms: int, capsys):
    users = [f"u{n}" for n in range(30)]
    without_lists(store, users, now_ms - HOUR_MS, now_ms)
    before = every_key(store)
    assert backfill(settings(store), execute=False) == DONE
    assert every_key(store) == before
    shown = capsys.readouterr().out
    assert "30 shoppers, 30 lists" in shown
    assert "nothing was written" in shown
    selection = Selection(store, settings(store), "preview", "t", clocks_of(store), {})
    found = estimate(store, users, selection.judge, "models", "aigq-small", settings(store).prices, 100.0)
    assert found.output_tokens == 30 * 60
    assert 0 < found.prompt_tokens < 30 * 300


def test_who_gets_a_request_and_why_the_others_do_not(store: ShopperStore, now_ms: int):
    old, new, listed = ["old"], ["new"], ["listed"]
    without_lists(store, [*old, "broken", "erased", "late"], now_ms - 3 * DAY_MS, now_ms)
    without_lists(store, [*new, *listed], now_ms - HOUR_MS, now_ms)
    without_lists(store, ["future"], now_ms + HOUR_MS, now_ms)
    for user, make in (("broken", _quarantined), ("erased", _erased)):
        held = store.state(user)
        assert held
        change = StateChange(user, held.token, encode(make(decode(held.blob))), None)
        assert store.fire(shard_of(user, SHARDS), 0, [change]).status == "saved"
    store.begin("backfill")
    chosen = settings(store, window=Window(now_ms - DAY_MS, now_ms))
    branch_of = branch(store, ScriptedEngine())
    first = Selection(store, chosen, "first", "t", clocks_of(store), {})
    (wanted,) = first.judge(listed)
    assert not isinstance(wanted, str)
    assert store.want("backfill", [wanted], low=True) == ["requested"]
    branch_of.run_until_ended(published=1)

    selection = Selection(store, chosen, "op", "t", clocks_of(store), failures(store))
    users = ["old", "new", "listed", "broken", "erased", "future", "nobody"]
    verdicts = selection.judge(users)
    assert {
        user: verdict if isinstance(verdict, str) else "wanted" for user, verdict in zip(users, verdicts, strict=True)
    } == {
        "old": "outside the window",
        "new": "wanted",
        "listed": "listed",
        "broken": "quarantined",
        "erased": "erased",
        "future": "no behaviours",
        "nobody": "no state",
    }
    everyone = replace(selection, settings=replace(chosen, redo="all"))
    assert not isinstance(everyone.judge(listed)[0], str)


def _quarantined(state: State) -> State:
    return quarantine(state, Arrival(0, 10, 0))


def _erased(state: State) -> State:
    return State(partition=0, offset=11, erased_ms=5)


def mine(store: ShopperStore):
    return [found for found in Operations(store.calls).list() if found[0].namespace == store.name]


def adopted(store: ShopperStore) -> None:
    """The name stands for a copy with other shards, requests included."""
    options = NearlineSettings(store=store.calls.url, namespace=store.name, bootstrap="unused:9092", shards=3)
    adopt(options, ShopperStore(store.calls.url, store.name))


class Rebuilt(msgspec.Struct, frozen=True):
    """Nothing was asked."""


def rebuilt(store: ShopperStore, meanwhile: Callable[[], None] = lambda: None) -> None:
    """The name stands for a fresh namespace with the same states and lists, and without requests."""
    fresh = ShopperStore(store.calls.url, f"{store.name}-anew", SHARDS, literal=True)
    fresh.open(replace(META, policy=POLICY.to_json()))
    fresh.begin("track")
    fresh.begin("rebuild")
    applied = {0: next(iter(store.applied(0).values()), Applied(0, 0))}
    place_states(fresh, ((user, held.blob) for user, held in store.scan_states()), applied, POLICY)
    with running(fresh, "rebuild", Rebuilt()) as run:
        move_name(store.name, fresh, run, "rebuild", meanwhile)


@pytest.mark.parametrize("redo", ["none", "all"])
@pytest.mark.parametrize("move", [adopted, rebuilt])
def test_given_again_after_the_name_has_moved_everybody_has_one_list_and_nobody_two(
    store: ShopperStore, now_ms: int, worker, monkeypatch, move: Callable[[ShopperStore], None], redo: Redo
):
    users = [f"u{n}" for n in range(400)]
    without_lists(store, users, now_ms - HOUR_MS, now_ms)
    monkeypatch.setattr(operation, "SAVE_S", 0.0)
    want, asked = ShopperStore.want, list[str]()
    work = branch(store, ScriptedEngine())

    def dies(self, stage, wanted, low):
        answers = want(self, stage, wanted, low)
        asked.extend(each.user for each in wanted)
        if len(asked) < 150:
            work.run_until(lambda: not store.depth().low + store.depth().leased)
        elif len(asked) > 250:
            raise KeyboardInterrupt  # some lists are made, more requests wait, and the place is behind most shoppers
        return answers

    monkeypatch.setattr(ShopperStore, "want", dies)
    with pytest.raises(KeyboardInterrupt):
        backfill(settings(store, redo=redo), execute=True)
    monkeypatch.setattr(ShopperStore, "want", want)
    move(store)
    now = ShopperStore(store.calls.url, store.name, deadline_s=10)
    now.begin("track")
    now.begin("generate")
    assert now.namespace != store.namespace
    had = {user for user in users if now.runs(user)}
    worker(on=now)
    assert backfill(settings(store, redo=redo), execute=True) == DONE
    assert {len(now.runs(user)) for user in users} == {1}
    ((begun, progress),) = [each for each in mine(store) if each[0].kind == "backfill"]
    assert {now.runs(user)[0].origin for user in users} == {begun.id}, "one operation made all of them"
    assert 50 < len(had) < 150, "else there is nothing to see"
    made = len(users) - len(had)
    assert progress.counts == {"listed": len(had), "requested": made, "ended published": made}


def test_what_is_typed_while_the_name_is_moved_waits_and_asks_where_it_stands_for_then(
    store: ShopperStore, now_ms: int, worker
):
    without_lists(store, ["u"], now_ms - HOUR_MS, now_ms)
    result: list[int] = []
    command = threading.Thread(target=lambda: result.append(backfill(settings(store), execute=True)), daemon=True)

    def typed() -> None:
        command.start()
        time.sleep(0.7)
        assert mine(store) == []

    rebuilt(store, typed)
    now = ShopperStore(store.calls.url, store.name, deadline_s=10)
    now.begin("generate")
    worker(on=now)
    command.join(30)
    assert (result, [run.origin for run in now.runs("u")]) == ([DONE], [mine(store)[0][0].id])


@pytest.mark.parametrize("stage", ["backfill", "regenerate"])
def test_a_writer_that_begins_while_a_move_begins_is_told_so(store: ShopperStore, stage: Stage):
    mover = Mover("rebuild-1")

    def begin_and_be_moved() -> None:
        with unmoved(store):
            store.begin(stage)
            Namespaces(store.calls).take(store.name, mover)

    with pytest.raises(NamespaceMoved, match="the same again goes on after it"):
        begin_and_be_moved()
    Namespaces(store.calls).release(store.name, mover)
    assert store.namespace == store.name
    rebuilt(store)
    with pytest.raises(NamespaceMoved), unmoved(store):  # it was resolved before the move
        store.begin(stage)


def test_a_newer_list_of_the_shoppers_own_stays_the_newest(store: ShopperStore, now_ms: int, worker):
    without_lists(store, ["u"], now_ms - HOUR_MS, now_ms)
    store.begin("backfill")
    selection = Selection(store, settings(store), "op", "t", clocks_of(store), {})
    (wanted,) = selection.judge(["u"])
    assert not isinstance(wanted, str)
    assert store.want("backfill", [wanted], low=True) == ["requested"]
    (held,) = store.claim(1, 60_000)
    later = now_ms + 60_000
    fire(store, "u", "live", later)
    store.publish(a_list("u", held.run_id, decode_change(held.blob).as_of_ms))
    assert [claim.run_id for claim in store.claim(1, 60_000)] == ["live"]
    store.publish(a_list("u", "live", later))
    assert [run.run_id for run in store.runs("u")] == ["live", held.run_id]
    assert store.want("backfill", [wanted], low=True) == ["listed"]


def test_it_says_what_is_wrong_where_nobody_takes_requests(store: ShopperStore, now_ms: int, monkeypatch, capsys):
    without_lists(store, ["u"], now_ms - HOUR_MS, now_ms)
    monkeypatch.setattr(list_requests, "STUCK_S", 0.5)
    command = threading.Thread(target=lambda: backfill(settings(store), execute=True))
    command.start()
    said = ""
    deadline = time.monotonic() + 30
    while "generate stage running?" not in said:
        assert time.monotonic() < deadline, said
        said += capsys.readouterr().err
        time.sleep(0.1)
    Operations(store.calls).control(mine(store)[0][0].id, "cancel")
    command.join(30)
    assert not command.is_alive()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
