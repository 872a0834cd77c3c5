"""Snapshots: the states of a namespace as Parquet files in the archive, so that a replay need not begin at the log's beginning.

    ROOT/snapshots/NAMESPACE/20261124T020000Z/s007-00000.parquet ... manifest.json

The manifest is written last: a snapshot without one is none. The job goes on while a snapshot is taken, so a state in it lies anywhere
between what its shard had applied before the walk (`applied`) and after it (`until`). That is enough: a state holds the offset of its
newest record, and skips what it holds. From `applied` on, reading the log again leads to the right states; a snapshot may be
used for a moment that lies at or after `until`.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from interest import TriggerPolicy
from store.client import Applied, NamespaceMeta, NamespaceMismatch, ShopperStore
from store.layout import shard_of
from transforms.archive_layout import snapshot_folder, snapshot_manifests
from transforms.files import open_file, write_whole
from transforms.place_states import place_states

LOG = logging.getLogger(__name__)

STATES_A_FILE = 5_000
SCHEMA = pa.schema([("user", pa.string()), ("state", pa.binary())])


class Position(msgspec.Struct, frozen=True):
    """How far a partition is in a shard."""

    shard: int
    partition: int
    next_offset: int
    clock_ms: int


class Snapshot(msgspec.Struct, frozen=True):
    """The manifest."""

    meta: NamespaceMeta
    taken_ms: int
    """Wall clock at its begin."""
    applied: tuple[Position, ...]
    """Before the walk: what every state holds at least."""
    until: tuple[Position, ...]
    """After it: what no state is beyond."""
    states: int
    """With those that the walk met twice."""
    files: tuple[str, ...]

    def starts(self) -> dict[int, Applied]:
        """By partition, from where the log is to be read on: the least over the shards."""
        found: dict[int, Applied] = {}
        for each in self.applied:
            at = found.get(each.partition, Applied(each.next_offset, each.clock_ms))
            found[each.partition] = Applied(min(at.next_offset, each.next_offset), min(at.clock_ms, each.clock_ms))
        return found


def take_snapshot(store: ShopperStore, archive: str) -> Snapshot:
    """Walks over the namespace and writes its states. Raises LookupError where nothing is tracked in it yet.

    A process that dies in here leaves files without a manifest, which nobody reads; `aigq archive prune` takes them away.
    """
    meta, taken_ms = store.pinned(), int(time.time() * 1000)
    if meta is None or len(applied := _positions(store)) < meta.shards * meta.partitions:
        raise LookupError(
            f"namespace {store.namespace!r} is not tracked yet in all of its shards and partitions: start the job first"
        )
    folder = (
        f"{snapshot_folder(archive, store.namespace)}/{datetime.fromtimestamp(taken_ms / 1000, UTC):%Y%m%dT%H%M%SZ}"
    )
    files: list[str] = []
    count = 0
    waiting: dict[int, list[tuple[str, bytes]]] = defaultdict(list)

    def write(shard: int) -> None:
        users, blobs = zip(*waiting.pop(shard), strict=True)
        files.append(f"{folder}/s{shard:03d}-{len(files):05d}.parquet")
        ready = pa.BufferOutputStream()
        pq.write_table(pa.table([users, blobs], schema=SCHEMA), ready, compression="zstd")
        write_whole(files[-1], ready.getvalue())

    for user, state in store.scan_states():
        shard = shard_of(user, meta.shards)
        waiting[shard].append((user, state.blob))
        count += 1
        if len(waiting[shard]) == STATES_A_FILE:
            write(shard)
    for shard in sorted(waiting):
        write(shard)
    snapshot = Snapshot(meta, taken_ms, applied, _positions(store), count, tuple(files))
    write_whole(f"{folder}/manifest.json", msgspec.json.format(msgspec.json.encode(snapshot)))
    return snapshot


def newest_usable(archive: str, namespace: str, before: Mapping[int, int], before_ms: int) -> Snapshot | None:
    """The newest snapshot of a namespace that holds nothing from a moment on: offsets by partition, and log clock."""
    for path in sorted(snapshot_manifests(archive, namespace), reverse=True):
        with open_file(path) as stream:
            snapshot = msgspec.json.decode(stream.read(), type=Snapshot)
        # Where the manifest is, whatever it says: an archive may be copied from a folder into a bucket.
        beside = path.removesuffix("manifest.json")
        snapshot = msgspec.structs.replace(
            snapshot, files=tuple(f"{beside}{file.rpartition('/')[2]}" for file in snapshot.files)
        )
        if all(
            each.next_offset <= before.get(each.partition, 0) and each.clock_ms <= before_ms for each in snapshot.until
        ):
            return snapshot
    return None


def restore(snapshot: Snapshot, store: ShopperStore) -> int:
    """Puts the states into a fresh namespace, opened and begun in stage `track`. Returns how many. Its shards may be others.

    Requests that had been fired and lists are not part of a snapshot. A namespace that a crash in here has left half full is
    refused: drop it and restore anew.

    Raises NamespaceMismatch where the namespace is pinned to what the states do not mean, or is not empty.
    """
    pinned = store.pinned()
    _check_same(snapshot.meta, pinned, store)
    assert pinned is not None
    return place_states(store, _states(snapshot), snapshot.starts(), TriggerPolicy.from_json(pinned.policy))


def _states(snapshot: Snapshot) -> Iterator[tuple[str, bytes]]:
    for path in snapshot.files:
        with open_file(path) as stream:
            rows = pq.read_table(stream)
        yield from zip(rows["user"].to_pylist(), rows["state"].to_pylist(), strict=True)


def _positions(store: ShopperStore) -> tuple[Position, ...]:
    found = store.progress().items()
    return tuple(Position(shard, partition, at.next_offset, at.clock_ms) for (shard, partition), at in sorted(found))


def _check_same(of_snapshot: NamespaceMeta, pinned: NamespaceMeta | None, store: ShopperStore) -> None:
    if pinned is None or store.progress():
        raise NamespaceMismatch(
            f"namespace {store.namespace!r} is {'not opened' if pinned is None else 'not empty'}: a snapshot is restored into a fresh one"
        )
    ours, theirs = asdict(pinned), asdict(of_snapshot)
    # Places are found anew, and what is due is computed by the policy in force; offsets and blobs mean what they meant.
    changed = [
        name for name in ours if name not in ("shards", "policy", "policy_digest") and ours[name] != theirs[name]
    ]
    if changed:
        told = "; ".join(f"{name} was {theirs[name]!r}, is {ours[name]!r}" for name in changed)
        raise NamespaceMismatch(
            f"the snapshot's states mean something else in namespace {store.namespace!r}: {told}. Fold the log from its beginning"
        )
