"""Makes a namespace anew from archive and log, checks it against an independent count, and moves the name to it.

For a store that was lost, a fold that was wrong, a topic that was recreated or grew, another number of shards. Reads go on
from the old namespace until the name is moved; no list becomes older by it.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import Literal

import msgspec

from interest import FOLD_VERSION, decode
from pipelines import worker
from pipelines.move_name import copy_refusals, move_name, restore
from pipelines.nearline import read_settings
from pipelines.operation import Running, check_alone, running
from pipelines.options import NearlineSettings
from pipelines.readable import check_readable, event_decoder, read_here
from pipelines.recount import Recount, differences
from pipelines.replay import apart
from pipelines.screen import on_screen
from pipelines.track_into import Share, track_into
from schemas import QueryRun
from store.base import DEFAULT_SHARDS
from store.client import NamespaceMeta, NamespaceMismatch, ShopperStore
from store.namespaces import Namespaces
from transforms.fire_due import fire_all_due
from transforms.read_plan import ReadPlan, ReadSettings, plan_read
from transforms.stored_lists import stored_lists

LOG = logging.getLogger(__name__)
SHOWN = 5
AT_ONCE = 5_000_000
"""Records whose shoppers are counted at once in the verification: a gigabyte at most."""
MOST_BROKEN = 0.01
READINGS = 3
"""Of the log: whether it can be read, the fold, the count."""


class CountsDiffer(NamespaceMismatch):
    """The rebuilt namespace is not what the log says: it is not put in place. A person looks why."""


class RebuildAsked(msgspec.Struct, frozen=True):
    """What was asked for: the same again goes on with it."""

    archive: str
    topic: str
    results_topic: str
    format: str
    mapper: str
    schema_registry: str
    log_clock: str
    shards: int
    trigger: dict[str, float]


Phase = Literal["check", "fold", "lists", "verify", "move"]


class RebuildCheckpoint(msgspec.Struct, frozen=True):
    namespace: str
    phase: Literal["fold", "lists", "verify", "differs", "move"] = "fold"
    """differs: its counts are not the log's. It is kept to be looked at, and not gone on with."""


def preview(settings: NearlineSettings, live: ShopperStore) -> str:
    """What `--execute` would do."""
    plan = plan_read(_whole(settings))
    assert plan.ends is not None
    where = f"archive {settings.archive} and topic {settings.topic}" if settings.archive else f"topic {settings.topic}"
    held = live.pinned()
    return "\n".join(
        [
            f"read      {_records(plan):,} records from {where}: offsets "
            + ", ".join(f"{p}:{plan.starts[p]}-{end}" for p, end in sorted(plan.ends.items())),
            f"into      a fresh namespace with {_shards(settings, held)} shards, trigger policy {settings.policy_of(held).version}",
            f"lists     those of {live.namespace!r}"
            + (f", of topic {settings.results_topic}" if settings.results_topic else "")
            + (" and of the archive" if settings.archive else "")
            + " are put back; what has none is generated after the move",
            f"then      the counts are checked, and {live.name!r} (now {live.namespace!r}) stands for the fresh one",
            "nothing was written; --execute does it",
        ]
    )


