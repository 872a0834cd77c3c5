"""States in the store: moved by compare-and-set under the applied offset, all of a save or nothing of it."""

from dataclasses import replace
from typing import Any

import pytest

from local.valkey import Valkey
from store.client import (
    Applied,
    Fired,
    NamespaceMismatch,
    ShardSave,
    ShopperStore,
    StateChange,
    StoreError,
    StoreLost,
    StoreRefused,
    WriterFenced,
)
from store.layout import Shard
from tests.integration.stores import HOUR_MS, META, SHARDS, a_list, fire, new, open_store, put, users_of

ANN, BOB, CAT = users_of(1, 3)


@pytest.fixture
def store(valkey: Valkey, namespace: str) -> ShopperStore:
    return open_store(valkey.url, namespace)


def everything(store: ShopperStore) -> dict[bytes, Any]:
    """All keys of the namespace with their serialised values."""
    client: Any = store.calls.client
    return {key: client.dump(key) for key in client.scan_iter(f"{store.namespace}:*", count=1000)}


def test_a_saved_state_is_loaded_again_and_a_shopper_without_one_is_none(store):
    put(store, new(ANN, b"of ann"), new(BOB, b"of bob"))
    ann, cat, bob = store.load(1, [ANN, CAT, BOB])
    assert (ann.blob, cat, bob.blob) == (b"of ann", None, b"of bob")
    assert ann.token != bob.token
    assert store.state(ANN) == ann
    assert store.load_many({0: [], 1: [ANN]}) == {0: [], 1: [ann]}


def test_a_compressed_state_is_read_by_a_store_that_does_not_compress_and_the_other_way_round(valkey, namespace):
    plain, small = open_store(valkey.url, namespace), ShopperStore(valkey.url, namespace, compress_states=True)
    small.open(META)
    small.begin("track")
    put(small, new(ANN, b"laptop " * 500))
    plain.begin("track")
    put(plain, new(BOB, b"phone " * 500))
    assert [state.blob for state in plain.load(1, [ANN, BOB])] == [b"laptop " * 500, b"phone " * 500]
    assert small.load(1, [ANN, BOB]) == plain.load(1, [ANN, BOB])
    client: Any = plain.calls.client
    assert client.strlen(Shard(namespace, 1).state(ANN)) < 100 < client.strlen(Shard(namespace, 1).state(BOB))


def test_applied_offsets_and_progress_are_kept_per_shard_and_partition(store):
    store.save_many([ShardSave(0, 2, 5, 9, 1_000, []), ShardSave(1, 2, 5, 7, 900, []), ShardSave(1, 3, 0, 1, 5, [])])
    assert store.applied(2) == {0: Applied(9, 1_000), 1: Applied(7, 900)}
    assert store.applied(3) == {1: Applied(1, 5)}
    assert store.progress() == {(0, 2): Applied(9, 1_000), (1, 2): Applied(7, 900), (1, 3): Applied(1, 5)}


def test_a_save_that_continues_from_beyond_what_the_shard_holds_says_behind_and_writes_nothing(store):
    put(store, new(ANN))
    before = everything(store)
    result = store.save(1, 0, 5, 6, 1, [new(BOB)])
    assert (result.status, result.applied) == ("behind", Applied(1, 0))
    assert everything(store) == before


def test_a_save_of_records_that_the_shard_already_holds_says_ahead_and_writes_nothing(store):
    store.save(1, 0, 0, 10, 7, [new(ANN)])
    before = everything(store)
    result = store.save(1, 0, 0, 10, 7, [new(BOB)])
    assert (result.status, result.applied) == ("ahead", Applied(10, 7))
    assert everything(store) == before


def test_a_heartbeat_moves_progress_and_notices_a_shard_that_was_rolled_back(store):
    assert store.save(1, 0, 0, 0, 50).applied == Applied(0, 50)
    assert store.save(1, 0, 3, 3, 60).status == "behind"


