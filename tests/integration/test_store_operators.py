"""The store's calls for operators: requests of low priority, lists put back, namespaces and their names, operations."""

import time
from functools import partial

import msgspec
import pytest

from pipelines.move_name import restore
from pipelines.operation import Running
from schemas import QueryRun
from store.client import NamespaceMeta, Publication, ShopperStore, StateChange, Wanted, WriterFenced
from store.namespaces import HoldLost, Mover, NamespaceInUse, Namespaces
from store.operations import NoSuchOperation, Operations, TakenOver
from tests.integration.stores import META, a_list, fire, open_store, put, users_of

ANN, BOB, CAT = users_of(0, 3)
LEASE_MS = 60_000


@pytest.fixture
def store(valkey, namespace: str) -> ShopperStore:
    store = open_store(valkey.url, namespace, follow_s=0.0)
    store.begin("backfill")
    return store


def wanted(user: str, run_id: str, as_of_ms: int) -> Wanted:
    return Wanted(user, run_id, as_of_ms, b"change")


def want(store: ShopperStore, *each: Wanted) -> list[str]:
    return list(store.want("backfill", each, low=True))


def run_of(publication: Publication) -> QueryRun:
    return msgspec.msgpack.decode(publication.blob, type=QueryRun)


def balance(store: ShopperStore) -> None:
    depth = store.depth()
    assert store.fired() == sum(store.counts().values()) + depth.waiting + depth.low + depth.leased


def test_a_request_of_low_priority_is_claimed_after_all_others_and_within_its_room(store: ShopperStore):
    assert want(store, wanted(ANN, "a", 9_000), wanted(BOB, "b", 9_001)) == ["requested", "requested"]
    fire(store, CAT, "c", 10)
    assert (store.depth().waiting, store.depth().low) == (1, 2)
    assert [claim.run_id for claim in store.claim(10, LEASE_MS, low_room=0)] == ["c"]
    assert [claim.run_id for claim in store.claim(10, LEASE_MS, low_room=1)] == ["b"]
    assert [claim.run_id for claim in store.claim(10, LEASE_MS)] == ["a"]
    balance(store)


def test_a_request_is_made_once_and_not_where_a_list_as_new_or_another_request_is_there(store: ShopperStore):
    assert want(store, wanted(ANN, "a", 100)) == ["requested"]
    assert want(store, wanted(ANN, "a", 100)) == ["waits"]
    store.claim(1, LEASE_MS)
    assert want(store, wanted(ANN, "a", 100)) == ["waits"]
    store.publish(a_list(ANN, "a", 100))
    assert want(store, wanted(ANN, "a", 100)) == ["listed"]
    assert want(store, wanted(ANN, "b", 99)) == ["listed"]
    assert want(store, wanted(ANN, "b", 101)) == ["requested"]
    balance(store)


def test_a_change_that_comes_due_takes_the_place_of_one_of_low_priority(store: ShopperStore):
    want(store, wanted(ANN, "low", 100))
    fire(store, ANN, "live", 101)
    assert store.depth().low == 0
    assert store.counts()["conflated"] == 1
    assert [claim.run_id for claim in store.claim(10, LEASE_MS, low_room=0)] == ["live"]
    balance(store)


def test_one_of_low_priority_that_is_newer_than_the_change_takes_its_place_in_the_queue(store: ShopperStore):
    want(store, wanted(ANN, "low", 100))
    fire(store, ANN, "live", 99)
    assert [claim.run_id for claim in store.claim(10, LEASE_MS, low_room=0)] == ["low"]
    balance(store)


def test_a_lease_of_low_priority_that_runs_out_is_of_low_priority_again(store: ShopperStore):
    want(store, wanted(ANN, "low", 100))
    assert store.claim(1, 1)
    time.sleep(0.01)
    fire(store, BOB, "live", 5)
    assert [claim.run_id for claim in store.claim(2, LEASE_MS)] == ["live", "low"]
    balance(store)


def test_no_request_for_who_was_erased_at_or_after_its_time(store: ShopperStore):
    put(store, StateChange(ANN, b"", b"state", None, (), erased_ms=100))
    assert want(store, wanted(ANN, "a", 100), wanted(BOB, "b", 1)) == ["refused", "requested"]
    assert want(store, wanted(ANN, "a", 101)) == ["requested"]


def test_a_cancelled_request_is_counted_so(store: ShopperStore):
    want(store, wanted(ANN, "a", 100))
    (found,) = store.waiting()
    assert (found[0], found[1].low) == (ANN, True)
    assert store.finish(ANN, "a", "cancelled", "backfill")
    assert store.counts()["cancelled"] == 1
    assert [(each.outcome, each.low) for each in store.outcomes()] == [("cancelled", True)]
    balance(store)


def test_a_list_takes_the_place_of_those_that_it_replaces(store: ShopperStore):
    for run_id, as_of in (("good", 10), ("bad", 20), ("bad2", 30)):
        fire(store, ANN, run_id, as_of)
        store.publish(a_list(ANN, run_id, as_of))
    want(store, wanted(ANN, "new", 40))
    new = a_list(ANN, "new", 40)
    store.publish(Publication(*(getattr(new, name) for name in new.__slots__[:-1]), replaces=("bad", "bad2")))
    assert [run.run_id for run in store.runs(ANN)] == ["new", "good"]


