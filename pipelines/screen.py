"""How an operator's command shows how far it is: one line that moves on a terminal, a line each ten seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.status import Status

from pipelines.meanwhile import meanwhile
from pipelines.operation import Running
from store.operations import OperationProgress

EACH_S = 10.0
LOOK_S = 0.5


@contextmanager
def on_screen(run: Running) -> Iterator[None]:
    """Says the operation's id at once, then how far it is, at the end what was counted. For work that runs in many threads."""
    with Screen() as screen:
        screen.say(f"{run.id}: `aigq runs pause {run.id}` and `cancel` hold it; killed, the same command goes on")
        with meanwhile("screen", LOOK_S, lambda: screen.show(run.progress)):
            yield
    if counts := run.progress.counts:
        screen.say(", ".join(f"{name} {count:,}" for name, count in counts.items()))


class Screen:
    """Speaks on standard error: standard output is for results."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._status = Status("", console=self._console) if self._console.is_terminal else None
        self._said_at = time.monotonic()

    def __enter__(self) -> "Screen":
        if self._status:
            self._status.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._status:
            self._status.stop()

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, progress: OperationProgress) -> None:
        if self._status:
            self._status.update(line(progress, int(time.time() * 1000)))
        elif time.monotonic() - self._said_at >= EACH_S:
            self._said_at = time.monotonic()
            self.say(line(progress, int(time.time() * 1000)))


def line(progress: OperationProgress, now_ms: int) -> str:
    """`30 of 120 (25%), 45 s to go: requested 30`"""
    counts = ", ".join(f"{name} {count:,}" for name, count in progress.counts.items())
    if not progress.of:
        return counts
    said = f"{progress.done:,} of {progress.of:,} ({progress.done / progress.of:.0%})"
    if (left_s := progress.left_s(now_ms)) is not None:
        said += f", {left_s:,.0f} s to go"
    return f"{said}: {counts}" if counts else said
