"""One command from a market's folder to figures: what can be known is found, what cannot is not, and files say what was shown."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from cli.exits import exit_status
from pipelines.operation import WRONG_ARGUMENTS
from tests.training.yardstick.small_market import SUBJECTS, events_and_pages, write_market
from training.log_files import log_of
from training.tiny import random_bundle
from training.yardstick.ages import hits_by_age
from training.yardstick.judges import ClickJudge, TruthJudge, agreement, click_evidence, one_category_holds_nearly_all
from training.yardstick.measure import CEILING
from training.yardstick.report import Figures, write
from training.yardstick.results import DRAWS, GAIN, VALID, Part, Quality, Row, targets, together
from training.yardstick.run import Entrant, Plan, run

NAMES = ("popularity-7d", "popularity", "repeats", "user-bigrams", "session-bigrams")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def part(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Part:
    market = write_market(tmp_path_factory.mktemp("market") / "m", shoppers=60, days=14)
    bundle = random_bundle(tmp_path_factory.mktemp("bundle"))
    return run(
        Plan(
            market,
            None,
            (Entrant(bundle.path), Entrant(bundle.path, "twin")),
            NAMES,
            out,
            lists=1,
            similarity=False,
            draws=200,
            ages_days=(0, 3),
        )
    )


def test_what_follows_is_found_and_the_ceiling_is_above(part: Part):
    figures = Figures(part.rows)
    bigrams, popular, ceiling = (figures.of(name, "HR@3") for name in ("user-bigrams", "popularity", CEILING))
    assert popular
    assert bigrams
    assert ceiling
    assert popular.value < bigrams.value <= ceiling.value == 1
    assert part.base in ("user-bigrams", "session-bigrams", "repeats", "popularity", "popularity-7d")
    assert figures.models()[0] == CEILING


def test_groups_and_days_are_parts_of_all(part: Part):
    figures = Figures(part.rows)
    days = [figures.of("repeats", "HR@10", f"test day {n}") for n in (1, 2)]
    whole = figures.of("repeats", "HR@10")
    assert whole
    assert min(d.value for d in days if d) <= whole.value <= max(d.value for d in days if d)


def test_the_model_is_judged_by_the_jobs_rules(part: Part):
    valid = Figures(part.rows).of("tiny/1", VALID)
    assert valid
    assert valid.value < 1  # random weights write no lists
    assert part.direct == "tiny/1"


def test_gains_are_differences(part: Part):
    figures = Figures(part.rows)
    for name in figures.models():
        if gain := figures.of(name, GAIN):
            mine, base = figures.of(name, "HR@10"), figures.of(part.base, "HR@10")
            assert mine
            assert base
            assert gain.value == pytest.approx(mine.value - base.value, abs=2e-5)
            assert gain.low <= gain.value <= gain.high


def test_the_judged_model_is_compared_with_the_others(part: Part):
    figures = Figures(part.rows)
    gain = figures.of("twin", "HR@3 gain of tiny/1 over it")
    assert gain == (0, 0, 0)
    assert figures.of("twin", "HR@10") == figures.of("tiny/1", "HR@10")


def test_files_hold_what_was_measured(part: Part, out: Path):
    quality = write(part, out)
    read = msgspec.json.decode((out / "quality.json").read_bytes(), type=Quality)
    assert read == quality
    assert set(part.rows) <= set(read.rows)
    assert {"market", "split", "model", "seed", "metric", "value", "low", "high"} == set(Row.__struct_fields__)
    assert [target.name for target in read.targets] == ["direct_over_best_baseline", "valid_share"]
    text = (out / "quality.md").read_text()
    for name in (*NAMES, "tiny/1", CEILING):
        assert f"| {name} |" in text
    first = {path.name: path.read_bytes() for path in out.glob("*.svg")}
    assert len(first) == 2
    write(part, out)
    assert {path.name: path.read_bytes() for path in out.glob("*.svg")} == first


def test_several_draws_of_a_market_are_one_row_more(part: Part):
    again = msgspec.structs.replace(
        part, seed="2", rows=tuple(msgspec.structs.replace(row, seed="2") for row in part.rows)
    )
    quality = together([part, again])
    whole = [row for row in quality.rows if row.seed == DRAWS]
    assert len(whole) == len(part.rows)
    assert {row.model for row in whole} == {row.model for row in part.rows}


def test_targets_take_the_worst_market():
    def gain(market: str, low: float, model: str = "m/1") -> Row:
        return Row(market, "all", model, "1", GAIN, low + 0.01, low, low + 0.02)

    def of_null(model: str, high: float) -> Row:
        return Row("null", "all", model, "1", "HR@10 gain over popularity", high - 0.01, high - 0.02, high)

    def part_of(market: str, null: bool = False) -> Part:
        return Part(market=market, seed="1", null=null, direct="m/1", models=("m/1",), base="b", command="", date="", machine="", git_revision="", cases=1, shoppers=1, facts=(), fitted=(), rows=())  # fmt: skip

    rows = [gain("a", 0.02), gain("b", -0.01), gain("a", -0.5, "other"), of_null("x", 0.03), of_null("m/1", 0.001)]
    found = {t.name: t for t in targets([part_of("a"), part_of("b"), part_of("null", True)], rows)}
    assert (found["direct_over_best_baseline"].value, found["direct_over_best_baseline"].met) == (-0.01, False)
    assert (found["null_gain_upper"].value, found["null_gain_upper"].met) == (0.03, False)
    assert set(found) == {"direct_over_best_baseline", "null_gain_upper"}
    some = msgspec.structs.replace(part_of("b"), whole=False)
    assert targets([part_of("a"), some], rows)[0].value == 0.02


def test_statistics_of_an_age_know_nothing_younger():
    log = log_of(*events_and_pages(60, 14))
    from tests.training.yardstick.small_market import DAY_MS, START_MS
    from training.log_files import search_cases

    cases = search_cases(log, START_MS + 12 * DAY_MS)
    hits = hits_by_age(log, cases, ["popularity-all"], [0, 11, 40])
    assert set(hits) == {("popularity-all", 0), ("popularity-all", 11)}
    assert hits["popularity-all", 0].mean() > 0.5


def test_the_judge_learns_categories_from_clicks():
    log = log_of(*events_and_pages(60, 14))
    titles, queries = click_evidence(log)
    assert titles["Acme - Tripod 200"][0] == "Cameras"
    truth = TruthJudge({query: subject for subject, of_it in SUBJECTS.items() for query in of_it})
    assert {query: votes.most_common(1)[0][0] for query, votes in queries.items()} == dict(truth.of_query)
    judge = ClickJudge(log)
    known = list(truth.of_query)
    assert agreement(judge, truth, known) > 0.9
    assert judge.categories(["gaming laptops", "tripods"]) == ["Laptops", "Cameras"]
    assert not np.isnan(judge.held_out_accuracy)


def test_where_one_category_holds_nearly_all_nothing_is_said_of_categories():
    assert one_category_holds_nearly_all(["a"] * 95 + ["b"] * 5)
    assert one_category_holds_nearly_all(["", ""])
    assert not one_category_holds_nearly_all(["a", "b"])


def test_the_command_prints_the_table_and_names_what_is_missing(tmp_path: Path):
    market = write_market(tmp_path / "m", shoppers=30, days=10)
    options = ["--baselines", "popularity,user-bigrams", "--no-similarity", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["evaluate", str(market), *options])
    assert done.exit_code == 0, done.output
    assert "user-bigrams" in done.output
    assert (tmp_path / "out" / "quality.json").exists()
    missing = CliRunner().invoke(app, ["evaluate", str(tmp_path / "none"), *options])
    assert missing.exception
    assert exit_status(missing.exception) == WRONG_ARGUMENTS
    assert "market.json" in str(missing.exception)
    wrong = CliRunner().invoke(app, ["evaluate", str(market), "--baselines", "oracle"])
    assert isinstance(wrong.exception, ValueError)
    assert "no contender oracle" in str(wrong.exception)
