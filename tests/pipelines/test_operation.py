"""What all commands of an operator have in common, as far as it needs no store."""

import msgspec
import pytest

from cli.exits import exit_status
from pipelines.operation import Interrupted, Running, Stopped, Window
from serving.operations import show_one
from store.operations import (
    NobodyWorks,
    NoSuchOperation,
    Operation,
    OperationProgress,
    Operations,
    Status,
)


def test_a_window_holds_its_begin_and_not_its_end_in_whatever_zone_it_is_said():
    window = Window.parse("2026-11-24T02:00:00+01:00", "2026-11-24T02:00:00Z")
    assert window.to_ms - window.from_ms == 3_600_000
    assert window.holds(window.from_ms)
    assert not window.holds(window.to_ms)
    assert str(window) == "[2026-11-24T01:00:00.000+00:00, 2026-11-24T02:00:00.000+00:00)"
    assert Window.parse(str(window.from_ms), str(window.to_ms)) == window


@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        ("2026-11-24T02:00:00", "2026-11-24T03:00:00Z", "without zone"),
        ("yesterday", "2026-11-24T03:00:00Z", "not a time"),
        ("2026-11-24T03:00:00Z", "2026-11-24T03:00:00Z", "is empty"),
        ("2026-11-24T04:00:00Z", "2026-11-24T03:00:00Z", "is empty"),
    ],
)
def test_a_window_that_means_nothing_is_refused_with_the_reason(begin, end, said):
    with pytest.raises(ValueError, match=said):
        Window.parse(begin, end)


HOUR_MS = 3_600_000


def test_the_time_to_go_is_told_by_this_try_and_not_by_the_hour_that_nobody_worked():
    half = OperationProgress(done=50, of=100, since_ms=0).from_here(HOUR_MS)
    assert half.left_s(HOUR_MS + 500) is None, "nothing is done in this try yet"
    assert msgspec.structs.replace(half, done=60).left_s(HOUR_MS + 10_000) == 40.0
    assert msgspec.structs.replace(half, done=100).left_s(HOUR_MS + 20_000) == 0.0
    assert OperationProgress(done=5).left_s(HOUR_MS) is None


def test_what_another_phase_took_says_nothing_of_this_one():
    run = Running(Unsaved(), Operation("replay-1", "replay", "live", "{}", 0), OperationProgress(), "me")
    run.save(done=0, of=1_000)
    run.progress = msgspec.structs.replace(run.progress, since_ms=0)
    run.save(done=900)
    assert run.progress.since_ms == 0
    run.save(done=0, of=50)
    assert run.progress.since_ms > 0
    run.progress = msgspec.structs.replace(run.progress, since_ms=0, done=50)
    run.save(done=10)
    assert run.progress.since_ms > 0
    assert run.progress.done_then == 10


class Unsaved(Operations):
    """Keeps nothing."""

    def __init__(self) -> None:
        pass

    def update(self, id: str, progress: OperationProgress, owner: str) -> OperationProgress:
        return progress


@pytest.mark.parametrize(
    ("status", "silent_ms", "said", "exits"),
    [
        ("running", 0, "running", 5),
        ("running", HOUR_MS, "interrupted", 1),
        ("interrupted", 0, "interrupted", 1),
        ("paused", 0, "paused", 5),
        ("paused", HOUR_MS, "stopped", 4),
        ("stopped", 0, "stopped", 4),
        ("cancelled", HOUR_MS, "cancelled", 4),
        ("failed", 0, "failed", 1),
        ("done", HOUR_MS, "done", 0),
    ],
)
def test_a_script_knows_by_the_status_whether_somebody_still_works(status: Status, silent_ms, said, exits, capsys):
    operation = Operation("replay-1", "replay", "live", "{}", 0)
    progress = OperationProgress(status, updated_ms=HOUR_MS)
    assert show_one(operation, progress, HOUR_MS + silent_ms, as_json=True) == exits
    assert msgspec.json.decode(capsys.readouterr().out)["status"] == said


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Stopped("cancelled"), 4),
        (Stopped("paused", "stopped"), 4),
        (Interrupted("SIGTERM"), 1),
        (NobodyWorks("it is done"), 3),
        (NoSuchOperation("nobody"), 2),
    ],
)
def test_an_interrupted_command_is_given_again_and_one_that_an_operator_stopped_is_not(error: Exception, status: int):
    assert exit_status(error) == status
