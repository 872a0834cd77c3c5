"""The namespaces of a store, and the names that point to them: what a rebuild moves and a drop removes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from secrets import token_hex
from typing import NoReturn

from store.calls import Calls
from store.errors import NamespaceMismatch, StoreError
from store.layout import MADE, MOVES, NAMESPACES, POINTERS

MOVING_MS = 30_000
"""A move that is not heard of for so long has died; its name may be moved by another, and jobs may start again."""


_TAKE = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 1"""
_KEEP = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
_RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"


@dataclass(frozen=True)
class Mover:
    """One process that moves a name for an operation. A second process of the same operation is another mover."""

    operation: str
    owner: str = field(default_factory=lambda: token_hex(4))

    def __str__(self) -> str:
        return f"{self.operation} {self.owner}"


class HoldLost(StoreError):
    """The right to move a name ran out while it was needed: a job may have begun to write again."""


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
        """Id of the operation that is moving the name just now."""
        held = self.calls.one("moving", "GET", _moving(name))
        return held.decode().split(" ")[0] if held else None

    def moves(self, name: str) -> int:
        """How often a command has taken the right to move the name: a job that sees another number was fenced by one."""
        return int(self.calls.one("moves", "HGET", MOVES, name) or 0)

    def take(self, name: str, mover: Mover) -> None:
        """Takes the right to move a name, also from a process that worked on the same operation before: a job that starts meanwhile
        waits. Raises NamespaceInUse."""
        if not self.calls.one("take", "EVAL", _TAKE, 1, _moving(name), mover.operation + " ", mover.owner, MOVING_MS):
            self._refuse(name, mover)
        self.count_move(name)

    def count_move(self, name: str) -> None:
        """A job that sees another number than when it began was fenced by a command, and starts again."""
        self.calls.one("take", "HINCRBY", MOVES, name, 1)

    def keep(self, name: str, mover: Mover) -> None:
        """Renews that right. Raises NamespaceInUse where another has it, HoldLost where it ran out."""
        if not self.calls.one("keep", "EVAL", _KEEP, 1, _moving(name), str(mover), MOVING_MS):
            self._refuse(name, mover)

    def release(self, name: str, mover: Mover) -> None:
        """Gives that right back, where it is still this mover's."""
        self.calls.one("release", "EVAL", _RELEASE, 1, _moving(name), str(mover))

    def _refuse(self, name: str, mover: Mover) -> NoReturn:
        holder = self.moving(name)
        if holder is None:
            raise HoldLost(
                f"{mover.operation} was not heard of for {MOVING_MS // 1000} s and has lost the right to move {name!r} at "
                f"{self.calls.where}; the name was not moved. The same command tries again"
            )
        raise NamespaceInUse(f"{holder} is moving {name!r} at {self.calls.where} just now; `aigq runs show {holder}`")

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

    def is_there(self, namespace: str) -> bool:
        """Whether there is anything to drop."""
        known = self.calls.many("is there", [("SISMEMBER", NAMESPACES, namespace), ("SISMEMBER", MADE, namespace)])
        return any(reply.value for reply in known)

    def in_use(self, namespace: str) -> str:
        """Why a namespace must not be dropped; empty where it may."""
        pointers = self.pointers()
        users = [name for name, target in pointers.items() if target == namespace]
        if users:
            return f"{', '.join(users)} points to {namespace!r} at {self.calls.where}: it is in use"
        made = self.calls.one("made", "SISMEMBER", MADE, namespace)
        if namespace not in pointers and not made and self.is_there(namespace):
            return (
                f"{namespace!r} at {self.calls.where} was opened by a job and made by no command: jobs and readers may use it. "
                f"Move its name to another namespace first (`aigq promote`)"
            )
        return ""

    def drop(self, namespace: str) -> int:
        """Removes a namespace and all its keys; returns how many. Raises NamespaceInUse where it is what a name stands for."""
        return sum(self.dropping(namespace))

    def dropping(self, namespace: str) -> Iterator[int]:
        """The same, some keys at a time."""
        if reason := self.in_use(namespace):
            raise NamespaceInUse(reason)
        for keys in self.calls.scan(f"{namespace}:*", 1_000):
            self.calls.many("drop", [("UNLINK", key) for key in keys])
            yield len(keys)
        self.calls.many("drop", [("SREM", NAMESPACES, namespace), ("SREM", MADE, namespace)])


def _moving(name: str) -> str:
    return f"aigq:moving:{name}"
