"""What a measured process tells the benchmark: one JSON line at its end. Standard library alone: the peers run it too."""

import gc
import json
import os
import time
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Measured:
    """One run of one system over a topic."""

    events: int
    changes: int
    seconds: float
    """From the first record read to the last state saved, start-up apart."""
    peak_mb: float
    """Greatest resident memory of the process that decides."""

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds


class Stopwatch:
    """Starts with the first record. `read()` is cheap enough to be called for each one."""

    def __init__(self) -> None:
        self._started = 0.0

    def read(self) -> None:
        if not self._started:
            self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started


def collect_seldom() -> None:
    """The peers' garbage collector set as the job's own (transforms/collector.py): it would cost them as much."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def peak_mb() -> float:
    """Greatest resident memory of this process so far."""
    with open(f"/proc/{os.getpid()}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def tell(measured: Measured) -> None:
    """The last line of the process's output."""
    print(json.dumps(asdict(measured)), flush=True)


def heard(output: str) -> Measured:
    """What `tell` printed, read back from a process's output."""
    return Measured(**json.loads(output.strip().splitlines()[-1]))
