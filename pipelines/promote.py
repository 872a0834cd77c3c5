"""Makes a namespace what a name stands for: a shadow that has proven itself, or the namespace of before a rebuild."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from pipelines import worker
from pipelines.move_name import move_name
from pipelines.nearline import read_settings
from pipelines.operation import Running, check_alone, running
from pipelines.options import NearlineSettings
from pipelines.readable import check_readable
from pipelines.replay import apart
from pipelines.screen import on_screen
from pipelines.track_into import Share, track_into
from store.client import ShopperStore, StoreError
from store.namespaces import Namespaces
from transforms.read_plan import ReadPlan, plan_read


class PromoteAsked(msgspec.Struct, frozen=True):
    """What was asked for."""

    namespace: str
    format: str
    mapper: str
    schema_registry: str
    log_clock: str


def preview(live: ShopperStore, target: ShopperStore) -> str:
    """What `--execute` would do."""
    now, then = live.pinned(), _pinned(target)
    policy = then.policy_digest if now and then.policy_digest != now.policy_digest else "the same"
    return "\n".join(
        [
            f"now       {live.name!r} stands for {live.namespace!r}",
            f"then      for {target.namespace!r}: trigger policy {policy}, {then.shards} shards",
            "how       it is read level with the log, the job is fenced and goes on there by itself, lists are copied",
            "nothing was written; --execute does it",
        ]
    )


def promote(settings: NearlineSettings, live: ShopperStore, namespace: str, argv: Sequence[str]) -> str:
    """Returns the operation's id. Raises NamespaceInUse, Stopped, StoreError, and what the nearline job raises."""
    ours = replace(
        apart(settings.without_trigger()), namespace=namespace, stages="track", end="now", shards=0, adopt=False
    )
    target = worker.new_store(ours, namespace)
    _pinned(target)
    reads = (settings.format, settings.mapper, settings.schema_registry, settings.log_clock)
    asked = PromoteAsked(namespace, *reads)
    check_alone(live, "promote", asked)
    with running(live, "promote", asked) as run, on_screen(run):
        ours = replace(ours, group=run.id)
        if Namespaces(live.calls).pointed_to(live.name) != namespace:
            if not run.progress.checkpoint:
                plan = _to_read(ours, target)
                assert plan.ends is not None
                records = sum(end - plan.starts[p] for p, end in plan.ends.items())
                check_readable(run, settings, plan, of=2 * records)
                run.note(checkpoint="readable", now=True, waits=False)
            track_into(run, ours, argv, _rest(run))  # the long way first, while the job still works
        target.begin("rebuild")
        copied = move_name(live.name, target, run, "rebuild", lambda: track_into(run, ours, argv, _rest(run)))
        counts = run.progress.counts | {"lists copied": copied}
        run.save(counts=counts, done=run.progress.of, note=f"{live.name!r} stands for {namespace!r}")
        return run.id


def _to_read(settings: NearlineSettings, target: ShopperStore) -> ReadPlan:
    """From where the namespace is to where the log is now."""
    plan = plan_read(replace(read_settings(settings), group="", start="earliest"))
    applied = {p: [at.next_offset for at in target.applied(p).values()] for p in plan.starts}
    return replace(plan, starts={p: max(start, min(applied[p], default=0)) for p, start in plan.starts.items()})


def _rest(run: Running) -> Share:
    return Share(run.progress.of, run.progress.of)


def _pinned(target: ShopperStore):
    pinned = target.pinned()
    if pinned is None:
        raise StoreError(
            f"there is no namespace {target.namespace!r} at {target.calls.where}; `aigq namespaces` lists them"
        )
    return pinned