def test_lists_put_back_take_their_places_and_answer_the_requests_they_answer(store: ShopperStore):
    for user, run_id in ((ANN, "second"), (BOB, "other"), (CAT, "newer")):
        fire(store, user, run_id, 20 if user != CAT else 30)
    store.begin("rebuild")
    first, second = run_of(a_list(ANN, "first", 10)), run_of(a_list(ANN, "second", 20))
    lists = {ANN: [first, second], BOB: [run_of(a_list(BOB, "b", 25))], CAT: [run_of(a_list(CAT, "c", 20))]}
    assert store.restore("rebuild", lists) == 4
    assert store.restore("rebuild", lists) == 0
    assert [run.run_id for run in store.runs(ANN)] == ["second", "first"]
    assert store.counts() | {"published": 1, "conflated": 1} == store.counts()
    assert [request.run_id for _, request in store.waiting()] == ["newer"]
    balance(store)


def test_lists_put_back_cover_no_newer_one_and_none_from_before_an_erasure_comes_back(store: ShopperStore):
    fire(store, ANN, "new", 30)
    store.publish(a_list(ANN, "new", 30))
    put(store, StateChange(BOB, b"", b"state", None, (), erased_ms=100))
    store.begin("rebuild")
    store.restore("rebuild", {ANN: [run_of(a_list(ANN, "old", 10))], BOB: [run_of(a_list(BOB, "b", 99))]})
    assert [run.run_id for run in store.runs(ANN)] == ["new", "old"]
    assert store.runs(BOB) == []


def test_a_list_that_was_replaced_does_not_come_back_in_whatever_order_the_two_are_read(store: ShopperStore):
    bad, good = run_of(a_list(ANN, "bad", 20)), run_of(a_list(ANN, "good", 30))
    good = msgspec.structs.replace(good, replaces=("bad",))
    for batches in (([bad], [good], [bad], [good]), ([good, bad],), ([bad, good],)):
        store.begin("rebuild")
        restored = [sum(restore(store, [(ANN, runs)], frozenset(), "rebuild")) for runs in batches]
        assert [run.run_id for run in store.runs(ANN)] == ["good"], restored
        store.erase("rebuild", {ANN: 0})
    gone = frozenset({"small/1"})  # a replacement that was revoked itself does not bring back what it replaced
    assert sum(restore(store, [(BOB, [run_of(a_list(BOB, "bad", 20)), good])], gone, "rebuild")) == 0


def test_an_erasure_that_another_namespace_knows_of_holds(store: ShopperStore):
    for user, as_of in ((ANN, 50), (BOB, 101)):
        fire(store, user, f"run-{user}", as_of)
        store.publish(a_list(user, f"run-{user}", as_of))
        fire(store, user, f"waits-{user}", as_of + 1)
    store.begin("rebuild")
    store.erase("rebuild", {ANN: 100, BOB: 100})
    store.erase("rebuild", {ANN: 90})
    assert store.runs(ANN) == []
    assert [run.run_id for run in store.runs(BOB)] == [f"run-{BOB}"]
    assert [request.run_id for _, request in store.waiting()] == [f"waits-{BOB}"]
    assert store.restore("rebuild", {ANN: [run_of(a_list(ANN, "old", 100))]}) == 0
    assert dict(user for erased in store.scan_erased() for user in erased.items()) == {ANN: 100, BOB: 100}
    balance(store)


def test_an_older_operator_of_the_same_kind_is_fenced_and_the_job_is_not(valkey, store: ShopperStore):
    newer = ShopperStore(valkey.url, store.namespace)
    newer.begin("backfill")
    with pytest.raises(WriterFenced, match="backfill"):
        want(store, wanted(ANN, "a", 1))
    fire(store, ANN, "live", 5)
    assert store.claim(1, LEASE_MS)


def test_every_shopper_is_walked_over(store: ShopperStore):
    for user in (ANN, BOB, CAT):
        fire(store, user, f"run-{user}", 10)
        store.publish(a_list(user, f"run-{user}", 10))
    assert {user for users in store.scan_users() for user in users} == {ANN, BOB, CAT}
    assert {user: state.blob for user, state in store.scan_states()} == dict.fromkeys((ANN, BOB, CAT), b"state")
    assert {user: runs[0].run_id for user, runs in store.scan_runs()} == {u: f"run-{u}" for u in (ANN, BOB, CAT)}
    assert store.runs_of([ANN, "nobody"]).keys() == {ANN}


