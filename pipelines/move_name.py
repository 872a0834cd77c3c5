"""Moves a name (`live`) to another namespace: what a rebuild, a promotion and an adoption end in.

1. hold the name: a job that starts from now on waits
2. fence the writers of the namespace that it stands for: they end, and their supervisor starts them again (they wait)
3. read the new namespace level with the log: it holds all that the old one does, and what came since
4. copy the lists: never over a newer one; a request that they answer ends
5. point the name: readers follow within their second, the jobs that wait begin in the new namespace

Reads go on all the time. Whatever fails before 5 leaves the name where it was; the jobs go on there when the hold runs out.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from pipelines.meanwhile import meanwhile
from pipelines.operation import Running
from schemas import QueryRun
from store.client import ShardSave, ShopperStore, Stage, StoreError
from store.namespaces import MOVING_MS, Mover, Namespaces
from transforms.fire_due import fire_all_due

LOG = logging.getLogger(__name__)
WRITERS: tuple[Stage, ...] = ("track", "generate", "backfill", "regenerate", "redrive", "rebuild")
AT_ONCE = 200
"""Entries of lists that are put back in one call."""


@contextmanager
def held(names: Namespaces, name: str, mover: Mover) -> Iterator[None]:
    """Holds a name while it is moved. Raises NamespaceInUse where another command holds it."""
    names.take(name, mover)
    try:  # where it cannot be renewed, whoever moves the name finds out when it asks for the last time
        with meanwhile(f"hold-{name}", MOVING_MS / 3000, lambda: names.keep(name, mover)):
            yield
    finally:
        names.release(name, mover)


def point_held(names: Namespaces, name: str, new: ShopperStore, old: ShopperStore, mover: Mover) -> None:
    """Moves the name that `mover` holds. Raises HoldLost, NamespaceInUse where it holds it no more."""
    names.keep(name, mover)
    names.point(name, new.namespace)
    if old.pinned():
        # Whoever began to write to the old namespace in spite of the hold (this process or the store stood still for too long)
        # starts again in the new one; a version that was revoked in these seconds is so there, too.
        names.count_move(name)
        fence(old)
        for version in old.revoked():
            new.revoke(version)


def move_name(name: str, new: ShopperStore, run: Running, stage: Stage, read_level: Callable[[], object]) -> int:
    """Moves `name` to the namespace of `new`, which this process writes in `stage`. Returns how many lists were copied.

    read_level: reads `new` to the end that the log has now. Raises Stopped, before the name is moved.
    """
    names, mover = Namespaces(new.calls), Mover(run.id)
    with held(names, name, mover):
        old = ShopperStore(new.calls.url, name, cluster=new.calls.cluster)
        if old.namespace == new.namespace:
            return 0
        pinned = old.pinned()
        if pinned:
            fence(old)
            LOG.info("%s: the writers of %r are fenced; readers go on", run.id, old.namespace)
        read_level()
        if pinned:
            check_level(old, new)
            _pass_time_on(old, new)
        fire_all_due(new, stage, requests=True)  # so that copied lists answer them, not a generation
        copied = sum(copy_lists(run, old, new, stage)) if pinned else 0
        point_held(names, name, new, old, mover)
        LOG.info(
            "%s: %r stands for %r now (was %r); %d lists copied", run.id, name, new.namespace, old.namespace, copied
        )
    return copied


def fence(store: ShopperStore) -> None:
    """Stops everyone who writes to the namespace: the job, and commands that ask for lists (given again, they go on elsewhere)."""
    for stage in WRITERS:
        store.begin(stage)


def check_level(old: ShopperStore, new: ShopperStore) -> None:
    """Raises StoreError where the new namespace has not come to where the old one is in the same log."""
    before, after = old.pinned(), new.pinned()
    if before is None or after is None or before.topic_id != after.topic_id:
        return  # a recreated topic: offsets of the old one mean nothing
    for partition in range(before.partitions):
        furthest = max((a.next_offset for a in old.applied(partition).values()), default=0)
        least = min((a.next_offset for a in new.applied(partition).values()), default=0)
        if least < furthest:
            raise StoreError(
                f"partition {partition}: {new.namespace!r} has come to offset {least}, {old.namespace!r} is at {furthest}; the name "
                f"was not moved. The same command tries again"
            )


def _pass_time_on(old: ShopperStore, new: ShopperStore) -> None:
    """The new namespace has read all that the old one has, so time has come as far for it: what came due fires there too."""
    clocks: dict[int, int] = {}
    for (_, partition), at in old.progress().items():
        clocks[partition] = max(clocks.get(partition, 0), at.clock_ms)
    new.begin("track")
    new.save_many(
        [
            ShardSave(shard, partition, at.next_offset, at.next_offset, max(at.clock_ms, clocks.get(partition, 0)), [])
            for (shard, partition), at in new.progress().items()
        ]
    )


def copy_lists(run: Running, old: ShopperStore, new: ShopperStore, stage: Stage) -> Iterator[int]:
    """The lists of one namespace into another, and what speaks against lists. Yields how many were stored. Raises Stopped."""
    revoked = copy_refusals(old, new, stage)
    for stored in restore(new, old.scan_runs(), revoked, stage):
        yield stored
        run.note(waits=False)


def copy_refusals(old: ShopperStore, new: ShopperStore, stage: Stage) -> frozenset[str]:
    """Which model versions are revoked (returned) and who was erased holds in the new namespace, too: the log may have forgotten."""
    revoked = old.revoked()
    for version in revoked:
        new.revoke(version)
    for erased in old.scan_erased():
        new.erase(stage, erased)
    return revoked


def restore(
    new: ShopperStore, lists: Iterable[tuple[str, Sequence[QueryRun]]], revoked: frozenset[str], stage: Stage
) -> Iterator[int]:
    """Puts lists back, oldest first where they are of a topic. Left out: those of revoked versions, and those that a later one has
    replaced (a bad model's, made again). A shopper may come many times. Yields how many were stored."""
    entries = iter(lists)
    while batch := list(islice(entries, AT_ONCE)):
        kept: dict[str, list[QueryRun]] = {}
        replaced: dict[str, set[str]] = {}
        for user, runs in batch:
            for run in runs:
                if run.replaces:
                    replaced.setdefault(user, set()).update(run.replaces)
                if run.model_version not in revoked:
                    kept.setdefault(user, []).append(run)
        yield new.restore(stage, kept, replaced)
