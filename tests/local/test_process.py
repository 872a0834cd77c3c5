"""Children: ready when they say so, gone when their parent is gone, and a failure shows their log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local import process
from local.cache import cached
from local.ports import answers, free_port

PARENT = """
import time
from pathlib import Path
from local import process
child = process.start("family", ["/bin/sh", "-c", "sleep 600 & echo $! > grandchild; echo $$ > child; wait"], None)
while not Path("child").exists(): time.sleep(0.01)
print(child.guard.pid, flush=True)
time.sleep(600)
"""


def test_a_child_and_its_children_die_when_the_parent_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=_importable()
    ) as parent:
        assert parent.stdout
        guard = int(parent.stdout.readline())
        family = [guard, *(int((tmp_path / name).read_text()) for name in ("child", "grandchild"))]
        parent.send_signal(signal.SIGKILL)
    _eventually(lambda: not any(process.alive(pid) for pid in family))


def test_stop_ends_grandchildren_that_ignore_term(tmp_path: Path) -> None:
    script = f"(trap '' TERM; exec sleep 600) & echo $! > {tmp_path}/grandchild; exec sleep 600"
    child = process.start("stubborn", ["/bin/sh", "-c", script], None, ready=lambda: _written(tmp_path / "grandchild"))
    assert child.stop(5) == -signal.SIGTERM
    assert not process.alive(int((tmp_path / "grandchild").read_text()))


def _written(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")


def test_a_child_that_ends_before_it_is_ready_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(process.StartFailed, match=r"(?s)status 3 .*no such topic"):
        process.start("job", ["/bin/sh", "-c", "echo no such topic; exit 3"], tmp_path / "log", ready=lambda: False)


def test_a_child_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    with pytest.raises(process.StartFailed, match="not ready within"):
        process.start("job", ["sleep", "600"], tmp_path / "log", ready=lambda: False, within_s=0.2)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(process.StartFailed, match="no such program: no-such-broker"):
        process.start("broker", ["no-such-broker"], tmp_path / "log")


def test_two_processes_never_get_the_same_port() -> None:
    script = "from local.ports import free_port; print(*[free_port() for _ in range(300)])"
    runs = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=_importable())
        for _ in range(2)
    ]
    ports = [port for run in runs for port in run.communicate()[0].split()]
    assert len(ports) == 600
    assert all(not answers(int(port)) for port in ports)
    assert free_port() != free_port()


def test_of_two_processes_that_need_a_tool_one_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGQ_CACHE", str(tmp_path / "cache"))
    script = (
        "import time; from local.cache import cached\n"
        f"def build(path): open('{tmp_path}/builds', 'a').write('x'); time.sleep(0.3); path.write_text('tool')\n"
        "cached('tool', build)"
    )
    runs = [subprocess.Popen([sys.executable, "-c", script], env=_importable()) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert (tmp_path / "builds").read_text() == "x"
    assert cached("tool", lambda path: pytest.fail("built again")).read_text() == "tool"


def test_a_build_that_fails_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGQ_CACHE", str(tmp_path))

    def build(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached("tool", build)
    assert [path.name for path in tmp_path.iterdir()] == [".tool.lock"]


def _importable() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def _eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("still not so after 20 s")
