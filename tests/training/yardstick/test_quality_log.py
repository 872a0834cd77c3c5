"""One command from a csv to figures that stand beside the simulated markets', and to a page without a word of the log."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from cli import app
from tests.training.yardstick.small_log import write
from training.tiny import random_bundle
from training.yardstick.examples import kind_of
from training.yardstick.quality_log import RealLogResult
from training.yardstick.real_log import ALL, ONE
from training.yardstick.report import Figures
from training.yardstick.results import BLENDED, Quality, targets

NAMES = "popularity-7d,user-bigrams,blend"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality-log")
    searches, bundle = write(folder / "csv"), random_bundle(folder / "bundle")
    words = ["evaluate", "--log", str(searches), "--model", f"tiny={bundle.path}", "--baselines", NAMES, "--lists", "1"]
    done = CliRunner().invoke(app, [*words, "--learn-days", "9", "--out", str(folder / "out")])
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "real_blend_plus_lm_lower" in done.stdout
    return folder / "out"


@pytest.fixture(scope="module")
def result(out: Path) -> RealLogResult:
    return msgspec.json.decode((out / "real-log.json").read_bytes(), type=RealLogResult)


def test_the_figures_are_a_part_of_the_common_page(out: Path, result: RealLogResult) -> None:
    quality = msgspec.json.decode((out / "quality.json").read_bytes(), type=Quality)
    assert quality.parts == ("real-log.json",)
    assert [target.name for target in quality.targets] == ["real_blend_plus_lm_lower"]
    lower = Figures(result.part.rows).of("tiny", BLENDED)
    assert lower
    assert quality.targets[0].value == round(lower.low, 4)
    assert "## real log\n" in (out / "quality.md").read_text()


def test_the_target_is_the_worst_lower_bound_of_the_learned_blend(result: RealLogResult) -> None:
    low = [r.low for r in result.part.rows if (r.split, r.model, r.metric) == ("all", "tiny", BLENDED)]
    (target,) = targets([result.part], result.part.rows)
    assert target.value == round(low[0], 4)
    assert target.met == (target.value >= -0.02)


def test_cases_are_split_and_what_follows_is_found(result: RealLogResult) -> None:
    figures, counts = Figures(result.part.rows), {fact.name: fact.value for fact in result.part.facts}
    assert counts["cases, all"] == counts[f"cases, {ONE}"] + counts[f"cases, {ALL}"] == result.part.cases == 70
    bigrams, popular, model = (figures.of(name, "HR@3") for name in ("user-bigrams", "popularity-7d", "tiny"))
    assert bigrams
    assert popular
    assert model
    assert bigrams.value > 0.95 > popular.value
    assert model.value == popular.value, "random weights write no list, so popularity fills it"
    beaten = {(each.model, each.baseline): each for each in result.beats if each.metric == "HR@3"}
    assert beaten["tiny", "user-bigrams"].high < 0


def test_no_word_of_the_log_leaves_the_folder_of_the_run(out: Path) -> None:
    for name in ("real-log.json", "real-log.md", "quality.json", "quality.md"):
        text = (out / name).read_text().lower()
        assert "guide" not in text
        assert "game 1" not in text
    assert "guide" in (out / "words.md").read_text()


def test_ten_cases_are_drawn_as_they_were(result: RealLogResult) -> None:
    assert 5 <= len(result.examples) <= 10
    for each in result.examples:
        assert each.hit == (0 < each.places["blend + tiny"] <= 10)
        assert (each.searches, each.clicks) == (1, 1)
        assert each.kind in {"another query with a word of the last", "something else"}


def test_kinds_of_next_queries() -> None:
    assert kind_of("a", ["b", "a"]) == "the last query again"
    assert kind_of("b", ["b", "a"]) == "an own earlier query again"
    assert kind_of("red shoes", ["red shoes cheap"]) == "the last query reworded"
    assert kind_of("red hat big", ["red shoes cheap"]) == "another query with a word of the last"
    assert kind_of("tv", ["red shoes"]) == kind_of("tv", []) == "something else"


@pytest.mark.parametrize(("word", "said"), [("--learn-days=99", "has 16 days"), ("--baselines=nonsense", "no baseline nonsense")])  # fmt: skip
def test_what_cannot_be_judged_is_told_before_any_work(tmp_path: Path, word: str, said: str) -> None:
    done = CliRunner().invoke(
        app, ["evaluate", "--log", str(write(tmp_path / "csv")), word, "--out", str(tmp_path / "out")]
    )
    assert said in str(done.exception)