def test_progress_never_goes_back(store):
    store.save(1, 0, 0, 1, 500)
    assert store.save(1, 0, 1, 2, 400).applied == Applied(2, 500)
    assert store.applied(0) == {1: Applied(2, 500)}


def test_a_shard_that_never_was_written_takes_any_offset(store):
    assert store.save(2, 0, 41, 42, 1).status == "saved"


def test_a_shard_that_lost_everything_stops_the_writer_and_names_rebuild(store):
    put(store, new(ANN))
    client: Any = store.calls.client
    client.delete(*everything(store))
    with pytest.raises(StoreLost, match=r"shard 1 .*aigq rebuild"):
        store.save(1, 0, 1, 2, 1, [new(BOB)])
    with pytest.raises(StoreLost, match="shard 2 "):  # not written yet, but this writer began there
        store.save(2, 0, 1, 2, 1)
    assert everything(store) == {}


def test_a_save_is_compare_and_set_on_a_random_token_and_names_the_changes_in_conflict(store):
    put(store, new(ANN, b"1"), new(BOB, b"1"))
    ann, bob = store.load(1, [ANN, BOB])
    put(store, StateChange(BOB, bob.token, b"2", None))
    before = everything(store)
    changes = [StateChange(ANN, ann.token, b"3", None), StateChange(BOB, bob.token, b"3", None), new(CAT)]
    result = store.save(1, 0, 2, 3, 1, changes)
    assert (result.status, result.conflicts) == ("conflict", (1,))
    assert put(store, new(ANN)).conflicts == (0,)  # there is one
    assert put(store, StateChange(CAT, ann.token, b"", None)).conflicts == (0,)  # there is none
    assert everything(store) == before


def test_the_same_state_gets_another_token_with_every_save(store):
    put(store, new(ANN, b"same"))
    (first,) = store.load(1, [ANN])
    put(store, StateChange(ANN, first.token, b"same", None))
    assert store.state(ANN).token != first.token


def test_firing_needs_no_offsets_and_is_compare_and_set_on_the_tokens(store):
    put(store, new(ANN, b"forming", 100))
    (ann,) = store.load(1, [ANN])
    fired = StateChange(ANN, ann.token, b"fired", None, (Fired("run", 100, b"change"),))
    assert store.fire(1, 0, [fired]).status == "saved"
    assert (store.state(ANN).blob, store.due(1, 0, 1_000, 9), store.applied(0)) == (b"fired", [], {1: Applied(1, 0)})
    assert store.fire(1, 0, [fired]).status == "conflict"
    assert store.request(ANN).waiting.blob == b"change"


def test_what_comes_due_is_named_by_partition_earliest_first_and_before_the_clock_only(store):
    put(store, new(ANN, b"", 300), new(BOB, b"", 100))
    put(store, new(CAT, b"", 50), partition=1)
    assert store.due(1, 0, 301, 9) == [BOB, ANN]
    assert store.due(1, 0, 300, 9) == [BOB]
    assert store.due(1, 0, 301, 1) == [BOB]
    assert store.due_many({(1, 1): 60, (2, 0): 60}, 9) == {(1, 1): [CAT], (2, 0): []}
    put(store, StateChange(BOB, store.state(BOB).token, b"", None))
    assert store.due(1, 0, 301, 9) == [ANN]


def test_more_changes_than_lua_can_unpack_are_saved_at_once(store):
    users = users_of(3, 8_000)
    assert store.save(3, 0, 0, 1, 1, [new(user, b"x", 7) for user in users]).status == "saved"
    assert len(store.due(3, 0, 8, 10_000)) == 8_000
    assert all(store.load(3, users))


