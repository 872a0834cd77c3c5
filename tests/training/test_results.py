"""`make results` in small: one market and a log, from nothing to the page; given again it does nothing twice."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.training.yardstick.small_log import rows, write
from training.results import DIRECT, ROOT, Failed, Step, parts_of, work_through
from training.yardstick.results import Quality

MARKET = "missions-1-null"


def results(folder: Path) -> str:
    words = ["--small", "--only", MARKET, "--log", folder / "csv" / "searches.csv.gz", "--work", folder / "work"]
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
    assert {row.model for row in quality.rows} >= {DIRECT, "popularity", "aigq-real"}
    assert {target.name for target in quality.targets} == {"null_gain_upper", "real_blend_plus_lm_lower"}
    page = (made / "work" / "pages" / "quality.md").read_text()
    assert "| 2 | on the null market nothing beats popularity |" in page
    assert "| 8 | on the real log" in page


def test_given_again_it_makes_nothing_again(made: Path) -> None:
    assert " s\n" not in results(made), "no step"


def test_a_step_that_a_killed_run_left_behind_is_waited_for(tmp_path: Path) -> None:
    class Chain:
        name, at = "market", tmp_path

        def steps(self) -> Iterator[Step]:
            yield Step("slow", ("cp", "a", "b"), tmp_path / "made")

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


def test_without_a_log_the_committed_figures_of_one_stand_there() -> None:
    (part,) = parts_of([], ROOT / "docs" / "results")
    assert part.real
