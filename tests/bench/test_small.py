"""The benchmarks of training and simulation run, in small. Their figures mean nothing then, and stand in no page."""

import json
import subprocess
import sys

import pytest

from bench.result import ROOT, SMALL_RESULTS, TARGETS, problems


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["sft", "simulate"])
def test_a_benchmark_runs_in_small(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--small"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    result = json.loads((SMALL_RESULTS / f"{name}.json").read_text())
    assert problems(result) == []
    assert {target["name"] for target in result["targets"]} == set(TARGETS[name])
