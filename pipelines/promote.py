"""Makes a namespace what a name stands for: a shadow that has proven itself, or the namespace of before a rebuild."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from pipelines import worker
from pipelines.move_name import move_name
from pipelines.operation import running
from pipelines.options import NearlineSettings
from pipelines.replay import apart
from pipelines.track_into import track_into
from store.client import ShopperStore, StoreError
from store.namespaces import Namespaces


class PromoteAsked(msgspec.Struct, frozen=True):
    """What was asked for."""

    namespace: str


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
    with running(live, "promote", PromoteAsked(namespace)) as run:
        ours = replace(ours, group=run.id)
        if Namespaces(live.calls).pointed_to(live.name) != namespace:
            track_into(run, ours, argv)  # the long way first, while the job still works
        target.begin("rebuild")
        copied = move_name(live.name, target, run.id, "rebuild", lambda: track_into(run, ours, argv))
        run.save(counts={"lists copied": copied}, note=f"{live.name!r} stands for {namespace!r}")
        return run.id


def _pinned(target: ShopperStore):
    pinned = target.pinned()
    if pinned is None:
        raise StoreError(
            f"there is no namespace {target.namespace!r} at {target.calls.where}; `aigq namespaces` lists them"
        )
    return pinned
