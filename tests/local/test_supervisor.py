"""The job is restarted when it fails, and only then."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.supervisor import supervise


def test_a_failing_job_runs_again_until_it_succeeds(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert supervise(_shell(f"echo x >> {runs}; test $(wc -l < {runs}) -ge 3"), first_wait_s=0.01) == 0
    assert runs.read_text() == "x\n" * 3


@pytest.mark.parametrize("status", [2, 3])
def test_a_job_that_another_start_cannot_help_is_not_started_again(tmp_path: Path, status: int) -> None:
    runs = tmp_path / "runs"
    assert supervise(_shell(f"echo x >> {runs}; exit {status}"), first_wait_s=0.01) == status
    assert runs.read_text() == "x\n"


def test_a_job_that_never_starts_is_given_up_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    assert supervise(_shell(f"echo x >> {runs}; kill -9 $$"), quick_failures=4, first_wait_s=0.01) == 1
    assert runs.read_text() == "x\n" * 4
    assert "giving up" in capsys.readouterr().err


def test_what_a_failed_run_leaves_behind_is_gone_before_the_next(tmp_path: Path) -> None:
    script = (
        f"grep -s State /proc/$(cat {tmp_path}/left)/status >> {tmp_path}/seen; sleep 600 & echo $! > {tmp_path}/left"
    )
    (tmp_path / "left").write_text("0")
    supervise(_shell(f"{script}; exit 1"), quick_failures=3, first_wait_s=0.01)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert all("zombie" in state for state in seen)


def test_sigterm_is_passed_on_and_the_job_may_drain(tmp_path: Path) -> None:
    script = f"trap 'sleep 0.2; echo drained > {tmp_path}/end; exit 0' TERM; echo > {tmp_path}/up; while :; do sleep 0.05; done"
    supervisor = _in_a_process(script, drain_s=60)
    _wait_for(tmp_path / "up")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait() == 0
    assert (tmp_path / "end").read_text() == "drained\n"


def test_a_job_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    supervisor = _in_a_process(f"trap '' TERM; echo > {tmp_path}/up; while :; do sleep 0.05; done", drain_s=0.2)
    _wait_for(tmp_path / "up")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait() == 128 + signal.SIGKILL


def _shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def _in_a_process(script: str, drain_s: float) -> subprocess.Popen[bytes]:
    code = f"import sys; from local.supervisor import supervise; sys.exit(supervise({_shell(script)!r}, drain_s={drain_s}))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def _wait_for(path: Path) -> None:
    for _ in range(1_000):
        if path.exists():
            return
        time.sleep(0.02)
    pytest.fail(f"no {path.name} after 20 s")
