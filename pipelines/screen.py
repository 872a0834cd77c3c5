"""How an operator's command shows how far it is: one line that moves on a terminal, a line each ten seconds elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.status import Status

from store.operations import OperationProgress

EACH_S = 10.0


class Screen:
    """Speaks on standard error: standard output is for results."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._status = Status("", console=self._console) if self._console.is_terminal else None
        self._begun = self._said_at = time.monotonic()
        self._done_before: int | None = None

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
        if self._done_before is None:
            self._done_before = progress.done
        now = time.monotonic()
        if self._status:
            self._status.update(self._line(progress, now))
        elif now - self._said_at >= EACH_S:
            self._said_at = now
            self.say(self._line(progress, now))

    def _line(self, progress: OperationProgress, now: float) -> str:
        line = ", ".join(f"{name} {count:,}" for name, count in progress.counts.items())
        if not progress.of:
            return line
        said = f"{progress.done:,} of {progress.of:,} ({progress.done / progress.of:.0%})"
        done = progress.done - (self._done_before or 0)
        if done > 0:
            said += f", {(now - self._begun) / done * (progress.of - progress.done):,.0f} s to go"
        return f"{said}: {line}" if line else said
