"""Figures that are quoted must be whole: machine, revision, command, every promised target, and a cause for a miss."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.result import RESULTS, TARGETS, holds, problems

COMMITTED = sorted(RESULTS.glob("*.json"))

COMPLETE: dict[str, Any] = {
    "name": "freshness",
    "date": "2026-11-24T17:00:00+00:00",
    "cpu": "a processor",
    "cpu_flags": ["avx2"],
    "cores": 2,
    "git": "abc1234",
    "command": "python -m bench.freshness",
    "seed": 7,
    "figures": {},
    "targets": [{"name": "p95_s", "value": 0.4, "bound": "<= 0.5", "met": True, "cause": ""}],
}


def with_target(**changed: object) -> dict[str, Any]:
    return COMPLETE | {"targets": [COMPLETE["targets"][0] | changed]}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_result_is_whole(path: Path) -> None:
    result = json.loads(path.read_text())
    assert result["name"] == path.stem
    # faults.json and others name their own targets; the ones of the issue are held to their names and bounds.
    if path.stem in TARGETS:
        assert problems(result) == []


def test_a_whole_result_has_no_problems() -> None:
    assert problems(COMPLETE) == []


def test_a_missed_target_needs_its_cause() -> None:
    missed = with_target(value=0.7, met=False)
    assert problems(missed) == ["p95_s: missed without a cause"]
    assert problems(with_target(value=0.7, met=False, cause="the model is slow")) == []


def test_a_promised_target_cannot_be_left_out_or_made_easier() -> None:
    assert problems(COMPLETE | {"targets": []}) == ["no target 'p95_s'"]
    assert "not the promised" in problems(with_target(bound="<= 5"))[0]


def test_met_follows_from_value_and_bound() -> None:
    assert "does not follow" in problems(with_target(value=0.7))[0]


def test_a_result_without_its_machine_is_named_as_such() -> None:
    assert problems({key: value for key, value in COMPLETE.items() if key != "cpu"}) == ["no 'cpu'"]


def test_a_bound_of_another_form_is_refused() -> None:
    assert holds(1.0, ">= 1.0")
    with pytest.raises(ValueError, match="bound"):
        holds(1.0, "about 1")
