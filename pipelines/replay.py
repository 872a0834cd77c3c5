"""Replays a window of the log into a namespace of its own: what would another threshold or another model have done?

The state as of the window's begin comes first, decided as the live namespace decides and without requests; then exactly the
window, by the log clock, with the settings that are to be tried. Nothing of the live system is written or waited for.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import msgspec

from pipelines import worker
from pipelines.nearline import begin_shards
from pipelines.operation import Running, Window, moment, running
from pipelines.options import NearlineSettings
from pipelines.readable import check_readable
from pipelines.screen import on_screen
from pipelines.snapshot import Snapshot, newest_usable, restore
from pipelines.track_into import Share, track_into
from store.client import Claim, ShopperStore
from store.layout import shard_of
from store.namespaces import NamespaceInUse, Namespaces
from store.operations import OperationProgress, Operations
from transforms.fire_due import fire_all_due
from transforms.read_plan import ReadPlan, ReadSettings, plan_read

LOG = logging.getLogger(__name__)
BATCH = 8_000
"""Records of one partition in one save: nobody waits for a replay's single record, and a shopper who comes again in a batch is loaded
and saved once."""
LISTS_KEPT = 1_000
"""Of a shopper in a shadow: all of its window. `aigq diff` counts them, and a shadow has no results topic."""


class ReplayAsked(msgspec.Struct, frozen=True):
    """What was asked for: the same again goes on with it."""

    from_ms: int
    to_ms: int
    into: str
    archive: str
    lists: bool
    model_version: str
    trigger: dict[str, float]
    topic: str
    format: str
    mapper: str
    schema_registry: str
    log_clock: str
    shards: int
    model: str
    model_server: str
    allow_list: str
    block_list: str

    @staticmethod
    def of(settings: NearlineSettings, window: Window, into: str) -> "ReplayAsked":
        return ReplayAsked(
            window.from_ms,
            window.to_ms,
            into,
            settings.archive,
            settings.generates,
            settings.model_version,
            settings.given_trigger(),
            settings.topic,
            settings.format,
            settings.mapper,
            settings.schema_registry,
            settings.log_clock,
            settings.shards,
            settings.model,
            settings.model_server,
            settings.allow_list,
            settings.block_list,
        )


class _Into(msgspec.Struct, frozen=True):
    """Of what was asked for by whatever release."""

    into: str = ""


class ReplayPlan(msgspec.Struct, frozen=True):
    """Offsets by partition: what is read."""

    state_from: dict[int, int]
    """Where the state as of the window's begin is folded from."""
    snapshot_ms: int
    """When the snapshot was taken that this begins with; 0 where the log's beginning is."""
    window_from: dict[int, int]
    window_to: dict[int, int]

    @property
    def before(self) -> int:
        return sum(self.window_from[p] - at for p, at in self.state_from.items())

    @property
    def within(self) -> int:
        return sum(self.window_to[p] - at for p, at in self.window_from.items())

    @property
    def records(self) -> int:
        return self.before + self.within


class ReplayCheckpoint(msgspec.Struct, frozen=True):
    phase: Literal["check", "restore", "state", "window"]
    plan: ReplayPlan
    """The same at every try: the window's offsets are looked up once."""


def plan_replay(settings: NearlineSettings, live: ShopperStore, window: Window) -> ReplayPlan:
    """Looks the window's offsets up, in the archive and the broker, and a snapshot to begin with. Raises what `plan_read` raises."""

    def offsets(start: str, end: str) -> ReadPlan:
        return plan_read(replace_read(settings, start, end))

    within = offsets(str(window.from_ms), str(window.to_ms))
    assert within.ends is not None
    snapshot = _snapshot(settings, live, within.starts, window)
    if snapshot:
        begin, taken_ms = {p: at.next_offset for p, at in snapshot.starts().items()}, snapshot.taken_ms
    else:
        begin, taken_ms = dict(offsets("earliest", str(window.from_ms)).starts), 0
    return ReplayPlan(begin, taken_ms, dict(within.starts), dict(within.ends))


def replace_read(settings: NearlineSettings, start: str, end: str) -> ReadSettings:
    """Reading without a group: to look, not to follow."""
    return ReadSettings(
        settings.kafka,
        settings.topic,
        start=start,
        end=end,
        archive=settings.archive,
        on_lost_records=settings.on_lost_records,  # type: ignore[arg-type]
        horizon_ms=settings.policy().horizon_ms,
        log_clock=settings.log_clock,  # type: ignore[arg-type]
    )


