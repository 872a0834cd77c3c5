"""The namespaces of a store, and the names that point to them: what a rebuild moves and a drop removes."""

import time
from dataclasses import dataclass

from store.calls import Calls
from store.errors import NamespaceMismatch, StoreError
from store.layout import MADE, MOVES, NAMESPACES, POINTERS

MOVING_MS = 30_000
"""A move that is not heard of for so long has died; its name may be moved by another, and jobs may start again."""


class NamespaceInUse(NamespaceMismatch):
    """The namespace is what a name points to, or a name is being moved."""


@dataclass(frozen=True)
class Namespaces:
    calls: Calls

    def names(self) -> list[str]:
        """Every namespace that was ever opened and not dropped."""
        return sorted(name.decode() for name in self.calls.one("namespaces", "SMEMBERS", NAMESPACES))

    def pointers(self) -> dict[str, str]:
        """name -> the namespace that it stands for. A name that is missing stands for itself."""
        found = self.calls.one("pointers", "HGETALL", POINTERS)
        return {name.decode(): namespace.decode() for name, namespace in found.items()}

    def pointed_to(self, name: str) -> str:
        return self.pointers().get(name, name)

    def point(self, name: str, namespace: str) -> None:
        """From now on `name` stands for `namespace`: readers follow within their second, writers when they begin anew."""
        self.calls.one("point", "HSET", POINTERS, name, namespace)

    def moving(self, name: str) -> str | None:
        """Who is moving the name just now."""
        held = self.calls.one("moving", "GET", f"aigq:moving:{name}")
        return held.decode() if held else None

    def moves(self, name: str) -> int:
        """How often a command has taken the right to move the name: a job that sees another number was fenced by one."""
        return int(self.calls.one("moves", "HGET", MOVES, name) or 0)

    def take(self, name: str, mover: str) -> None:
        """Takes the right to move a name: a job that starts meanwhile waits. Raises NamespaceInUse."""
        self.calls.one("take", "SET", f"aigq:moving:{name}", mover, "NX", "PX", MOVING_MS)
        self.keep(name, mover)
        self.calls.one("take", "HINCRBY", MOVES, name, 1)

    def keep(self, name: str, mover: str) -> None:
        """Renews that right. Raises NamespaceInUse where another has it."""
        holder = self.moving(name)
        if holder not in (mover, None):
            raise NamespaceInUse(
                f"{holder} is moving {name!r} at {self.calls.where} just now; `aigq runs show {holder}`"
            )
        self.calls.one("keep", "SET", f"aigq:moving:{name}", mover, "PX", MOVING_MS)

    def release(self, name: str) -> None:
        self.calls.one("release", "DEL", f"aigq:moving:{name}")

    def wait_for_move(self, name: str, within_s: float) -> None:
        """Returns when nobody is moving the name. Raises StoreError after `within_s`."""
        until = time.monotonic() + within_s
        while mover := self.moving(name):
            if time.monotonic() > until:
                raise StoreError(
                    f"{mover} is still moving {name!r} after {within_s:.0f} s; see `aigq runs show {mover}`"
                )
            time.sleep(0.5)

    def make(self, namespace: str) -> None:
        """Notes that an operator's command makes this namespace: unlike one that a job opened, it may be dropped."""
        self.calls.one("make", "SADD", MADE, namespace)

    def in_use(self, namespace: str) -> str:
        """Why a namespace must not be dropped; empty where it may."""
        pointers = self.pointers()
        users = [name for name, target in pointers.items() if target == namespace]
        if users:
            return f"{', '.join(users)} points to {namespace!r} at {self.calls.where}: it is in use"
        if namespace not in pointers and not self.calls.one("made", "SISMEMBER", MADE, namespace):
            return (
                f"{namespace!r} at {self.calls.where} was opened by a job and made by no command: jobs and readers may use it. "
                f"Move its name to another namespace first (`aigq promote`)"
            )
        return ""

    def drop(self, namespace: str) -> int:
        """Removes a namespace and all its keys; returns how many. Raises NamespaceInUse where it is what a name stands for."""
        if reason := self.in_use(namespace):
            raise NamespaceInUse(reason)
        removed = 0
        for keys in self.calls.scan(f"{namespace}:*", 1_000):
            removed += len(keys)
            self.calls.many("drop", [("UNLINK", key) for key in keys])
        self.calls.many("drop", [("SREM", NAMESPACES, namespace), ("SREM", MADE, namespace)])
        return removed
