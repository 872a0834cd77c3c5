"""An operator's command while it runs: its window, its record in the store, its brakes, and how it ends.

Every such command previews by default and writes with --execute only. Given again, it goes on where it was.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from store.client import ShopperStore
from store.operations import Operation, OperationProgress, Operations, Status, TakenOver
from transforms.log_position import parse_time_ms

LOG = logging.getLogger(__name__)

DONE, FAILED, WRONG_ARGUMENTS, A_PERSON_DECIDES, STOPPED = 0, 1, 2, 3, 4
"""Exit statuses. 1: failed, interrupted or done in part; the same command goes on. 4: an operator paused or cancelled it."""
SAVE_S = 1.0
PAUSED_POLL_S = 0.5


class Stopped(Exception):
    """An operator cancelled the operation, or paused one that cannot wait in place."""

    def __init__(self, said: str, status: Status = "cancelled"):
        super().__init__(said)
        self.status: Status = status


class Interrupted(Exception):
    """This process was told to end before the work had. Nobody decided against the operation."""


@dataclass(frozen=True)
class Window:
    """Half-open, by the log clock, Unix milliseconds."""

    from_ms: int
    to_ms: int

    @staticmethod
    def parse(begin: str, end: str) -> "Window":
        """Two times with zones. Raises ValueError saying what is wrong."""
        window = Window(parse_time_ms(begin), parse_time_ms(end))
        if window.from_ms >= window.to_ms:
            raise ValueError(f"the window [{begin}, {end}) is empty: --from must lie before --to")
        return window

    def __str__(self) -> str:
        return f"[{moment(self.from_ms)}, {moment(self.to_ms)})"

    def holds(self, ms: int) -> bool:
        return self.from_ms <= ms < self.to_ms


def moment(ms: int) -> str:
    """A time as operators write it: ISO with zone, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


class Running:
    """One operation in progress: says how far it is, and hears whether it shall pause or cancel."""

    def __init__(self, operations: Operations, operation: Operation, progress: OperationProgress, owner: str):
        self._operations = operations
        self._owner = owner
        self.operation = operation
        self.progress = progress
        self._saved_at = time.monotonic()

    @property
    def id(self) -> str:
        return self.operation.id

    def note(
        self,
        checkpoint: str | None = None,
        counts: Mapping[str, int] | None = None,
        done: int | None = None,
        of: int | None = None,
        now: bool = False,
        waits: bool = True,
    ) -> None:
        """Says how far it is; what is None stays. Call it after the work it speaks of is done. Saved once a second (`now`: at once).

        Waits while the operation is paused; with `waits` False ends then, as who holds a name or a runner must. Raises Stopped, also
        where it was cancelled.
        """
        before = self.progress
        self._change(
            checkpoint=before.checkpoint if checkpoint is None else checkpoint,
            counts=before.counts if counts is None else dict(counts),
            done=before.done if done is None else done,
            of=before.of if of is None else of,
        )
        if now or time.monotonic() - self._saved_at >= SAVE_S:
            self.save()
            self._obey(waits)

    def save(self, **changes: object) -> None:
        self._saved_at = time.monotonic()
        self._change(**changes)
        self.progress = self._operations.update(self.id, self.progress, self._owner)

    def _change(self, **changes: object) -> None:
        before, self.progress = self.progress, replace(self.progress, **changes)
        if self.progress.of != before.of or self.progress.done < before.done:  # the next phase, counted for itself
            self.progress = self.progress.from_here(int(time.time() * 1000))

    def check(self) -> None:
        """Before what a second process must not do as well. Raises TakenOver."""
        self._operations.check(self.id, self._owner)

    def asked_to_stop(self) -> bool:
        """For who cannot wait in place: whether a pause or a cancel was asked for."""
        return bool(self._operations.controlled(self.id))

    def stopped(self) -> None:
        """The work has stopped before its end: raises Stopped where an operator asked for it, else Interrupted."""
        control = self._operations.controlled(self.id)
        if control == "cancel":
            raise Stopped(f"{self.id} was cancelled")
        if control == "pause":
            raise Stopped(f"{self.id} is paused and its process has ended: the same command goes on with it", "stopped")
        raise Interrupted(f"{self.id} was interrupted: the same command goes on with it")

    def _obey(self, waits: bool) -> None:
        control = self._operations.controlled(self.id)
        if control and not waits:
            self.stopped()
        if control == "pause":
            LOG.warning("%s is paused; `aigq runs resume %s` lets it go on", self.id, self.id)
            while (control := self._operations.controlled(self.id)) == "pause":
                self.save(status="paused")
                time.sleep(PAUSED_POLL_S)
            self.progress = self.progress.from_here(int(time.time() * 1000))
            self.save(status="running")
        if control == "cancel":
            raise Stopped(f"{self.id} was cancelled")


def check_alone(store: ShopperStore, kind: str, asked: msgspec.Struct) -> None:
    """Before anything is begun. Raises NamespaceInUse where another operation of the kind is at work on the name."""
    Operations(store.calls).check_alone(kind, store.name, msgspec.json.encode(asked).decode())


@contextmanager
def running(store: ShopperStore, kind: str, asked: msgspec.Struct) -> Iterator[Running]:
    """Begins an operation, or goes on with the one that asked for the same, and records how it ends.

    `asked` holds the arguments; it is written down as JSON.
    """
    operations = Operations(store.calls)
    run = Running(operations, *operations.begin(kind, store.name, msgspec.json.encode(asked).decode()))
    try:
        yield run
    except TakenOver:
        raise
    except Stopped as stopped:
        run.save(status=stopped.status, note=str(stopped))
        raise
    except (Interrupted, KeyboardInterrupt) as error:
        run.save(
            status="interrupted", note=str(error) or "interrupted at its terminal: the same command goes on with it"
        )
        raise
    except BaseException as error:
        with suppress(TakenOver):  # whoever took it over has fenced this one, too: that is what failed
            run.save(status="failed", note=f"{type(error).__name__}: {error}"[:1_000])
        raise
    run.save(status="done")
