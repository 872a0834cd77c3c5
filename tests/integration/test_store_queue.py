"""The queue of requests: one outcome each."""

import pytest

from local.valkey import Valkey
from store.client import Depth, Fired, Request, Requests, ShopperStore, StateChange
from tests.integration.stores import HOUR_MS, a_list, claimed, ended, fire, open_store, put, users_of

ANN, BOB, CAT = users_of(1, 3)
DAN = users_of(2, 1)[0]
NOBODY = Requests(None, None)


@pytest.fixture
def store(valkey: Valkey, namespace: str) -> ShopperStore:
    return open_store(valkey.url, namespace)


def test_claims_take_the_newest_of_all_shards_first_and_no_more_than_there_is_room_for(store):
    for user, run_id, as_of in ((ANN, "a", 10), (BOB, "b", 30), (DAN, "d", 20)):
        fire(store, user, run_id, as_of)
    assert store.depth() == Depth(3, 0, 10)
    assert claimed(store, 0) == []
    assert sorted(claimed(store, 2)) == sorted([(BOB, "b", 1), (DAN, "d", 1)])
    assert store.depth() == Depth(1, 2, 10)
    assert claimed(store, 2) == [(ANN, "a", 1)]
    assert claimed(store, 2) == []


def test_a_claim_carries_what_was_fired(store):
    put(store, StateChange(ANN, b"", b"", None, (Fired("a", 10, b"\x00 frozen \xff 1 2 3"),)))
    assert store.request(ANN) == Requests(Request("a", 10, 0, b"\x00 frozen \xff 1 2 3"), None)
    (claim,) = store.claim(1, HOUR_MS)
    assert (claim.user, claim.shard, claim.blob) == (ANN, 1, b"\x00 frozen \xff 1 2 3")
    assert store.request(ANN) == Requests(None, Request("a", 10, 1, claim.blob))


def test_a_newer_request_takes_the_place_of_a_waiting_one_which_is_conflated(store):
    fire(store, ANN, "old", 10)
    fire(store, ANN, "new", 20)
    assert ended(store) == {"conflated": 1}
    assert [ended[:3] for ended in store.outcomes()] == [("old", ANN, "conflated")]
    assert claimed(store) == [(ANN, "new", 1)]


def test_of_several_firings_in_one_save_only_the_newest_waits(store):
    fired = (Fired("1", 10, b"1"), Fired("2", 20, b"2"), Fired("3", 30, b"3"))
    assert put(store, StateChange(ANN, b"", b"", None, fired)).conflated == 2
    assert (ended(store), claimed(store)) == ({"conflated": 2}, [(ANN, "3", 1)])


def test_a_request_in_flight_is_decided_on_its_own_and_the_newer_one_waits_until_then(store):
    fire(store, ANN, "first", 10)
    assert claimed(store) == [(ANN, "first", 1)]
    fire(store, ANN, "second", 20)
    assert claimed(store) == []  # one of a shopper at a time
    assert store.depth() == Depth(1, 1, 20)
    assert store.publish(a_list(ANN, "first", 10)).outcome == "published"
    assert claimed(store) == [(ANN, "second", 1)]
    assert ended(store) == {"published": 1}


def test_a_parked_request_never_keeps_others_from_being_claimed(store):
    fire(store, ANN, "a1", 10)
    claimed(store)
    fire(store, ANN, "a2", 99)
    fire(store, BOB, "b", 20)
    assert claimed(store, 1) == [(BOB, "b", 1)]


def test_a_lease_that_runs_out_makes_the_request_claimable_again_and_attempts_are_counted(store):
    fire(store, ANN, "a", 10)
    assert [claimed(store, 1, lease_ms=0) for _ in range(3)] == [[(ANN, "a", attempt)] for attempt in (1, 2, 3)]
    assert ended(store) == {}


def test_a_lease_that_runs_out_while_a_newer_request_waits_is_conflated(store):
    fire(store, ANN, "old", 10)
    claimed(store, 1, lease_ms=0)
    fire(store, ANN, "new", 20)
    assert claimed(store) == [(ANN, "new", 1)]
    assert ended(store) == {"conflated": 1}


def test_an_extended_lease_does_not_run_out(store):
    fire(store, ANN, "a", 10)
    fire(store, DAN, "d", 10)
    claims = store.claim(2, 0)
    assert store.extend(claims, HOUR_MS) == 2
    assert claimed(store) == []
    store.finish(ANN, "a", "malformed")
    assert store.extend(claims, HOUR_MS) == 1


@pytest.mark.parametrize("outcome", ["malformed", "expired", "exhausted", "refused"])
def test_finishing_a_request_clears_it_and_counts_it_once(store, outcome):
    fire(store, ANN, "a", 10)
    claimed(store)
    assert store.finish(ANN, "a", outcome) is True
    assert store.finish(ANN, "a", outcome) is False
    assert (ended(store), store.request(ANN)) == ({outcome: 1}, NOBODY)


def test_a_waiting_request_can_be_finished_too_and_an_unknown_outcome_cannot(store):
    fire(store, ANN, "a", 10)
    assert store.finish(ANN, "another", "expired") is False
    assert store.finish(ANN, "a", "expired") is True
    with pytest.raises(ValueError, match="conflated"):
        store.finish(ANN, "a", "conflated")
    assert ended(store) == {"expired": 1}


def test_the_same_request_fired_again_while_it_waits_or_is_in_flight_is_one_request(store):
    fire(store, ANN, "a", 10)
    fire(store, ANN, "a", 10)
    assert claimed(store) == [(ANN, "a", 1)]
    fire(store, ANN, "a", 10)
    assert store.depth() == Depth(0, 1, None)
    assert (store.fired(), ended(store)) == (1, {})


def test_a_late_older_firing_never_replaces_a_newer_waiting_one(store):
    fire(store, ANN, "new", 20)
    fire(store, ANN, "old", 10)
    assert claimed(store) == [(ANN, "new", 1)]
    assert ended(store) == {"conflated": 1}
