"""The lists that end requests: stored once, and no older one over a newer."""

import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from local.valkey import Valkey
from schemas import QueryRun
from store.client import Fired, Request, Requests, ShopperStore, StateChange
from store.codec import encode_run
from store.layout import Shard, shard_of
from tests.integration.stores import (
    HOUR_MS,
    SHARDS,
    a_list,
    claimed,
    ended,
    fire,
    new,
    open_store,
    published,
    put,
    run_ids,
    users_of,
)

ANN, BOB, CAT = users_of(1, 3)
DAN = users_of(2, 1)[0]
NOBODY = Requests(None, None)


@pytest.fixture
def store(valkey: Valkey, namespace: str) -> ShopperStore:
    return open_store(valkey.url, namespace)


def test_a_published_list_is_read_in_one_call_and_equal_to_what_was_written(store):
    assert published(store, ANN, "a", 10) == "published"
    assert store.runs(ANN) == [msgspec.msgpack.decode(a_list(ANN, "a", 10).blob, type=QueryRun)]
    assert (store.runs(BOB), ended(store)) == ([], {"published": 1})


def test_publishing_is_idempotent_by_run_id(store):
    published(store, ANN, "a", 10)
    first = a_list(ANN, "a", 10)
    other_text = encode_run(msgspec.structs.replace(store.runs(ANN)[0], queries=("sampled anew",)))
    result = store.publish(replace(first, blob=other_text))
    assert (result.outcome, result.stored) == ("repeated", first.blob)
    assert (run_ids(store, ANN), ended(store)) == (["a"], {"published": 1})


def test_a_request_fired_again_after_its_list_was_stored_ends_as_published_without_another_list(store):
    published(store, ANN, "a", 10)
    assert published(store, ANN, "a", 10) == "repeated"
    assert (run_ids(store, ANN), ended(store)) == (["a"], {"published": 2})


def test_lists_are_ordered_by_as_of_and_the_newest_are_kept(store):
    for run_id, as_of in (("c", 30), ("a", 10), ("d", 40), ("b", 5), ("e", 50)):
        outcome = published(store, ANN, run_id, as_of)
        assert outcome == ("older" if run_id == "b" else "published")
    assert run_ids(store, ANN) == ["e", "d", "c"]
    assert ended(store) == {"published": 4, "conflated": 1}


def test_a_late_run_never_replaces_a_newer_one(store):
    published(store, ANN, "new", 20)
    assert published(store, ANN, "late", 10) == "published"  # kept, below the newer
    assert run_ids(store, ANN) == ["new", "late"]


def test_of_two_lists_with_one_as_of_the_higher_promotion_wins(store):
    published(store, ANN, "one", 10, promotion=2)
    assert published(store, ANN, "two", 10, promotion=1) == "older"
    assert published(store, ANN, "three", 10, promotion=2) == "older"
    assert run_ids(store, ANN) == ["one"]
    assert published(store, ANN, "four", 10, promotion=3) == "published"
    assert run_ids(store, ANN) == ["four"]
    assert published(store, ANN, "four", 10, promotion=4) == "published"  # a rollback counts up as well
    assert [run.promotion for run in store.runs(ANN)] == [4]


def test_a_run_whose_request_has_ended_writes_nothing(store):
    fire(store, ANN, "a", 10)
    claimed(store)
    store.finish(ANN, "a", "expired")
    assert store.publish(a_list(ANN, "a", 10)).outcome == "unknown"
    assert (store.runs(ANN), ended(store)) == ([], {"expired": 1})


def test_a_list_that_comes_after_its_lease_ran_out_still_counts(store):
    fire(store, ANN, "a", 10)
    claimed(store, 1, lease_ms=0)
    assert store.publish(a_list(ANN, "a", 10)).outcome == "published"
    assert claimed(store) == []


def test_a_list_of_a_revoked_model_version_is_refused(store):
    store.revoke("small/1")
    assert published(store, ANN, "a", 10) == "refused"
    assert published(store, ANN, "b", 20, model="small/2") == "published"
    assert ended(store) == {"refused": 1, "published": 1}


def test_erasure_takes_lists_and_requests_and_refuses_what_comes_from_before_it(store):
    published(store, ANN, "a", 10)
    fire(store, ANN, "b", 20)
    claimed(store)
    fire(store, ANN, "c", 30)
    put(store, StateChange(ANN, store.state(ANN).token, b"erased", None, (), 30))
    assert (store.runs(ANN), store.request(ANN)) == ([], NOBODY)
    assert store.publish(a_list(ANN, "b", 20)).outcome == "refused"
    assert ended(store) == {"published": 1, "refused": 2}
    assert published(store, ANN, "d", 30) == "refused"
    assert published(store, ANN, "e", 31) == "published"


def test_what_a_shopper_does_after_an_erasure_in_the_same_save_stays(store):
    put(store, StateChange(ANN, b"", b"", None, (Fired("before", 10, b""), Fired("after", 30, b"")), 20))
    assert claimed(store) == [(ANN, "after", 1)]


