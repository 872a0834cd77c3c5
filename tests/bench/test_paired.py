"""Comparisons are by rounds, so a machine that slows down for everyone changes no ratio."""

import pytest

from bench.paired import in_turn, ratio


def test_a_drifting_machine_changes_no_ratio() -> None:
    drift = [1.0, 0.7, 0.4, 0.9, 0.6]
    found = ratio([40_000 * d for d in drift], [20_000 * d for d in drift])
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))


def test_rounds_that_disagree_widen_the_interval() -> None:
    found = ratio([10, 20, 30, 40, 50], [20, 20, 20, 20, 20])
    assert found.low < found.value < found.high


def test_every_system_begins_a_round_in_its_turn() -> None:
    names = ["a", "b", "c", "d"]
    assert [in_turn(names, number)[0] for number in range(5)] == ["a", "b", "c", "d", "a"]
    assert sorted(in_turn(names, 3)) == names
