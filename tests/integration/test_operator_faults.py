"""Each operator's command killed once or twice beside a job under load, small; given again, it leaves nothing wrong.

The campaign with many kills of each is `python -m bench.faults` (docs/results/faults.md). One file, because the servers and the
model take a minute to start.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.faults.campaign import Row, try_command
from bench.faults.operators import COMMANDS, Command
from bench.faults.stage import Stage, stage
from bench.result import ROOT

BUSY_S = {
    "kill_replay": 1.0,
    "kill_backfill": 2.0,
    "kill_redrive": 1.5,
    "kill_rebuild": 2.0,
    "kill_archive": 0.5,
    "kill_adopt": 0.3,
}
"""Kills come within so many seconds of a command's first write: less than it works on any machine."""
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("commands"), Path(ROOT, "models"), "aigq-small") as started:
        yield started


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_killed_command_given_again_leaves_nothing_lost_doubled_or_older(command: Command, servers: Stage) -> None:
    row = Row(command.name, command.does)
    try_command(servers, command, seed=7, row=row, busy_s=BUSY_S[command.name], thorough=False)
    assert row.clean, "\n".join(row.wrong)
    assert row.instants_s, "it had ended before it was killed"
    assert row.behaviours > 100
    assert row.lists > 0