def test_the_tombstone_keeps_the_latest_erasure_and_outlives_retention(store, namespace):
    put(store, StateChange(ANN, b"", b"", None, (), 50))
    put(store, StateChange(ANN, store.state(ANN).token, b"", None, (), 40))
    client: Any = store.calls.client
    key = Shard(namespace, shard_of(ANN, SHARDS)).tombstone(ANN)
    assert client.get(key) == b"50"
    assert client.pttl(key) > 399 * 24 * HOUR_MS


def test_ended_requests_are_forgotten_one_by_one_and_stay_counted(store):
    published(store, ANN, "a", 10)
    (old,) = store.outcomes()
    time.sleep(0.002)
    published(store, ANN, "b", 20)
    store.forget_outcomes(old.ended_ms + 1)
    assert [each.run_id for each in store.outcomes()] == ["b"]
    assert store.counts()["published"] == 2


def test_every_publication_renews_the_time_to_live(store, namespace):
    published(store, ANN, "a", 10)
    client: Any = store.calls.client
    key = Shard(namespace, 1).runs(ANN)
    client.pexpire(key, 5_000)
    published(store, ANN, "b", 20)
    assert client.pttl(key) > 29 * 24 * HOUR_MS


def test_a_caller_with_more_to_do_ends_the_request_itself(store):
    fire(store, ANN, "a", 10)
    claimed(store)
    result = store.publish(a_list(ANN, "a", 10), end_request=False)
    assert (result.outcome, result.stored) == ("published", a_list(ANN, "a", 10).blob)
    assert (run_ids(store, ANN), ended(store), store.depth().leased) == (["a"], {}, 1)
    assert store.request(ANN) == Requests(None, Request("a", 10, 1, b"change", listed=True))
    assert store.publish(a_list(ANN, "a", 10), end_request=False).outcome == "repeated"  # after a crash in between
    assert store.finish(ANN, "a", "published")
    assert ended(store) == {"published": 1}


def test_a_request_whose_list_the_store_has_lost_does_not_end_as_published(store):
    fire(store, ANN, "a", 10)
    claimed(store)  # its list was stored and produced; then the store went back to here
    assert store.finish(ANN, "a", "published") is False
    assert (ended(store), store.depth().leased) == ({}, 1)
    assert store.publish(a_list(ANN, "a", 10)).outcome == "published"


def a_newer_one_fires(store: ShopperStore) -> None:
    fire(store, ANN, "new", 20)
    store.claim(1, HOUR_MS)  # gives up the old one's lease


def a_newer_one_fires_when_the_lease_has_run_out(store: ShopperStore) -> None:
    fire(store, BOB, "b", 99)
    assert claimed(store, 1) == [(BOB, "b", 1)]  # gives up the lease; the request waits again
    fire(store, ANN, "new", 20)


def it_is_claimed_again_in_vain(store: ShopperStore) -> None:
    assert claimed(store) == [(ANN, "a", 2)]
    store.finish(ANN, "a", "malformed")


def its_model_is_revoked(store: ShopperStore) -> None:
    store.revoke("small/1")
    assert store.publish(a_list(ANN, "a", 10)).outcome == "refused"


@pytest.mark.parametrize(
    "happens",
    [
        a_newer_one_fires,
        a_newer_one_fires_when_the_lease_has_run_out,
        it_is_claimed_again_in_vain,
        its_model_is_revoked,
        lambda store: store.finish(ANN, "a", "expired"),
        lambda store: put(store, StateChange(ANN, store.state(ANN).token, b"erased", None, (), 30)),
    ],
)
def test_a_request_whose_list_is_stored_ends_as_published_whatever_becomes_of_its_writer(store, happens):
    fire(store, ANN, "a", 10)
    store.claim(1, 0)
    store.publish(a_list(ANN, "a", 10), end_request=False)
    happens(store)
    assert (ended(store), [each[:3] for each in store.outcomes()]) == ({"published": 1}, [("a", ANN, "published")])


def test_a_list_that_is_not_stored_ends_its_request_whoever_ends_the_others(store):
    for run_id, as_of, outcome in (("c", 30, "published"), ("d", 30, "older"), ("e", 40, "refused")):
        fire(store, ANN, run_id, as_of)
        store.claim(1, HOUR_MS)
        if outcome == "refused":
            store.revoke("small/1")
        assert store.publish(a_list(ANN, run_id, as_of), end_request=False).outcome == outcome
        assert (store.depth().leased == 0) == (outcome != "published")
        store.finish(ANN, run_id, "published")
    assert ended(store) == {"published": 1, "conflated": 1, "refused": 1}


def test_publishing_never_touches_the_state(store):
    put(store, new(ANN, b"kept", 7, Fired("a", 5, b"")))
    before = store.state(ANN)
    claimed(store)
    store.publish(a_list(ANN, "a", 5))
    assert (store.state(ANN), store.due(1, 0, 8, 1)) == (before, [ANN])


def test_lists_of_many_shoppers_are_stored_in_one_round_trip(store):
    for user in (ANN, BOB, DAN):
        fire(store, user, f"run-{user}", 10)
    claimed(store)
    results = store.publish_many([a_list(user, f"run-{user}", 10) for user in (ANN, BOB, DAN, CAT)])
    assert [result.outcome for result in results] == ["published", "published", "published", "unknown"]
