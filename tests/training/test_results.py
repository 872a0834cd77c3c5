"""`make results` in small: one market and a log, from nothing to the page; given again it does nothing twice."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.training.yardstick.small_log import rows, write
from training.results import (
    DIRECT,
    FULL,
    ROOT,
    SMALL,
    Failed,
    Market,
    MarketChain,
    Step,
    markets,
    parts_of,
    work_through,
)
from training.yardstick.results import Quality

MARKET, STILL = "missions-1", "missions-1-still"


def results(folder: Path) -> str:
    words = [
        "--small",
        "--only",
        f"{MARKET},{STILL}",
        "--log",
        folder / "csv" / "searches.csv.gz",
        "--work",
        folder / "work",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "training.results", *words], check=False, cwd=ROOT, capture_output=True, text=True
    )
    logs = "".join(log.read_text()[-2_000:] for log in (folder / "work").glob("*/logs/*.log"))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{logs}"
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write(folder / "csv", rows(days=32))
    said = results(folder)
    assert "real-log: quality" in said
    assert f"{MARKET}: quality" in said
    return folder


def test_the_page_has_the_market_the_log_and_what_was_expected_of_both(made: Path) -> None:
    quality = msgspec.json.decode((made / "work" / "pages" / "quality.json").read_bytes(), type=Quality)
    arms = {DIRECT, "il-sft", "sft", "prompts-compressed", "prompts-plain"}
    assert {row.model for row in quality.rows} >= {*arms, "popularity", "aigq-real"}
    assert {row.market for row in quality.rows} == {"missions, drift 1", "missions, drift 0", "real log"}
    assert {target.name for target in quality.targets} == {"direct_over_best_baseline", "real_blend_plus_lm_lower", "valid_share"}  # fmt: skip
    assert quality.core_hours > 0
    page = (made / "work" / "pages" / "quality.md").read_text()
    for number in (1, 3, 4, 7, 8):
        assert f"| {number} | " in page
    assert "Ten cases" in page
    assert "How a frozen model ages" in (made / "work" / "pages" / "real-log.md").read_text()


def test_given_again_it_makes_nothing_again(made: Path) -> None:
    assert " s\n" not in results(made), "no step"


def test_a_step_that_a_killed_run_left_behind_is_waited_for(tmp_path: Path) -> None:
    class Chain:
        name, at = "market", tmp_path

        def steps(self) -> Iterator[Step]:
            yield Step("slow", ("cp", "a", "b"), tmp_path / "made" / "card.json")

    log = tmp_path / "logs" / "slow.log"
    log.parent.mkdir()
    with log.open("a") as output:
        fcntl.flock(output, fcntl.LOCK_EX)
        left_behind = subprocess.Popen(["sleep", "60"], stdout=output)
    try:
        with pytest.raises(Failed, match="slow is being made"):
            work_through(Chain(), 0.0)
    finally:
        left_behind.kill()
        left_behind.wait()
    with pytest.raises(Failed, match="slow ended with 1"):
        work_through(Chain(), 0.0)
    assert not (tmp_path / "made").exists(), "a training that finds its bundle's folder takes it for finished"


def test_every_market_of_the_decision_is_there_once() -> None:
    names = [market.name for market in markets(FULL)]
    drawn = [f"{law}-{seed}" for law in ("habits", "missions") for seed in (2, 3, 4)]
    assert sorted(names) == sorted([*drawn, "missions-2-null", "missions-2-still"])
    assert [market.name for market in markets(FULL) if market.ablations] == ["missions-2", "habits-2"]


def test_the_judged_model_stands_first_and_each_arm_brings_its_allow_list(tmp_path: Path) -> None:
    chain = MarketChain(Market("missions", 2, ablations=True), FULL, tmp_path)
    steps = list(chain.steps())
    assert chain.models[0][0] == DIRECT
    assert len({step.makes for step in steps}) == len(steps), "a step that makes what another makes would be left out"
    assert [step.makes.parent for step in steps if step.words[0] == "cp"] == [bundle for _, bundle in chain.models]


def test_a_step_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    chain = MarketChain(Market("no such law", 2), SMALL, tmp_path)
    with pytest.raises(Failed, match=r"simulate ended with .*logs/simulate.log"):
        work_through(chain, 0.0)
    assert "no such law" in (chain.at / "logs" / "simulate.log").read_text()


def test_without_a_log_the_committed_figures_of_one_stand_there() -> None:
    (part,) = parts_of([], ROOT / "docs" / "results")
    assert part.real