def rebuild(settings: NearlineSettings, live: ShopperStore, argv: Sequence[str]) -> str:
    """Returns the operation's id. Raises CountsDiffer, Stopped, NamespaceInUse, and what the nearline job raises."""
    reads = (settings.format, settings.mapper, settings.schema_registry, settings.log_clock)
    asked = RebuildAsked(
        settings.archive, settings.topic, settings.results_topic, *reads, settings.shards, settings.given_trigger()
    )
    check_alone(live, "rebuild", asked)
    with running(live, "rebuild", asked) as run, on_screen(run):
        # Of a group that has read where a namespace holds nothing, the job would say that the store was lost: each try's
        # namespace has a group of its own.
        ours = replace(apart(settings), group="", stages="track", end="now")
        plan = plan_read(_whole(ours))
        records = _records(plan)
        checkpoint = _left_off(run, ours) or _begin(run, settings, live, plan)
        ours = replace(ours, namespace=checkpoint.namespace)
        fresh = _opened(ours, live)
        if checkpoint.phase == "fold":
            with _timed(run, "fold"):
                track_into(run, ours, argv, Share(2 * records, READINGS * records))
                fresh.begin("rebuild")
                fire_all_due(fresh, "rebuild", requests=True)  # so that lists that are put back answer them
            checkpoint = _reach(run, RebuildCheckpoint(checkpoint.namespace, "lists"))
        if checkpoint.phase == "lists":
            with _timed(run, "lists"):
                put_back = _put_lists_back(run, settings, live, fresh)
            run.save(counts=run.progress.counts | {"lists put back": put_back})
            checkpoint = _reach(run, RebuildCheckpoint(checkpoint.namespace, "verify"))
        if checkpoint.phase == "verify":
            with _timed(run, "verify"):
                try:
                    checked = verify(run, ours, fresh, live, 1.0 if settings.dead_letter_ratio == 1 else MOST_BROKEN)
                except CountsDiffer:
                    differs = RebuildCheckpoint(checkpoint.namespace, "differs")
                    run.save(checkpoint=msgspec.json.encode(differs).decode())
                    raise
            run.save(counts=run.progress.counts | {"shoppers checked": checked})
            _reach(run, RebuildCheckpoint(checkpoint.namespace, "move"))
        fresh.begin("rebuild")
        with _timed(run, "move"):
            share = Share(READINGS * records, READINGS * records)
            move_name(live.name, fresh, run, "rebuild", lambda: track_into(run, ours, argv, share))
        run.save(
            done=run.progress.of,
            note=f"{live.name!r} stands for {fresh.namespace!r}; `aigq drop {live.namespace}` removes the old one",
        )
        return run.id


def _left_off(run: Running, settings: NearlineSettings) -> RebuildCheckpoint | None:
    """Where a try before has come to. None: begin anew, also where its namespace was dropped, is another fold's, or has differed from
    the log; what is left of it goes."""
    if not run.progress.checkpoint:
        return None
    checkpoint = msgspec.json.decode(run.progress.checkpoint, type=RebuildCheckpoint)
    store = worker.new_store(settings, checkpoint.namespace)
    pinned, names = store.pinned(), Namespaces(store.calls)
    if pinned and pinned.fold_version == FOLD_VERSION and checkpoint.phase != "differs":
        return checkpoint
    if not names.in_use(checkpoint.namespace):
        names.drop(checkpoint.namespace)
    LOG.warning("%s: %r is not gone on with (%s); beginning anew", run.id, checkpoint.namespace, checkpoint.phase)
    run.save(checkpoint="", counts={}, done=0)
    return None


def _begin(run: Running, settings: NearlineSettings, live: ShopperStore, plan: ReadPlan) -> RebuildCheckpoint:
    with _timed(run, "check"):
        check_readable(run, settings, plan, READINGS * _records(plan))
    fresh_name = f"{live.name}-{datetime.now(UTC).strftime('%Y%m%dt%H%M%S')}-{token_hex(2)}"
    Namespaces(live.calls).make(fresh_name)
    return _reach(run, RebuildCheckpoint(fresh_name))


@contextmanager
def _timed(run: Running, phase: Phase) -> Iterator[None]:
    """Seconds of a phase into the operation's counts."""
    began = time.monotonic()
    yield
    run.save(counts=run.progress.counts | {f"{phase} seconds": round(time.monotonic() - began)})