@pytest.mark.parametrize("field", ["fold_version", "policy_digest", "policy"])
def test_the_namespace_is_pinned_and_a_mismatch_names_the_option_that_adopts_it(store, valkey, field):
    value = 99 if isinstance(getattr(META, field), int) else "other"
    other, changed = ShopperStore(valkey.url, store.namespace, SHARDS), replace(META, **{field: value})
    with pytest.raises(NamespaceMismatch, match=f"{field} is .*once with --adopt"):
        other.open(changed)
    assert store.pinned() == META
    other.open(changed, adopt=True)
    other.open(changed)
    assert store.pinned() == changed


@pytest.mark.parametrize("field", ["topic", "topic_id", "partitions", "partitioner", "shard_hash"])
def test_another_log_or_sharding_is_never_adopted(store, field):
    changed = replace(META, **{field: 99 if field == "partitions" else "other"})
    with pytest.raises(NamespaceMismatch, match=f"{field} is .*aigq rebuild"):
        store.open(changed, adopt=True)
    assert store.pinned() == META


def test_a_change_decided_by_a_clock_that_the_store_has_lost_does_not_fire(store):
    put(store, new(ANN))
    state, clock = store.state(ANN), store.applied(0)[1].clock_ms
    assert state is not None
    fired = [StateChange(ANN, state.token, b"fired", None)]
    before = everything(store)
    assert store.fire(1, 0, fired, clock + 1).status == "behind"
    assert everything(store) == before
    assert store.fire(1, 0, fired, clock).status == "saved"


def test_another_number_of_shards_is_never_adopted(store, valkey):
    with pytest.raises(NamespaceMismatch, match="aigq rebuild"):
        ShopperStore(valkey.url, store.namespace, 8).open(replace(META, shards=8), adopt=True)


def test_a_reader_takes_the_number_of_shards_from_the_namespace(store, valkey):
    put(store, new(ANN))
    assert ShopperStore(valkey.url, store.namespace).state(ANN) == store.state(ANN)


def test_an_older_writer_is_fenced_in_every_call_that_writes(store, valkey):
    fire(store, ANN, "run", 10)
    (claim,) = store.claim(1, HOUR_MS)
    newer = ShopperStore(valkey.url, store.namespace, SHARDS)
    track, generate = newer.begin("track"), newer.begin("generate")
    before = everything(store)
    (state,) = store.load(1, [ANN])
    writes = {
        "track": [lambda: put(store, StateChange(ANN, state.token, b"", None)), lambda: store.save(1, 0, 1, 1, 0)],
        "generate": [
            lambda: store.fire(1, 0, [StateChange(ANN, state.token, b"", None)]),
            lambda: store.claim(1, 1),
            lambda: store.extend([claim], 1),
            lambda: store.publish(a_list(ANN, "run", 10)),
            lambda: store.finish(ANN, "run", "malformed"),
        ],
    }
    for stage, epoch in (("track", track), ("generate", generate)):
        for write in writes[stage]:
            with pytest.raises(WriterFenced, match=f"'{stage}' has begun .epoch {epoch}.*stop the one"):
                write()
    assert everything(store) == before
    assert newer.finish(ANN, "run", "malformed")


def test_workers_of_one_job_share_its_epoch_and_a_writer_begun_later_is_newer_whatever_its_clock(store, valkey):
    ahead = ShopperStore(valkey.url, store.namespace, SHARDS)
    epoch = ahead.begin("track", "9999999999999-0a")  # a machine whose clock is far ahead
    sibling = ShopperStore(valkey.url, store.namespace, SHARDS)
    sibling.open(META)
    assert sibling.begin("track", epoch) == epoch
    assert sibling.save(0, 0, 0, 1, 1).status == "saved"
    store.begin("track")
    assert store.save(0, 0, 1, 2, 1).status == "saved"
    with pytest.raises(WriterFenced):
        sibling.begin("track", epoch)


def test_a_writer_that_has_not_begun_is_told_so(valkey, namespace):
    store = ShopperStore(valkey.url, namespace, SHARDS)
    store.open(META)
    with pytest.raises(StoreError, match=r"begin\('track'\)"):
        store.save(0, 0, 0, 1, 1)


