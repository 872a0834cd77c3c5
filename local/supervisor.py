"""Keeps a job running: Prism fails a job at its first exception, so the process is what is restarted.

    from local.supervisor import supervise
    sys.exit(supervise([sys.executable, "-m", "pipelines.nearline", ...]))

The job's state is in the store, so a restart costs seconds and loses nothing. What is left of a failed run (engine
processes of a killed parent) is killed before the next begins. A job that cannot start is not restarted for ever.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from local import process

STAY_DOWN = (2, 3)
"""Exit statuses that another start would not change: 2 wrong configuration, 3 the job itself says so (fenced by a newer
writer, too many dead letters, a store that needs `rebuild`)."""


def supervise(
    command: Sequence[str],
    quick_failures: int = 5,
    quick_s: float = 30.0,
    first_wait_s: float = 1.0,
    longest_wait_s: float = 30.0,
    drain_s: float = 60.0,
) -> int:
    """Runs `command` until it ends by itself (0 or one of STAY_DOWN) or is asked to end; returns its exit status.

    A run that fails is followed by the next after a wait that doubles from `first_wait_s` to `longest_wait_s` and starts
    over once a run has lasted `quick_s`. `quick_failures` runs shorter than that in a row: gives up, with a message.
    SIGTERM and SIGINT are passed on as SIGTERM; the job has `drain_s` seconds to drain, a second signal ends it at once.
    """
    asked = _Asked()
    previous = {number: signal.signal(number, asked.on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        failures = 0
        while True:
            began = time.monotonic()
            status = _run_once(command, asked, drain_s)
            if status == 0 or status in STAY_DOWN or asked.times:
                return status if status >= 0 else 128 - status
            lasted_s = time.monotonic() - began
            failures = failures + 1 if lasted_s < quick_s else 1
            what = f"the job ended with status {status} after {lasted_s:.0f} s"
            if failures >= quick_failures:
                _say(f"{what}, the {failures}th time in a row that soon: giving up. Its own output says why.")
                return status if status > 0 else 1
            wait_s = min(first_wait_s * 2 ** (failures - 1), longest_wait_s)
            _say(f"{what}; starting it again in {wait_s:g} s")
            if asked.event.wait(wait_s):
                return 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Asked:
    """How often we were asked to end."""

    def __init__(self) -> None:
        self.times = 0
        self.event = threading.Event()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.times += 1
        self.event.set()


def _run_once(command: Sequence[str], asked: _Asked, drain_s: float) -> int:
    child = process.start("job", command, log=None)
    try:
        while not asked.times:
            try:
                return child.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        child.terminate()
        deadline = time.monotonic() + drain_s
        while asked.times < 2 and time.monotonic() < deadline:
            try:
                return child.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        _say(f"the job had not drained within {drain_s:.0f} s, or was asked twice: killed")
    finally:
        child.kill()
    return child.process.returncode


def _say(message: str) -> None:
    print(f"supervisor: {message}", file=sys.stderr, flush=True)
