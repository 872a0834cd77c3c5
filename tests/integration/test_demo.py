"""`make demo`: what a newcomer runs first ends with lists, exit 0, and nothing left running."""

import subprocess
import sys

import psutil
import pytest


@pytest.mark.timeout(700)
def test_the_demo_ends_with_lists_and_leaves_nothing_running():
    before = {each.pid for each in psutil.process_iter()}
    done = subprocess.run(
        [sys.executable, "-m", "cli", "demo", "--seconds", "5"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert "Lists in the store (simulated shoppers)" in done.stdout
    assert "event to list: median" in done.stdout
    folder = done.stdout.split("job's log ")[1].split("/job.log")[0]
    # A zombie that init has not fetched yet has no command line any more.
    left = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"]) if each.pid not in before]
    assert not [command for command in left if any(folder in part for part in command)]
