"""The queue of requests and the lists that end them: one outcome each, no older list over a newer one."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from local.valkey import Valkey
from schemas import QueryRun
from store.client import Depth, Fired, Request, Requests, ShopperStore, StateChange
from store.codec import encode_run
from store.layout import Shard, shard_of
from tests.integration.stores import HOUR_MS, SHARDS, a_list, fire, new, open_store, put, users_of

ANN, BOB, CAT = users_of(1, 3)
DAN = users_of(2, 1)[0]
NOBODY = Requests(None, None)


@pytest.fixture
def store(valkey: Valkey, namespace: str) -> ShopperStore:
    return open_store(valkey.url, namespace)


def claimed(store: ShopperStore, room: int = 10, lease_ms: int = HOUR_MS) -> list[tuple[str, str, int]]:
    return [(claim.user, claim.run_id, claim.attempt) for claim in store.claim(room, lease_ms)]


def ended(store: ShopperStore) -> dict[str, int]:
    """Outcomes so far; and every request is accounted for."""
    counts, depth = store.counts(), store.depth()
    assert store.fired() == sum(counts.values()) + depth.waiting + depth.leased
    assert len(store.outcomes()) == sum(counts.values())
    return {outcome: count for outcome, count in counts.items() if count}


def run_ids(store: ShopperStore, user: str) -> list[str]:
    return [run.run_id for run in store.runs(user)]


def published(store: ShopperStore, user: str, run_id: str, as_of_ms: int, **more: Any) -> str:
    """Fires, claims and publishes."""
    fire(store, user, run_id, as_of_ms)
    assert claimed(store)
    return store.publish(a_list(user, run_id, as_of_ms, **more)).outcome


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
    assert store.outcomes() == [("old", ANN, "conflated")]
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
    assert (ended(store), store.outcomes()) == ({"published": 1}, [("a", ANN, "published")])


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
