"""What operators asked for: a record of every replay, backfill, redrive, rebuild and adoption, kept in the store.

What was asked never changes. How far it is does, and moves only after the work it speaks of is done, so that the same command
given again goes on from there.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from store.calls import Calls
from store.errors import StoreError
from store.layout import OPERATIONS
from store.namespaces import NamespaceInUse

Status = Literal["running", "paused", "done", "failed", "cancelled", "interrupted", "stopped"]
"""paused: the process waits in place. stopped: it was paused, and its process has ended. interrupted: the process ended before the work."""
Control = Literal["", "pause", "cancel"]
SILENT_S = 30.0
"""The process of an operation that runs or waits and says nothing for so long has died."""
FORGOTTEN_S = 2 * 86_400
"""So long after an operation is forgotten its progress may still lie in the store: until the next daily `aigq archive prune`."""


class Operation(msgspec.Struct, frozen=True):
    """What was asked."""

    id: str
    kind: str
    namespace: str
    """The name as it was given."""
    asked: str
    """The arguments as JSON."""
    begun_ms: int


class OperationProgress(msgspec.Struct, frozen=True):
    """How far it is."""

    status: Status = "running"
    updated_ms: int = 0
    checkpoint: str = ""
    """Where it goes on; its own words."""
    counts: dict[str, int] = {}
    done: int = 0
    of: int = 0
    """Units of work, for the percentage; 0 where it is not known yet."""
    since_ms: int = 0
    done_then: int = 0
    """When this stretch of work began, and what was done by then: the pace is of it alone, not of the time that nobody worked."""
    note: str = ""
    """Why it failed, where its result lies."""

    def silent_s(self, now_ms: int) -> float:
        return (now_ms - self.updated_ms) / 1000

    def said(self, now_ms: int) -> Status:
        """The status as a person should read it."""
        killed = self.silent_s(now_ms) > SILENT_S
        if self.status == "running" and killed:
            return "interrupted"
        if self.status == "paused" and killed:
            return "stopped"
        return self.status

    def from_here(self, now_ms: int) -> "OperationProgress":
        """A stretch of work begins: what was before says nothing of the pace."""
        return replace(self, since_ms=now_ms, done_then=self.done)

    def left_s(self, at_ms: int) -> float | None:
        """Seconds to go as of then, at the pace of this stretch; None where nothing tells."""
        done = self.done - self.done_then
        if not self.of or (done <= 0 and self.done < self.of):
            return None
        return max(0.0, (at_ms - self.since_ms) / 1000 / max(done, 1) * (self.of - self.done))

    def at_work(self, now_ms: int) -> bool:
        """Whether a process is at it, as far as one can know."""
        return self.said(now_ms) in ("running", "paused")

    @property
    def ended(self) -> bool:
        return self.status in ("done", "cancelled")


class NoSuchOperation(StoreError):
    """The store has no operation of this id."""


class TakenOver(StoreError):
    """Another process works on the operation now, or it was cancelled while this one said nothing: this one ends."""


class Begun(NamedTuple):
    """An operation, as the process has it that works on it."""

    operation: Operation
    progress: OperationProgress
    owner: str
    """Of this process: the newest to begin is the one that works on the operation, and the one before ends at its next word."""


class NobodyWorks(StoreError):
    """An operation that has ended, or whose process has, can neither be held nor let go on."""


class Operations:
    """The records of a store."""

    def __init__(self, calls: Calls):
        self._calls = calls

    def begin(self, kind: str, namespace: str, asked: str) -> Begun:
        """A new operation, or the one that asked for the same and has not ended: it goes on from its checkpoint, and a process
        that still works on it ends."""
        now = time.time()
        for operation, progress in self.list():
            same = (operation.kind, operation.namespace, operation.asked) == (kind, namespace, asked)
            if same and not progress.ended:
                owner = self._own(operation.id)
                self._ask(operation.id, "")
                last = self.show(operation.id)[1]  # of the process before, which writes no more
                again = replace(last, status="running", note="").from_here(int(now * 1000))
                return Begun(operation, self.update(operation.id, again, owner), owner)
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        operation = Operation(f"{kind}-{stamp}-{secrets.token_hex(2)}", kind, namespace, asked, int(now * 1000))
        self._calls.one("operations", "HSET", OPERATIONS, operation.id, msgspec.json.encode(operation))
        owner = self._own(operation.id)
        return Begun(operation, self.update(operation.id, OperationProgress(since_ms=operation.begun_ms), owner), owner)

    def check_alone(self, kind: str, namespace: str, asked: str) -> None:
        """For a kind of which two would stop each other. Raises NamespaceInUse where one that asked for something else is at work."""
        now_ms = int(time.time() * 1000)
        for operation, progress in self.list():
            same = (operation.kind, operation.namespace) == (kind, namespace) and operation.asked != asked
            if same and progress.at_work(now_ms):
                raise NamespaceInUse(
                    f"{operation.id} works on {namespace!r} at {self._calls.where} just now, and was asked for something else: let it "
                    f"end (`aigq runs show {operation.id}`) or cancel it, then give this command again. Was it killed? It counts as "
                    f"dead when it has said nothing for {SILENT_S:.0f} s"
                )

    def update(self, id: str, progress: OperationProgress, owner: str) -> OperationProgress:
        """Saves how far it is, with the time of now. Raises TakenOver."""
        progress = replace(progress, updated_ms=int(time.time() * 1000))
        if not self._calls.one("operations", "EVAL", _UPDATE, 1, _key(id), owner, msgspec.json.encode(progress)):
            self.check(id, owner)
        return progress

    def check(self, id: str, owner: str) -> None:
        """Raises TakenOver where the process that began as `owner` is not the one that works on it."""
        holder = self._calls.one("operations", "HGET", _key(id), "owner")
        if holder != owner.encode():
            raise TakenOver(
                f"another process works on {id} now, or it was cancelled while this one was silent for {SILENT_S:.0f} s: this one ends; "
                f"see `aigq runs show {id}`"
            )

    def _own(self, id: str) -> str:
        owner = secrets.token_hex(4)
        self._calls.one("operations", "HSET", _key(id), "owner", owner)
        return owner

    def control(self, id: str, control: Control) -> None:
        """Asks the process of an operation to pause or to cancel; empty takes that back. Raises NoSuchOperation, NobodyWorks."""
        _, progress = self.show(id)
        now_ms = int(time.time() * 1000)
        if not progress.at_work(now_ms):
            ended = (
                "there is nothing to pause, resume or cancel" if progress.ended else "the same command goes on with it"
            )
            raise NobodyWorks(f"{id} is {progress.said(now_ms)}: {ended}")
        self._ask(id, control)

    def cancel(self, id: str) -> None:
        """Ends an operation: asks it to, or says so where nobody works on it any more. Raises NoSuchOperation, NobodyWorks."""
        _, progress = self.show(id)
        if not progress.ended and not progress.at_work(int(time.time() * 1000)):
            self.update(id, replace(progress, status="cancelled"), self._own(id))
        else:
            self.control(id, "cancel")

    def _ask(self, id: str, control: Control) -> None:
        self._calls.one("operations", "HSET", _key(id), "control", control)

    def forget(self, ids: Sequence[str]) -> None:
        """Removes the records of ended operations."""
        if ids:  # the second key expires first: a kill in between leaves nothing that nobody would find again
            self._calls.many("operations", [("EXPIRE", _key(id), FORGOTTEN_S) for id in ids])
            self._calls.one("operations", "HDEL", OPERATIONS, *ids)

    def controlled(self, id: str) -> Control:
        """What it was asked to do."""
        value = self._calls.one("operations", "HGET", _key(id), "control")
        return value.decode() if value else ""

    def show(self, id: str) -> tuple[Operation, OperationProgress]:
        """Raises NoSuchOperation."""
        value = self._calls.one("operations", "HGET", OPERATIONS, id)
        if value is None:
            raise NoSuchOperation(
                f"no operation {id!r} in the store at {self._calls.where}; `aigq runs list` names them"
            )
        progress = self._calls.one("operations", "HGET", _key(id), "progress")
        return _operation(value), _progress(progress)

    def list(self) -> list[tuple[Operation, OperationProgress]]:
        """All of them, the newest first."""
        found: Mapping[bytes, bytes] = self._calls.one("operations", "HGETALL", OPERATIONS)
        operations = sorted(map(_operation, found.values()), key=lambda each: -each.begun_ms)
        replies = self._calls.many("operations", [("HGET", _key(each.id), "progress") for each in operations])
        return [(each, _progress(reply.value)) for each, reply in zip(operations, replies, strict=True)]


_UPDATE = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'progress', ARGV[2])
return 1"""


def _key(id: str) -> str:
    return f"aigq:operation:{id}"


_operation = msgspec.json.Decoder(Operation).decode


def _progress(value: bytes | None) -> OperationProgress:
    return msgspec.json.decode(value, type=OperationProgress) if value else OperationProgress()
