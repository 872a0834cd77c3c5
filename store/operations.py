"""What operators asked for: a record of every replay, backfill, redrive, rebuild and adoption, kept in the store.

What was asked never changes. How far it is does, and moves only after the work it speaks of is done, so that the same command
given again goes on from there.
"""

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec.structs import replace

from store.calls import Calls
from store.errors import StoreError
from store.layout import OPERATIONS

Status = Literal["running", "paused", "done", "failed", "cancelled"]
Control = Literal["", "pause", "cancel"]
SILENT_S = 30.0
"""A running operation that says nothing for so long has died."""


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
    note: str = ""
    """Why it failed, where its result lies."""

    def silent_s(self, now_ms: int) -> float:
        return (now_ms - self.updated_ms) / 1000

    def said(self, now_ms: int) -> str:
        """The status as a person should read it."""
        if self.status == "running" and self.silent_s(now_ms) > SILENT_S:
            return "interrupted"
        return self.status

    @property
    def ended(self) -> bool:
        return self.status in ("done", "cancelled")


class NoSuchOperation(StoreError):
    """The store has no operation of this id."""


class Operations:
    """The records of a store."""

    def __init__(self, calls: Calls):
        self._calls = calls

    def begin(self, kind: str, namespace: str, asked: str) -> tuple[Operation, OperationProgress]:
        """A new operation, or the one that asked for the same and has not ended: it goes on from its checkpoint."""
        for operation, progress in self.list():
            same = (operation.kind, operation.namespace, operation.asked) == (kind, namespace, asked)
            if same and not progress.ended:
                self.control(operation.id, "")
                return operation, self.update(operation.id, replace(progress, status="running", note=""))
        now = time.time()
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        operation = Operation(f"{kind}-{stamp}-{secrets.token_hex(2)}", kind, namespace, asked, int(now * 1000))
        self._calls.one("operations", "HSET", OPERATIONS, operation.id, msgspec.json.encode(operation))
        return operation, self.update(operation.id, OperationProgress())

    def update(self, id: str, progress: OperationProgress) -> OperationProgress:
        """Saves how far it is, with the time of now."""
        progress = replace(progress, updated_ms=int(time.time() * 1000))
        self._calls.one("operations", "HSET", _key(id), "progress", msgspec.json.encode(progress))
        return progress

    def control(self, id: str, control: Control) -> None:
        """Asks a running operation to pause or to cancel; empty takes that back. Raises NoSuchOperation."""
        self.show(id)
        self._calls.one("operations", "HSET", _key(id), "control", control)

    def cancel(self, id: str) -> None:
        """Ends an operation: asks it to, or says so where nobody works on it any more. Raises NoSuchOperation."""
        _, progress = self.show(id)
        now_ms = int(time.time() * 1000)
        if progress.status == "failed" or (not progress.ended and progress.silent_s(now_ms) > SILENT_S):
            self.update(id, replace(progress, status="cancelled"))
        else:
            self.control(id, "cancel")

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


def _key(id: str) -> str:
    return f"aigq:operation:{id}"


_operation = msgspec.json.Decoder(Operation).decode


def _progress(value: bytes | None) -> OperationProgress:
    return msgspec.json.decode(value, type=OperationProgress) if value else OperationProgress()
