"""What a namespace of the store holds, read key by key without the product's client (layout: store/layout.py, docs/store.md)."""

import struct
from dataclasses import dataclass, field
from typing import Any

import msgspec
import zstandard
from redis import Redis

from tests.integration.oracle import Kept

TOKEN_BYTES = 8
KINDS = ("search", "click")


@dataclass(frozen=True)
class StoredShopper:
    partition: int
    offset: int
    kept: tuple[Kept, ...]
    weights: dict[str, float]
    base: dict[str, float]
    evidence: float
    forms: bool
    """A change is forming."""
    fired_ms: int
    profile: dict[str, str]


@dataclass(frozen=True)
class StoredRequest:
    user: str
    run_id: str
    as_of_ms: int
    behaviours: tuple[Kept, ...]


@dataclass
class Stored:
    shoppers: dict[str, StoredShopper] = field(default_factory=dict)
    open_requests: list[StoredRequest] = field(default_factory=list)
    """Waiting and leased."""
    ended: list[tuple[str, str, str]] = field(default_factory=list)
    """(run id, user, outcome) of each request that has ended, in order within a shard."""
    lists: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    """By shopper: (as-of, promotion, run id), in the order in which they are served."""
    applied: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """(shard, partition) -> next offset, clock."""
    counts: dict[str, int] = field(default_factory=dict)


def read_store(url: str, namespace: str, shards: int = 16) -> Stored:
    """The whole namespace. Raises ValueError where a value is not laid out as documented."""
    stored = Stored()
    server: Any = Redis.from_url(url)  # its types know replies of text only
    with server:
        for number in range(shards):
            _read_shard(server, f"{namespace}:{{s{number:03d}}}:", number, stored)
    return stored


def read_progress(url: str, namespace: str, shards: int = 16) -> tuple[dict[tuple[int, int], tuple[int, int]], int]:
    """(shard, partition) -> (next offset, clock), and how many requests have not ended."""
    applied, still_open = {}, 0
    server: Any = Redis.from_url(url)
    with server, server.pipeline(transaction=False) as pipeline:
        for number in range(shards):
            prefix = f"{namespace}:{{s{number:03d}}}:"
            pipeline.hgetall(prefix + "meta").hlen(prefix + "wait:req").hlen(prefix + "lease:req")
        replies = pipeline.execute()
    for number in range(shards):
        meta, waiting, leased = replies[3 * number : 3 * number + 3]
        applied |= _applied(meta, number)
        still_open += waiting + leased
    return applied, still_open


def _read_shard(server: Any, prefix: str, number: int, stored: Stored) -> None:
    stored.applied |= _applied(server.hgetall(prefix + "meta"), number)
    for outcome, count in server.hgetall(prefix + "counts").items():
        stored.counts[outcome.decode()] = stored.counts.get(outcome.decode(), 0) + int(count)
    for _, entry in server.xrange(prefix + "outcomes"):
        stored.ended.append((entry[b"run"].decode(), entry[b"user"].decode(), entry[b"outcome"].decode()))
    for queue in ("wait:req", "lease:req"):
        for user, value in server.hgetall(prefix + queue).items():
            _, as_of, run_id, blob = value.split(b" ", 3)
            change = msgspec.msgpack.decode(blob)
            behaviours = tuple(Kept(time, id, kind, *rest) for time, id, kind, *rest in change["behaviours"])
            stored.open_requests.append(StoredRequest(user.decode(), run_id.decode(), int(as_of), behaviours))
    for key in server.scan_iter(match=prefix + "u:*", count=1_000):
        value = server.get(key)
        if value is not None:
            stored.shoppers[key.decode().removeprefix(prefix + "u:")] = _shopper(value)
    for key in server.scan_iter(match=prefix + "r:*", count=1_000):
        value = server.get(key)
        if value is not None:
            stored.lists[key.decode().removeprefix(prefix + "r:")] = _lists(value)


def _applied(meta: dict[bytes, bytes], shard: int) -> dict[tuple[int, int], tuple[int, int]]:
    """Fields are `offset:<topic id>:<partition>` and `clock:` alike."""
    return {
        (shard, int(name.rpartition(b":")[2])): (int(value), int(meta[b"clock:" + name.removeprefix(b"offset:")]))
        for name, value in meta.items()
        if name.startswith(b"offset:")
    }


def _shopper(value: bytes) -> StoredShopper:
    form, blob = value[TOKEN_BYTES], value[TOKEN_BYTES + 1 :]
    if form == 1:
        blob = zstandard.ZstdDecompressor().decompress(blob)
    elif form != 0:
        raise ValueError(f"a state has format {form}; this reader knows 0 (plain) and 1 (zstd)")
    fields: list[Any] = msgspec.msgpack.decode(blob)
    partition, offset, rows, texts, categories, _floor, parts, weights, base, _reference, evidence = fields[:11]
    started, _newest, fired, profile = fields[11:15]
    kept = []
    for start in range(0, len(rows), 16):
        time, id = int.from_bytes(rows[start : start + 6], "big"), int.from_bytes(rows[start + 6 : start + 12], "big")
        length = int.from_bytes(rows[start + 14 : start + 16], "big")
        kept.append(Kept(time, id, KINDS[rows[start + 12]], texts[:length], categories[rows[start + 13]]))
        texts = texts[length:]
    if texts:
        raise ValueError(f"a state has {len(texts)} characters of text that belong to no row")
    names = parts.split("\n")[1:-1]
    if len(names) * 8 != len(weights):
        raise ValueError(f"a state names {len(names)} parts and has {len(weights)} bytes of weights")
    now = {name: w for name, w in zip(names, _doubles(weights), strict=True) if w}
    then = dict(zip(names, _doubles(base), strict=False))
    return StoredShopper(partition, offset, tuple(kept), now, then, evidence, bool(started), fired, profile)


def _doubles(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 8}d", packed)


def _lists(value: bytes) -> list[tuple[int, int, str]]:
    """Each `<as-of> <promotion> <run id> <bytes> ` and that many bytes."""
    lists = []
    while value:
        as_of, promotion, run_id, size, rest = value.split(b" ", 4)
        lists.append((int(as_of), int(promotion), run_id.decode()))
        value = rest[int(size) :]
    return lists
