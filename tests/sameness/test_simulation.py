"""Hundreds of seeded histories with kills, rollbacks, lost answers and old writers keep every promise.

One of them again: AIGQ_SIM_SEED=123 pytest tests/sameness/test_simulation.py. Many more: python -m tests.sameness.simulate.
"""

import os

import pytest

from tests.sameness.simulation import run
from transforms.drain import DRAINING, TRACKED

SEED = os.environ.get("AIGQ_SIM_SEED")
SEEDS = [int(SEED)] if SEED else range(200)
AT_ONCE = 20


@pytest.mark.parametrize("first", SEEDS[::AT_ONCE] if SEED is None else SEEDS)
def test_no_history_breaks_a_promise(first: int):
    for seed in range(first, first + (1 if SEED else AT_ONCE)):
        run(seed)


def test_a_seed_is_one_history():
    histories = [run(7).trace for _ in range(2)]
    assert histories[0] == histories[1]
    assert run(8).trace != histories[0]


def test_the_histories_hold_what_they_are_for():
    """Faults that never happen would prove nothing."""
    runs = [run(seed) for seed in range(25)]
    steps = "\n".join(step for each in runs for step in each.trace)
    for what in ("killed in the middle", "the old job is fenced", "the store goes back", ": requested"):
        assert steps.count(what) > 5, what
    counts = [each.server.model.counts for each in runs]
    for outcome in ("published", "conflated", "refused", "malformed", "exhausted", "expired"):
        assert sum(count[outcome] for count in counts), outcome
    assert not DRAINING.is_set()
    assert not TRACKED.is_set()
