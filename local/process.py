"""Children that die with their parent: every server and job that this machine runs is started here.

A child runs in a process group of its own, together with a guard: a shell that waits on a pipe from us. However we end,
kill -9 included, the pipe closes and the guard kills the group, grandchildren too. (Linux's parent-death signal would
spare the grandchildren, and it fires when the *thread* that started the child ends.)
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from local.ports import answers

POLL_S = 0.02
GUARD = ["/bin/sh", "-c", "trap '' TERM INT HUP; read -r _; kill -KILL 0"]


class StartFailed(RuntimeError):
    """A child ended, or did not become ready in time; the message shows the end of its log."""


@dataclass(frozen=True)
class Child:
    """A running process with its group, its guard and its log."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    guard: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, within_s: float | None = None) -> int:
        """The exit status, negative for a signal. TimeoutExpired if the process still runs after `within_s`."""
        return self.process.wait(within_s)

    def terminate(self) -> None:
        """Asks the process itself (not its children) to end."""
        self.process.terminate()

    def kill(self) -> None:
        """kill -9 of the whole group, and waits until it is gone: memory, sockets and files are free again."""
        if self.guard.returncode is None:  # until the guard is reaped, nobody else can have the group's number
            os.killpg(self.guard.pid, signal.SIGKILL)
            deadline = time.monotonic() + 10
            while _alive_in_group(self.guard.pid) and time.monotonic() < deadline:
                time.sleep(POLL_S)
        self.process.wait()
        self.guard.wait()
        if self.guard.stdin:
            self.guard.stdin.close()

    def stop(self, within_s: float = 10.0) -> int:
        """TERM, then KILL to whatever of the group is left after the process ended or `within_s` passed."""
        self.terminate()
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            pass  # the kill below is the answer
        finally:
            self.kill()
        return self.process.returncode

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def start(
    name: str,
    command: Sequence[str | Path],
    log: Path | None,
    ready: Callable[[], bool] | None = None,
    within_s: float = 30.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Child:
    """Starts `command` and returns once `ready()` says so.

    `log` takes both outputs (appended); with None the child shares ours. `env` is added to our environment.
    Raises StartFailed, with the end of the log, if the child ends first or is not ready `within_s` seconds.
    """
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    output: IO[bytes] | None = log.open("ab") if log else None
    guard = subprocess.Popen(GUARD, stdin=subprocess.PIPE, process_group=0)
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            process_group=guard.pid,
        )
    except BaseException as error:
        guard.kill()
        guard.wait()
        if isinstance(error, FileNotFoundError):
            raise StartFailed(f"{name}: no such program: {command[0]}") from error
        raise
    finally:
        if output:
            output.close()
    child = Child(name, log or Path(os.devnull), process, guard)
    try:
        _wait_until_ready(child, ready, within_s)
    except BaseException:
        child.kill()
        raise
    return child


def accepts(port: int) -> Callable[[], bool]:
    """Ready once something listens on the loopback port."""
    return lambda: answers(port)


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def alive(pid: int) -> bool:
    """Whether the process is there and more than a zombie."""
    return _state_and_group(Path(f"/proc/{pid}/stat"))[0] not in "ZX"


def _alive_in_group(group: int) -> bool:
    states = (_state_and_group(stat) for stat in Path("/proc").glob("[0-9]*/stat"))
    return any(its_group == group and state not in "ZX" for state, its_group in states)


def _state_and_group(stat: Path) -> tuple[str, int]:
    try:
        state, _, group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
    except OSError:
        return "X", 0  # gone
    return state, int(group)


def _wait_until_ready(child: Child, ready: Callable[[], bool] | None, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while ready and not ready():
        if not child.running:
            raise StartFailed(_failure(child, f"ended with status {child.process.returncode} before it was ready"))
        if time.monotonic() > deadline:
            raise StartFailed(_failure(child, f"was not ready within {within_s:.0f} s"))
        time.sleep(POLL_S)


def _failure(child: Child, what: str) -> str:
    return f"{child.name} {what}; the end of its log ({child.log}):\n{child.log_tail()}"
