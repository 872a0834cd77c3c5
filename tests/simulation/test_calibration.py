import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from simulation.calibration import ObservedLog, Search, figures_of
from simulation.calibration_report import (
    calibrate,
    find_real_log,
    json_of,
    markdown_of,
    observed_market,
    plot,
)
from simulation.law import DAY_MS
from simulation.market_folder import START_MS, MarketFacts
from simulation.write_market import write_market


def log_of(*searches: Search) -> ObservedLog:
    times: dict[str, list[int]] = {}
    for each in searches:
        times.setdefault(each.user, []).append(each.time_ms)
    return ObservedLog("a log", list(searches), times)


def turning(days: int = 40) -> ObservedLog:
    """Ten shoppers a day, new ones, all of whom ask for what is in fashion; it turns every ten days."""
    return log_of(
        *(
            Search(f"{day} {n}", day * DAY_MS + n * 1000, f"fashion {day // 10}")
            for day in range(days)
            for n in range(10)
        )
    )


def test_frozen_popularity_decays_and_daily_does_not():
    found = figures_of(turning())
    assert found.test_searches == 220
    assert found.frozen_hr10 == pytest.approx(20 / 220)  # day 18 and 19; on day 20 the fashion turns
    assert found.popularity_hr10 == pytest.approx(200 / 220)  # but for the first day of each fashion
    assert found.frozen_by_week == pytest.approx((20 / 70, 0, 0))
    assert (found.top30, found.seen) == (found.popularity_hr10, found.popularity_hr10)


def test_repeats_are_of_those_who_had_searched_before():
    always = (Search("loyal", day * DAY_MS, "the same") for day in range(40))
    never = (Search("roamer", day * DAY_MS + 1, f"roamer's {day}") for day in range(40))
    once = (Search(f"passer {day}", day * DAY_MS + 2, "the same") for day in range(40))
    found = figures_of(log_of(*sorted((*always, *never, *once), key=lambda each: each.time_ms)))
    assert (found.test_searches, found.with_history, found.own_repeats) == (66, 44, 0.5)
    assert found.last_repeats == 0.5
    assert found.searched_twice == 2 / 42


def test_what_follows_within_half_an_hour_is_one_visit():
    log = turning()
    log.times["0 0"] = [0, 60_000, 60_000 + 29 * 60_000, 10 * 3_600_000]
    found = figures_of(log)
    assert found.visits_a_shopper == pytest.approx(401 / 400)
    assert found.events_a_visit == pytest.approx(403 / 401)


def test_a_log_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match=r"a log has 27\.0 days; 29 or more are needed"):
        figures_of(turning(28))


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("markets") / "tiny"
    write_market(MarketFacts("tests.simulation.tiny_law:Tiny", 1, 1.0, 40, 30, START_MS, False), folder)
    return folder


def test_a_markets_figures(market: Path):
    (found,) = calibrate([market], None)
    assert found.shoppers == 40
    assert 0 < found.clicked_pages < found.pages
    assert found.page_click_rate == found.clicked_pages / found.pages
    assert found.ceiling_hr10 == pytest.approx(0.8 + 9 * 0.2 / 30)
    assert found.seen > 0.95
    assert sum(map(len, observed_market(market).times.values())) > found.searches


def test_the_report_in_all_its_forms(market: Path, tmp_path: Path):
    figures = calibrate([market], None)
    assert json.loads(json_of(figures))[0]["distinct_queries"] == figures[0].distinct_queries
    assert f"| home pages | {figures[0].pages:,} |" in markdown_of(figures)
    first, second = plot(figures, tmp_path / "a"), plot(figures, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all(path.read_bytes().startswith(b"<?xml") and path.stat().st_size < 100_000 for path in first)


def test_the_command_puts_markets_side_by_side(market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIGQ_REAL_LOG", raising=False)
    done = CliRunner().invoke(app, ["calibration", str(market), str(market), "--json"])
    assert done.exit_code == 0, done.output
    assert [each["shoppers"] for each in json.loads(done.stdout)] == [40, 40]


def test_the_real_log_shows_what_was_measured_on_it():
    """Figures of an independent script on the same files: HR@10 .23 frozen, .36 daily over all test events."""
    if (folder := find_real_log()) is None:
        pytest.skip("no real log: AIGQ_REAL_LOG is unset and ../shared/data/bestbuy is not there")
    (found,) = calibrate([], folder)
    assert found.frozen_hr10 == pytest.approx(0.233, abs=0.01)
    assert found.popularity_hr10 == pytest.approx(0.364, abs=0.01)
    assert found.own_repeats == pytest.approx(0.07, abs=0.01)