def test_two_changes_of_one_shopper_in_one_save_are_refused(store):
    with pytest.raises(ValueError, match="two changes of one shopper"):
        put(store, new(ANN), new(ANN))


def test_every_save_renews_the_time_to_live(valkey, namespace):
    store = open_store(valkey.url, namespace, ttl_s=1_000)
    put(store, new(ANN))
    client: Any = store.calls.client
    client.pexpire(Shard(namespace, 1).state(ANN), 5_000)
    put(store, StateChange(ANN, store.state(ANN).token, b"", None))
    assert client.pttl(Shard(namespace, 1).state(ANN)) > 900_000


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("meta", "string"), ("due:0", "string"), ("wait", "hash"), ("parked", "hash"), ("lease", "hash")),
        *(("counts", "string"), ("outcomes", "hash"), ("wait:req", "string"), ("lease:req", "string")),
        *((f"u:{CAT}", "hash"), (f"e:{BOB}", "hash"), (f"e:{BOB}", "string"), (f"r:{BOB}", "hash")),
    ],
)
def test_a_key_of_another_type_fails_a_save_before_its_first_write(store, name, wrong):
    client: Any = store.calls.client
    key = Shard(store.namespace, 1).prefix + name.encode()
    client.delete(key)
    client.set(key, "not ours") if wrong == "string" else client.hset(key, "not", "ours")
    before = everything(store)
    changes = [new(ANN, b"", 1, Fired("run", 5, b"")), StateChange(BOB, b"", b"", None, (), 9), new(CAT)]
    with pytest.raises(StoreRefused, match=r"WRONGTYPE|whole number"):
        store.save(1, 0, 0, 1, 1, changes)
    assert everything(store) == before


@pytest.mark.parametrize(
    "wrong",
    [
        new(BOB, b"", -1),
        new(BOB, b"", 10**16),
        new(BOB, b"", None, Fired("a run", 1, b"")),
        new(BOB, b"", None, Fired("", 1, b"")),
        new(BOB, b"", None, Fired("run", -5, b"")),
        StateChange(BOB, b"short", b"", None),
        StateChange(BOB, b"", b"", None, (), -1),
    ],
)
def test_a_wrong_argument_fails_a_save_before_its_first_write(store, wrong):
    before = everything(store)
    with pytest.raises(StoreRefused, match="aigq_v1"):
        store.save(1, 0, 0, 1, 1, [new(ANN, b"", 5, Fired("good", 5, b"")), wrong])
    assert everything(store) == before


def test_the_functions_touch_only_the_keys_that_they_declare(store, valkey, namespace):
    shard = Shard(namespace, 1)
    keys = [*shard.keys, shard.due(0), shard.state(ANN), shard.tombstone(ANN), shard.runs(ANN)]
    client: Any = store.calls.client
    rights = [f"~{key.decode()}" for key in keys] + ["~aigq:pointers"]
    client.execute_command("ACL", "SETUSER", namespace, "on", ">secret", "+@all", *rights)
    narrow = ShopperStore(valkey.tcp_url.replace("//", f"//{namespace}:secret@"), namespace, SHARDS)
    narrow._epochs, narrow._topic_id = store._epochs, "topic-1"
    change = StateChange(ANN, b"", b"", 5, (Fired("a", 5, b""), Fired("b", 6, b""), Fired("c", 9, b"")), 5)
    assert narrow.save(1, 0, 0, 1, 1, [change]).status == "saved"
    call = [narrow._claim(shard, HOUR_MS, take, 1) for take in (0, 1)]
    assert len(narrow.calls.many("claim", call)[1].value) == 5
    assert narrow.publish(a_list(ANN, "c", 9)).outcome == "published"
    assert narrow.finish(ANN, "c", "malformed") is False
    with pytest.raises(StoreRefused, match=r"NOPERM|permission"):
        narrow.load(1, [BOB])