def verify(
    run: Running, settings: NearlineSettings, store: ShopperStore, live: ShopperStore, most_broken: float = MOST_BROKEN
) -> int:
    """Counts the log again up to where the namespace is, as many shoppers at once as memory holds. Returns how many agree; raises
    CountsDiffer, Stopped.

    most_broken: share of the shoppers that may be in quarantine and are not so in `live`.
    """
    pinned = store.pinned()
    assert pinned is not None
    at = {p: min(a.next_offset for a in store.applied(p).values()) for p in range(pinned.partitions)}
    plan = replace(plan_read(_whole(settings)), ends=at, end_ms=None)
    decoder, parts = event_decoder(settings), max(1, -(-_records(plan) // AT_ONCE))
    wrong, broken, shoppers, read = list[str](), list[str](), 0, 0
    begun = run.progress.done
    for part in range(parts):
        count = Recount(settings.policy_of(pinned), part, parts)
        for batch in read_here(run, settings, plan):
            count.add(decoder.decode(batch))
            read += len(batch.offsets)
            run.note(done=min(begun + read // parts, run.progress.of), waits=False)
        found = differences(store, count)
        wrong, broken, shoppers = wrong + found.wrong, broken + found.broken, shoppers + len(count.counts())
    before = live.states(broken) if live.pinned() else {}
    new = [user for user in broken if user not in before or decode(before[user].blob).broken_at < 0]
    if new:  # no letter says so: the fold of this release broke on their records
        run.save(counts=run.progress.counts | {"newly in quarantine": len(new)})
    if len(new) > most_broken * shoppers:
        wrong += (
            f"{user}: in quarantine, a record breaks the fold (--dead_letter_ratio=1 passes over it)" for user in new
        )
    if wrong:
        raise CountsDiffer(
            f"namespace {store.namespace!r}: {len(wrong):,} of {shoppers:,} shoppers differ from the log, so {store.namespace!r} was not "
            f"put in place. The first: {'; '.join(wrong[:SHOWN])}. Look at them with "
            f"`aigq explain USER --namespace {store.namespace}`. The same command drops it and begins anew, as with a mended release; "
            f"`aigq drop {store.namespace} --execute` removes it now"
        )
    return shoppers


def _reach(run: Running, checkpoint: RebuildCheckpoint) -> RebuildCheckpoint:
    run.note(checkpoint=msgspec.json.encode(checkpoint).decode(), now=True, waits=False)
    return checkpoint


def _records(plan: ReadPlan) -> int:
    assert plan.ends is not None
    return sum(end - plan.starts[p] for p, end in plan.ends.items())


def _whole(settings: NearlineSettings) -> ReadSettings:
    horizon_ms = settings.policy().horizon_ms
    return replace(read_settings(settings), group="", start="earliest", end="now", horizon_ms=horizon_ms)


def _opened(settings: NearlineSettings, live: ShopperStore) -> ShopperStore:
    """The fresh namespace, pinned to the log as it is now and to the policy of the old one."""
    fresh = worker.new_store(settings, settings.namespace)
    if fresh.pinned() is None:
        held, plan = live.pinned(), plan_read(_whole(settings))
        policy, shards = settings.policy_of(held), _shards(settings, held)
        identity = (settings.topic, plan.topic_id, plan.partitions, "murmur2", shards, FOLD_VERSION)
        fresh = worker.new_store(replace(settings, shards=shards), settings.namespace)
        fresh.open(NamespaceMeta(*identity, policy.version, policy.to_json()))
    return fresh


def _shards(settings: NearlineSettings, held: NamespaceMeta | None) -> int:
    return settings.shards or (held.shards if held else DEFAULT_SHARDS)


def _put_lists_back(run: Running, settings: NearlineSettings, live: ShopperStore, fresh: ShopperStore) -> int:
    fresh.begin("rebuild")
    revoked, put_back = copy_refusals(live, fresh, "rebuild"), 0
    sources: list[Iterable[tuple[str, Sequence[QueryRun]]]] = [live.scan_runs()] if live.pinned() else []
    if settings.results_topic:
        sources.append(stored_lists(replace(read_settings(settings), topic=settings.results_topic)))
    for lists in sources:
        for stored in restore(fresh, lists, revoked, "rebuild"):
            put_back += stored
            run.note(counts=run.progress.counts | {"lists put back": put_back}, waits=False)
    return put_back
