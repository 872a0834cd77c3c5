"""Each fault once, small: real broker, store, vLLM and job, and the oracle finds nothing wrong afterwards.

The campaign with many runs a fault is `python -m bench.faults` (docs/results/faults.md). One file, because the servers and
the model take a minute to start.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.faults.campaign import Row, try_fault
from bench.faults.scenarios import FAULTS, Fault, model_away, zombie
from bench.faults.stage import Stage, stage
from bench.result import ROOT

SHORTER = {"zombie": zombie(3), "model_away": model_away(5), "model_absent_at_start": model_away(3)}
"""Long waits are the campaign's."""
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("faults"), Path(ROOT, "models"), "aigq-small") as started:
        yield started


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost_doubled_overwritten_stuck_or_orphaned(fault: Fault, servers: Stage) -> None:
    row = Row(fault.name, fault.does)
    small = replace(fault, strike=SHORTER.get(fault.name, fault.strike))
    try_fault(servers, small, seed=5, row=row, per_s=60, before_s=2)
    assert row.clean, "\n".join(row.wrong)
    assert row.behaviours > 100
    assert row.lists > 0
