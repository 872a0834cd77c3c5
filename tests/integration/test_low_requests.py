"""Requests of low priority in the generate branch: after the shoppers' own, few at once, and only where the tracking is level."""

from collections.abc import Sequence

import pytest

from inference.scripted_engine import ScriptedEngine
from interest import decode
from store.client import ShopperStore
from tests.integration.test_generate_branch import (
    META,
    POLICY,
    SHARDS,
    a_second_ago,
    branch,
    now_ms,  # noqa: F401  a fixture
    shop,
)
from transforms import metrics
from transforms.generate_queries import decode_change
from transforms.want_lists import run_id, wanted_list

HOUR_MS = 3_600_000


@pytest.fixture
def store(valkey, namespace: str) -> ShopperStore:
    store = ShopperStore(valkey.url, namespace, SHARDS, deadline_s=10)
    store.open(META)
    for stage in ("track", "generate", "backfill"):
        store.begin(stage)
    return store


def ask_for(store: ShopperStore, users: Sequence[str], as_of_ms: int) -> None:
    for user in users:
        state = store.state(user)
        assert state
        wanted = wanted_list(user, decode(state.blob), as_of_ms, "backfill-1", POLICY.version)
        assert wanted
        assert store.want("backfill", [wanted], low=True) == ["requested"]


def long_ago(store: ShopperStore, users: list[str], now_ms: int) -> None:  # noqa: F811
    """States whose changes fired and became lists an hour before."""
    shop(store, users, now_ms - HOUR_MS, now_ms)
    branch(store, ScriptedEngine(), max_age_s=0).run_until_ended(published=len(users))


def test_few_of_low_priority_are_in_flight_at_once_and_all_become_lists(store: ShopperStore, now_ms: int):  # noqa: F811
    users = [f"u{n}" for n in range(20)]
    long_ago(store, users, now_ms)
    ask_for(store, users, now_ms)
    held: list[int] = []
    b = branch(store, ScriptedEngine(delay_s=0.01), low_in_flight=4)
    claim = b.store.claim

    def watched(*arguments):
        claims = claim(*arguments)
        held.append(b.generation.in_flight + len(claims))
        return claims

    b.store.claim = watched  # type: ignore[method-assign]
    b.run_until_ended(published=40)
    assert max(held) == 4
    for user in users:
        newest, before = store.runs(user)
        assert (newest.run_id, newest.origin) == (run_id(user, now_ms, "backfill-1"), "backfill-1")
        assert before.as_of_ms < newest.as_of_ms == now_ms


def test_a_shoppers_own_change_comes_first(store: ShopperStore, now_ms: int):  # noqa: F811
    long_ago(store, ["asked for"], now_ms)
    ask_for(store, ["asked for"], now_ms)
    a_second_ago(store, ["live"], now_ms)
    order: list[str] = []
    b = branch(store, ScriptedEngine(), low_in_flight=1)
    claim = b.store.claim

    def watched(room: int, *arguments):
        claims = claim(min(room, 1), *arguments)
        order.extend(each.user for each in claims)
        return claims

    b.store.claim = watched  # type: ignore[method-assign]
    b.run_until_ended(published=3)
    assert order == ["live", "asked for"]


def test_they_wait_for_as_long_as_the_tracking_is_behind_and_have_no_age(store: ShopperStore, now_ms: int):  # noqa: F811
    clock_ms = now_ms - 2 * HOUR_MS
    shop(store, ["u"], clock_ms - HOUR_MS, clock_ms)
    branch(store, ScriptedEngine(), max_age_s=0, catch_up_s=0).run_until_ended(published=1)
    ask_for(store, ["u"], clock_ms)
    b = branch(store, ScriptedEngine(), catch_up_s=0.2)
    for _ in range(5):
        assert not b.claimer.next_batch()
    assert store.depth().low == 1
    shop(store, [], now_ms, now_ms)
    b.claimer._catch_up_ms = 30_000
    b.run_until_ended(published=2)


def test_a_list_that_nobody_waited_for_is_not_among_the_times_to_list(store: ShopperStore, now_ms: int):  # noqa: F811
    def observed() -> float:
        return metrics.TIME_TO_LIST.labels("total")._sum.get()

    long_ago(store, ["u"], now_ms)
    before = observed()
    ask_for(store, ["u"], now_ms)
    (request,) = [request for _, request in store.waiting()]
    assert decode_change(request.blob).newest_ms == now_ms - HOUR_MS
    branch(store, ScriptedEngine()).run_until_ended(published=2)
    assert observed() == before
