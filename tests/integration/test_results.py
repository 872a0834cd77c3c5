"""`make results` in small: one market from nothing to its page, and what a second call does."""

import json
from pathlib import Path

import pytest

from training.results import FULL, SMALL, Chain, Failed, Market, markets, work_through


def test_every_market_of_the_decision_is_there_once():
    names = [market.name for market in markets(FULL)]
    assert sorted(names) == [
        "habits-1", "habits-2", "habits-3", "missions-1", "missions-1-null", "missions-1-still", "missions-2", "missions-3"
    ]  # fmt: skip
    assert [market.name for market in markets(FULL) if market.ablations] == ["missions-1", "habits-1"]


def test_the_judged_model_stands_first_and_each_arm_brings_its_allow_list(tmp_path: Path):
    chain = Chain(Market("missions", 1, ablations=True), FULL, tmp_path)
    steps = list(chain.steps())
    assert chain.models[0][0] == "aigq-direct"
    assert len({step.makes for step in steps}) == len(steps), (
        "a step that makes what another one makes would be left out"
    )
    copied = [step.makes.parent for step in steps if step.words[0] == "cp"]
    assert copied == [bundle for _, bundle in chain.models]


@pytest.mark.timeout(900)
def test_one_market_from_nothing_to_its_page(tmp_path: Path):
    chain = Chain(Market("missions", 1), SMALL, tmp_path)
    work_through(chain, 0.0)
    (part,) = tmp_path.glob("missions-1/quality/parts/*.json")
    told = json.loads(part.read_bytes())
    assert told["direct"] == "aigq-direct"
    assert {"popularity", "repeats", "user-bigrams", "aigq-direct"} <= {row["model"] for row in told["rows"]}

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    work_through(Chain(Market("missions", 1), SMALL, tmp_path), 0.0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, "what is done is not done again"


def test_a_step_that_fails_is_named_with_its_log(tmp_path: Path):
    chain = Chain(Market("no such law", 1), SMALL, tmp_path)
    with pytest.raises(Failed, match=r"simulate ended with .*logs/simulate.log"):
        work_through(chain, 0.0)
    assert "no such law" in (tmp_path / "no such law-1" / "logs" / "simulate.log").read_text()
