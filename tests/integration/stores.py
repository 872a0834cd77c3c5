"""Opened stores and small records for the tests of the store."""

from typing import Any

from schemas import QueryRun
from store.client import Applied, Fired, NamespaceMeta, Publication, SaveResult, ShopperStore, StateChange
from store.codec import encode_run
from store.layout import shard_of

SHARDS = 4
META = NamespaceMeta("behaviour", "topic-1", 4, "murmur2", SHARDS, 1, "digest")
HOUR_MS = 3_600_000


def open_store(url: str, namespace: str, **options: Any) -> ShopperStore:
    """A store that both stages may write to."""
    store = ShopperStore(url, namespace, SHARDS, **options)
    store.open(META)
    store.begin("track")
    store.begin("generate")
    return store


def users_of(shard: int, count: int) -> list[str]:
    """Shoppers of one shard."""
    names = (f"shopper-{number}" for number in range(100_000))
    return [name for _, name in zip(range(count), (n for n in names if shard_of(n, SHARDS) == shard), strict=False)]


def new(user: str, blob: bytes = b"state", due_ms: int | None = None, *fired: Fired) -> StateChange:
    """The first state of a shopper."""
    return StateChange(user, b"", blob, due_ms, fired)


def put(store: ShopperStore, *changes: StateChange, partition: int = 0) -> SaveResult:
    """Saves changes of one shard as the next record of a partition."""
    shard = shard_of(changes[0].user, SHARDS)
    at = store.applied(partition).get(shard, Applied(0, 0))
    return store.save(shard, partition, at.next_offset, at.next_offset + 1, at.clock_ms, changes)


def fire(store: ShopperStore, user: str, run_id: str, as_of_ms: int) -> None:
    """A change of this shopper comes due."""
    state = store.state(user)
    change = StateChange(user, state.token if state else b"", b"state", None, (Fired(run_id, as_of_ms, b"change"),))
    assert put(store, change).status == "saved"


def a_list(user: str, run_id: str, as_of_ms: int, promotion: int = 1, model: str = "small/1") -> Publication:
    run = QueryRun(
        run_id=run_id,
        user=user,
        as_of_ms=as_of_ms,
        queries=tuple(f"{run_id} query {number}" for number in range(10)),
        model_version=model,
        promotion=promotion,
        prompt_version="1",
        trigger_version="t1",
        reasons=("category Laptops +0.41",),
        newest_ms=as_of_ms,
        claimed_ms=as_of_ms,
        generated_ms=as_of_ms,
        stored_ms=as_of_ms,
        prompt_tokens=200,
        output_tokens=60,
    )
    return Publication(user, run_id, as_of_ms, promotion, model, encode_run(run))


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