def preview(settings: NearlineSettings, window: Window, into: str, plan: ReplayPlan, live: ShopperStore) -> str:
    """What `--execute` would do. Raises NamespaceInUse where it would be refused."""
    there, pinned = check_into(live, ReplayAsked.of(settings, window, into)), live.pinned()
    begin = f"{plan.before:,} records, from offsets {_offsets(plan.state_from)}"
    if plan.snapshot_ms:
        begin = f"the snapshot of {moment(plan.snapshot_ms)}, and {begin}"
    policy = settings.policy_of(pinned)
    return "\n".join(
        [
            f"window    {window} by the log clock of topic {settings.topic}",
            f"offsets   from {_offsets(plan.window_from)} to {_offsets(plan.window_to)}: {plan.within:,} records",
            f"state     as of {moment(window.from_ms)}: {begin}",
            f"into      namespace {into!r}, trigger policy {policy.version}"
            + ("" if not pinned or policy.version == pinned.policy_digest else f" (live: {pinned.policy_digest})"),
            *([f"there     {there}"] if there else []),
            "nothing was written; --execute does it",
        ]
    )


def replay(settings: NearlineSettings, live: ShopperStore, window: Window, into: str, argv: Sequence[str]) -> str:
    """Reads the window into namespace `into`; returns the operation's id. `settings` are those to be tried.

    Raises NamespaceInUse where `into` is a live namespace or another command's, Stopped, and what the nearline job raises.
    """
    asked = ReplayAsked.of(settings, window, into)
    check_into(live, asked)
    with running(live, "replay", asked) as run, on_screen(run):
        if not run.progress.checkpoint:
            _reach(run, ReplayCheckpoint("check", plan_replay(settings, live, window)))
        checkpoint = msgspec.json.decode(run.progress.checkpoint, type=ReplayCheckpoint)
        plan, ours = checkpoint.plan, shadowed(settings, into, run.id)
        lists = plan.within if settings.generates else 0
        work = 2 * plan.records + lists
        if checkpoint.phase == "check":
            check_readable(run, settings, _whole(settings, plan), of=work)
            checkpoint = _reach(run, ReplayCheckpoint("restore", plan))
        shadow = worker.new_store(ours, into)
        if checkpoint.phase != "restore" and shadow.pinned() is None:
            LOG.warning("%s: %r was dropped; beginning anew", run.id, into)
            run.save(done=plan.records)
            checkpoint = _reach(run, ReplayCheckpoint("restore", plan))
        if checkpoint.phase == "restore":
            _restore(ours, live, window, plan)
            checkpoint = _reach(run, ReplayCheckpoint("state", plan))
        if checkpoint.phase == "state":
            _state_as_of(run, ours, window, plan, Share(plan.records + plan.before, work), argv)
            _reach(run, ReplayCheckpoint("window", plan))
        if settings.generates:
            take_back(shadow)
        share = Share(2 * plan.records, work, lists)
        track_into(run, replace(ours, end=str(window.to_ms), adopt=True), argv, share, plan.window_to)
        if not settings.generates:
            shadow.begin("replay")
            fire_all_due(shadow, "replay", requests=True)
        counts = run.progress.counts | _counts(shadow)
        run.save(counts=counts, done=run.progress.of, note=f"aigq diff {live.name} {into}")
        return run.id


def check_into(live: ShopperStore, asked: ReplayAsked) -> str:
    """Says what namespace `into` holds that is gone on with or dropped; empty where it holds nothing.

    Raises NamespaceInUse where readers are served from it, where another command made it, or is at work on it.
    """
    names, into = Namespaces(live.calls), asked.into
    if into in {live.name, live.namespace, *names.pointers(), *names.pointers().values()}:
        raise NamespaceInUse(f"{into!r} is what readers are served from: a replay goes into another namespace")
    replays = ((each, progress) for each, progress in Operations(live.calls).list() if each.kind == "replay")
    made_by, progress = next(
        ((each, progress) for each, progress in replays if msgspec.json.decode(each.asked, type=_Into).into == into),
        (None, OperationProgress()),
    )
    there = into in names.names()
    if there and (reason := names.in_use(into)):
        raise NamespaceInUse(f"a replay goes into a namespace of its own: {reason}")
    if made_by is None and there:
        raise NamespaceInUse(f"{into!r} is there already, and no replay made it: name another namespace")
    if made_by is None or not (there or progress.at_work(int(time.time() * 1000))):
        return ""
    if made_by.asked != msgspec.json.encode(asked).decode():
        raise NamespaceInUse(
            f"{into!r} is {made_by.id}'s, which was asked for something else and is {progress.said(int(time.time() * 1000))}: name "
            f"another namespace; or `aigq runs cancel {made_by.id}` where it has not ended, then `aigq drop {into} --execute`"
        )
    return (
        f"{into!r} holds what {made_by.id} made: it is {'dropped and made anew' if progress.ended else 'gone on with'}"
    )


