"""Removes a namespace that no name points to, and leaves a record of it in `aigq runs`."""

import time

import msgspec

from pipelines.operation import running
from pipelines.screen import on_screen
from store.client import ShopperStore
from store.namespaces import NamespaceInUse, Namespaces
from store.operations import Operations


class DropAsked(msgspec.Struct, frozen=True):
    """What was asked for."""

    namespace: str


def preview(store: ShopperStore) -> str:
    """What `--execute` would do."""
    names, namespace = Namespaces(store.calls), store.name
    said = f"would remove {namespace!r}; --execute does it" if names.is_there(namespace) else _gone(names, namespace)
    return f"{_kept_for(store) or said}. All namespaces: {', '.join(names.names())}"


def drop(store: ShopperStore) -> str:
    """Removes the namespace of `store`'s name; says what was done. One that is gone is no error: a try before may have died when it
    had removed it. Raises NamespaceInUse, Stopped."""
    names, namespace = Namespaces(store.calls), store.name
    if reason := _kept_for(store):
        raise NamespaceInUse(reason)
    with running(store, "drop", DropAsked(namespace)) as run, on_screen(run):
        if not names.is_there(namespace):
            run.save(note=_gone(names, namespace))
            return run.progress.note
        removed = run.progress.counts.get("keys removed", 0)
        for keys in names.dropping(namespace):
            removed += keys
            run.note(counts={"keys removed": removed})
        run.save(counts={"keys removed": removed})
        return f"{removed:,} keys removed"


def _kept_for(store: ShopperStore) -> str:
    """Why it must not be dropped: a name stands for it, or a command that speaks of it, such as the replay that fills it, is at work."""
    namespace, now_ms = store.name, int(time.time() * 1000)
    for operation, progress in Operations(store.calls).list():
        speaks_of_it = f'"{namespace}"' in operation.asked + progress.checkpoint or progress.checkpoint == namespace
        if operation.kind != "drop" and speaks_of_it and progress.at_work(now_ms):
            return f"{operation.id} works on {namespace!r} just now: let it end, or `aigq runs cancel {operation.id}`"
    return Namespaces(store.calls).in_use(namespace)


def _gone(names: Namespaces, namespace: str) -> str:
    return f"{namespace!r} is not, or no longer, in the store at {names.calls.where}"