def test_a_name_points_to_another_namespace_and_readers_follow(valkey, namespace: str, store: ShopperStore):
    names = Namespaces(store.calls)
    reader = ShopperStore(valkey.url, namespace, follow_s=0.0)
    assert reader.runs(ANN) == []
    other = ShopperStore(valkey.url, f"{namespace}-2", 8)
    other.open(NamespaceMeta(**{name: getattr(META, name) for name in META.__dataclass_fields__} | {"shards": 8}))
    other.begin("rebuild")
    other.restore("rebuild", {ANN: [run_of(a_list(ANN, "a", 10))]})
    names.point(namespace, other.namespace)
    assert [run.run_id for run in reader.runs(ANN)] == ["a"]
    assert ShopperStore(valkey.url, namespace).namespace == f"{namespace}-2"
    assert store.runs(ANN) == []  # a writer stays where it began
    assert store.namespace == namespace
    with pytest.raises(NamespaceInUse, match="points to"):
        names.drop(f"{namespace}-2")
    assert names.drop(namespace) > 0
    assert namespace not in names.names()


def test_only_what_a_command_made_is_dropped(store: ShopperStore, namespace: str):
    names = Namespaces(store.calls)
    with pytest.raises(NamespaceInUse, match="was opened by a job"):
        names.drop(namespace)
    names.make(namespace)
    fire(store, ANN, "a", 10)
    assert names.drop(namespace) > 0
    assert store.state(ANN) is None


def test_only_one_moves_a_name_at_a_time(store: ShopperStore, namespace: str):
    names, first, second = Namespaces(store.calls), Mover("first"), Mover("second")
    names.take(namespace, first)
    names.keep(namespace, first)
    with pytest.raises(NamespaceInUse, match="first is moving"):
        names.take(namespace, second)
    assert names.moves(namespace) == 1
    names.release(namespace, second)  # not its own
    assert names.moving(namespace) == "first"
    names.release(namespace, first)
    names.wait_for_move(namespace, 1)
    with pytest.raises(HoldLost, match="first was not heard of"):
        names.keep(namespace, first)
    names.take(namespace, second)
    names.release(namespace, second)
    assert names.moves(namespace) == 2


def test_a_second_process_of_an_operation_takes_the_move_over_from_the_first(store: ShopperStore, namespace: str):
    names, killed, again = Namespaces(store.calls), Mover("op"), Mover("op")
    names.take(namespace, killed)
    names.take(namespace, again)
    with pytest.raises(NamespaceInUse, match="op is moving"):
        names.keep(namespace, killed)
    names.release(namespace, killed)
    assert names.moving(namespace) == "op"
    names.keep(namespace, again)


def test_the_same_command_given_again_goes_on_and_another_begins_anew(store: ShopperStore, namespace: str):
    operations = Operations(store.calls)
    first, progress, owner = operations.begin("backfill", namespace, '{"from": 1}')
    operations.update(first.id, type(progress)(checkpoint="shard 3", counts={"requested": 7}), owner)
    again, progress, owner = operations.begin("backfill", namespace, '{"from": 1}')
    assert (again, progress.checkpoint, progress.counts) == (first, "shard 3", {"requested": 7})
    other, _, of_other = operations.begin("backfill", namespace, '{"from": 2}')
    assert other.id != first.id
    operations.control(first.id, "pause")
    assert operations.controlled(first.id) == "pause"
    operations.update(first.id, type(progress)(status="done"), owner)
    assert operations.begin("backfill", namespace, '{"from": 1}')[0].id != first.id
    operations.cancel(other.id)
    assert operations.controlled(other.id) == "cancel"  # it is heard of: it ends itself
    operations.update(other.id, type(progress)(status="failed"), of_other)
    operations.cancel(other.id)
    assert operations.show(other.id)[1].status == "cancelled"
    with pytest.raises(NoSuchOperation, match="aigq runs list"):
        operations.show("nobody")


def test_of_two_processes_of_one_operation_the_newer_goes_on_and_the_older_ends(store: ShopperStore, namespace: str):
    operations = Operations(store.calls)
    older = Running(operations, *operations.begin("redrive", namespace, "{}"))
    older.note(checkpoint="10", now=True)
    newer = Running(operations, *operations.begin("redrive", namespace, "{}"))
    assert (newer.id, newer.progress.checkpoint) == (older.id, "10")
    newer.note(checkpoint="20", now=True)
    for word in (older.check, partial(older.note, checkpoint="11", now=True), partial(older.save, status="failed")):
        with pytest.raises(TakenOver, match=f"another process works on {older.id} now"):
            word()
    newer.check()
    assert operations.show(newer.id)[1].checkpoint == "20"


def test_a_cancel_of_what_was_silent_for_long_is_not_lost_when_it_speaks_again(store: ShopperStore, namespace: str):
    """A phase that says nothing, or a process that stood still."""
    operations = Operations(store.calls)
    silent = Running(operations, *operations.begin("rebuild", namespace, "{}"))
    long_ago = msgspec.structs.replace(silent.progress, updated_ms=silent.progress.updated_ms - 31_000)
    store.calls.one("test", "HSET", f"aigq:operation:{silent.id}", "progress", msgspec.json.encode(long_ago))
    operations.cancel(silent.id)
    with pytest.raises(TakenOver, match="was cancelled while this one was silent"):
        silent.note(done=1, now=True)
    assert operations.show(silent.id)[1].status == "cancelled"
    assert operations.begin("rebuild", namespace, "{}").operation.id != silent.id