def shadowed(settings: NearlineSettings, into: str, group: str) -> NearlineSettings:
    """Settings that write to nothing but namespace `into`, which keeps all lists."""
    return replace(apart(settings), namespace=into, group=group, runs_kept=max(settings.runs_kept, LISTS_KEPT))


def take_back(shadow: ShopperStore) -> None:
    """Requests that a try before had at its model are free at once, not only when their leases run out: that try is dead, or fenced
    by this."""
    shadow.begin("generate")
    held = [
        Claim(user, request.run_id, attempt=0, shard=shard_of(user, shadow.shards), blob=b"")
        for user, request in shadow.leased()
    ]
    shadow.extend(held, lease_ms=0)


def apart(settings: NearlineSettings) -> NearlineSettings:
    """Settings that write to nothing but their namespace, and pass over what is a dead letter already."""
    alone = {"results_topic": "", "dead_letter_topic": "", "dead_letter_ratio": 1.0, "dead_letter_run": 0}
    given = settings.batch_records != NearlineSettings().batch_records
    batch = settings.batch_records if given else BATCH
    return replace(settings, **alone, start="applied", catch_up_s=0, max_age_s=0, batch_records=batch)


def _whole(settings: NearlineSettings, plan: ReplayPlan) -> ReadPlan:
    """All that is read, as one."""
    whole = plan_read(replace_read(settings, "earliest", "now"))
    return replace(whole, starts=plan.state_from, ends=plan.window_to)


def _reach(run: Running, checkpoint: ReplayCheckpoint) -> ReplayCheckpoint:
    run.note(checkpoint=msgspec.json.encode(checkpoint).decode(), now=True, waits=False)
    return checkpoint


def _snapshot(
    settings: NearlineSettings, live: ShopperStore, before: Mapping[int, int], window: Window
) -> Snapshot | None:
    return newest_usable(settings.archive, live.namespace, before, window.from_ms) if settings.archive else None


def _restore(settings: NearlineSettings, live: ShopperStore, window: Window, plan: ReplayPlan) -> None:
    """Opens the shadow as the live namespace is, with the states of the snapshot where there is one. From the beginning, where a
    try before died in here."""
    pinned = live.pinned()
    shadow = worker.new_store(settings, settings.namespace)
    names = Namespaces(live.calls)
    if shadow.pinned():
        names.drop(settings.namespace)
    names.make(settings.namespace)
    if pinned:
        shadow = worker.new_store(replace(settings, shards=settings.shards or pinned.shards), settings.namespace)
        shadow.open(replace(pinned, shards=shadow.shards))
    if plan.snapshot_ms and (snapshot := _snapshot(settings, live, plan.window_from, window)):
        shadow.begin("track")
        restored = restore(snapshot, shadow)
        LOG.info("%d states restored from the snapshot of %s", restored, moment(snapshot.taken_ms))
    elif pinned and not plan.snapshot_ms:
        shadow.begin("track")
        for (
            partition,
            start,
        ) in plan.state_from.items():  # where it was said to begin, also if a try before has read further
            begin_shards(shadow, partition, start)


def _state_as_of(
    run: Running, settings: NearlineSettings, window: Window, plan: ReplayPlan, share: Share, argv: Sequence[str]
) -> None:
    """The shadow's state at the window's begin, decided by the policy of the live namespace."""
    until = replace(settings.without_trigger(), stages="track", end=str(window.from_ms))
    track_into(run, until, argv, share, plan.window_from, requests=False)
    shadow = worker.new_store(until, until.namespace)
    shadow.begin("replay")
    fire_all_due(shadow, "replay", requests=False)


def _counts(shadow: ShopperStore) -> dict[str, int]:
    return {"changes": shadow.fired()} | {outcome: count for outcome, count in shadow.counts().items() if count}


def _offsets(by_partition: Mapping[int, int]) -> str:
    return ", ".join(f"{partition}:{offset}" for partition, offset in sorted(by_partition.items()))
