"""Takes a changed trigger policy, fold or number of shards over into a running system, with requests in flight.

The writers are fenced and wait; policy and fold are pinned anew in place, another number of shards is a copy of the namespace
with the name moved to it. Going back is the same command with the old values.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

import msgspec

from interest import FOLD_VERSION, TriggerPolicy
from pipelines import worker
from pipelines.move_name import copy_lists, fence, held, point_held
from pipelines.operation import Running, Stopped, running
from pipelines.options import NearlineSettings
from pipelines.screen import on_screen
from store.client import Applied, NamespaceMeta, Request, ShopperStore, StoreError, Wanted
from store.namespaces import Mover, Namespaces
from transforms.place_states import place_states

LOG = logging.getLogger(__name__)
AT_ONCE = 200


class AdoptAsked(msgspec.Struct, frozen=True):
    """What was asked for."""

    shards: int
    fold_version: int
    policy: str


def wanted_meta(settings: NearlineSettings, live: ShopperStore) -> NamespaceMeta:
    """What the namespace would be pinned to. Raises StoreError where no job has opened it."""
    pinned = live.pinned()
    if pinned is None:
        raise StoreError(
            f"no job has opened namespace {live.namespace!r} at {live.calls.where}: there is nothing to adopt"
        )
    policy = settings.policy_of(pinned)
    return replace(
        pinned,
        shards=settings.shards or pinned.shards,
        fold_version=FOLD_VERSION,
        policy_digest=policy.version,
        policy=policy.to_json(),
    )


def preview(settings: NearlineSettings, live: ShopperStore) -> str:
    """What `--execute` would do."""
    pinned, meta = live.pinned(), wanted_meta(settings, live)
    assert pinned is not None
    changed = [
        f"{name}: {getattr(pinned, name)} -> {getattr(meta, name)}"
        for name in ("shards", "fold_version", "policy_digest")
        if getattr(pinned, name) != getattr(meta, name)
    ]
    depth = live.depth()
    how = "a copy of the namespace, then the name is moved" if meta.shards != pinned.shards else "pinned anew in place"
    return "\n".join(
        [
            f"changes   {'; '.join(changed) or 'none'}",
            f"how       {how}; the job is fenced meanwhile and goes on by itself",
            f"requests  {depth.waiting + depth.low:,} wait and {depth.leased:,} are at the model: all are taken over",
            "nothing was written; --execute does it",
        ]
    )


def adopt(settings: NearlineSettings, live: ShopperStore) -> str:
    """Returns the operation's id. Raises NamespaceInUse, Stopped, StoreError."""
    meta = wanted_meta(settings, live)
    names = Namespaces(live.calls)
    with running(live, "adopt", AdoptAsked(meta.shards, meta.fold_version, meta.policy)) as run, on_screen(run):
        mover = Mover(run.id)
        if meta == live.pinned():  # also where a try before died at its very end: jobs wait for what it held
            if names.moving(live.name) == run.id:
                names.take(live.name, mover)
                names.release(live.name, mover)
            run.save(note=f"{live.namespace!r} is pinned to exactly this: nothing is left to do, nobody was stopped")
            return run.id
        run.save(done=0, of=sum(map(len, live.scan_users())))
        with held(names, live.name, mover):
            # Again, now that nobody else moves the name: a try before may have come to its end.
            old = worker.new_store(replace(settings, shards=0), names.pointed_to(live.name))
            pinned = old.pinned()
            assert pinned is not None
            fence(old)
            if meta.shards == pinned.shards:
                old.open(meta, adopt=True)
                return run.id
            if run.progress.checkpoint:  # a try before died half-way, or one after it when it had just dropped this
                names.make(run.progress.checkpoint)
                names.drop(run.progress.checkpoint)
            fresh_name = f"{live.name}-{datetime.now(UTC).strftime('%Y%m%dt%H%M%S')}"
            names.make(fresh_name)
            run.note(checkpoint=fresh_name, now=True, waits=False)
            fresh = worker.new_store(replace(settings, shards=meta.shards), fresh_name)
            try:
                copied = _copy(run, old, fresh, meta)
            except Stopped:
                names.drop(fresh_name)  # half a copy is of no use to anybody
                raise
            point_held(names, live.name, fresh, old, mover)
            run.save(counts=copied, note=f"`aigq drop {old.namespace}` removes the old one")
        return run.id


def _copy(run: Running, old: ShopperStore, fresh: ShopperStore, meta: NamespaceMeta) -> dict[str, int]:
    """Everything that is not gone by itself: states, lists, open requests. Counters begin anew. Raises Stopped."""
    fresh.open(meta)
    fresh.begin("track")
    fresh.begin("adopt")
    applied = {
        partition: Applied(min(a.next_offset for a in shards), min(a.clock_ms for a in shards))
        for partition in range(meta.partitions)
        if (shards := old.applied(partition).values())
    }
    shoppers = place_states(fresh, _states(run, old), applied, TriggerPolicy.from_json(meta.policy))
    lists = sum(copy_lists(run, old, fresh, "adopt"))
    newest = dict(old.leased()) | dict(old.waiting())  # of one shopper the one that waits is the newer
    requests = sum(_ask_again(fresh, newest))
    return {"shoppers": shoppers, "lists": lists, "requests": requests}


def _states(run: Running, old: ShopperStore) -> Iterator[tuple[str, bytes]]:
    for done, (user, stored) in enumerate(old.scan_states(), 1):
        yield user, stored.blob
        if done % AT_ONCE == 0:
            run.note(done=min(done, run.progress.of), waits=False)
    run.save(done=run.progress.of)


def _ask_again(fresh: ShopperStore, requests: dict[str, Request]) -> Iterator[int]:
    for low in (False, True):
        wanted = iter(
            Wanted(user, each.run_id, each.as_of_ms, each.blob) for user, each in requests.items() if each.low == low
        )
        while batch := list(islice(wanted, AT_ONCE)):
            yield fresh.want("adopt", batch, low).count("requested")
