"""An imported log: without campaign codes, in two parts, and readable by everything that reads an archive."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from tests.training.yardstick.small_log import CODE, rows, write
from training.log_files import search_cases
from training.pretrain import market_told
from training.yardstick.real_log import RealLog, import_file, read_log_folder, write_log_folder

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("log")
    write_log_folder(import_file(write(made / "csv"), None, None), made / "log", "small log")
    return made / "log"


@pytest.fixture(scope="module")
def real(folder: Path) -> RealLog:
    return read_log_folder(folder)


def test_campaign_codes_are_in_nothing_and_their_clicks_stay(real: RealLog) -> None:
    assert real.facts.campaign_codes == 16
    assert not [text for text in real.log.texts if CODE.lower() in text.lower()]
    assert real.facts.clicks == real.facts.rows == real.facts.searches + 16
    cases = search_cases(real.log, 0)
    assert not [case for case in cases if CODE.lower() in (case.next.lower(), *(b.text.lower() for b in case.seen))]


def test_who_has_rows_of_another_category_is_of_the_other_part(real: RealLog) -> None:
    assert real.facts.leading_category == "Games"
    assert real.all_categories == {f"u{day}x0" for day in range(16)}
    assert real.facts.shoppers_all_categories == 16


def test_a_log_without_a_leading_category_has_one_part(tmp_path: Path) -> None:
    mixed = [(*row[:2], f"c{n % 3}", *row[3:]) for n, row in enumerate(rows(days=2))]
    imported = import_file(write(tmp_path, mixed), None, None)
    facts = write_log_folder(imported, tmp_path / "log", "mixed")
    assert facts.leading_category == ""
    assert facts.shoppers_all_categories == facts.shoppers


def test_queries_are_normalised_and_clicks_have_titles_and_categories(real: RealLog) -> None:
    assert {"game 1", "guide 1", "Game 1 for the box", "Guide 1"} <= set(real.log.texts)
    assert set(real.log.categories) == {"", "Games", "Phones"}
    assert real.facts.days == 16
    assert int(real.log.time_ms[-1]) < real.facts.start_ms + 16 * DAY_MS


def test_what_is_learned_before_the_test_knows_nothing_of_later_days(folder: Path, real: RealLog) -> None:
    told = market_told(folder, test_days=6)
    assert int(told.log.time_ms[-1]) < real.facts.start_ms + 10 * DAY_MS
    assert told.name == "small log, the first 10 days"
    first_day = market_told(folder, test_days=15)
    assert {title for title in first_day.titles if title.startswith("Guide")} == set()
    assert len(first_day.titles) > 5


def test_items_are_those_that_were_clicked(folder: Path) -> None:
    items = pq.read_table(folder / "items.parquet")
    assert items.column_names == ["id", "title", "category", "attributes"]
    assert items.num_rows == 24


def test_a_folder_is_never_overwritten_and_an_unfinished_one_is_none(folder: Path, tmp_path: Path) -> None:
    imported = import_file(write(tmp_path / "csv"), None, None)
    with pytest.raises(ValueError, match="is there already"):
        write_log_folder(imported, folder, "again")
    with pytest.raises(ValueError, match=r"no log\.json"):
        read_log_folder(tmp_path)


def test_the_command_says_what_it_found_and_what_is_missing(tmp_path: Path) -> None:
    searches = write(tmp_path / "csv")
    done = CliRunner().invoke(app, ["import-log", str(searches), "--out", str(tmp_path / "log")])
    assert done.exit_code == 0, done.output
    assert '"campaign_codes":16' in done.stdout
    assert CliRunner().invoke(app, ["import-log", str(searches)]).exit_code == 2
    (tmp_path / "csv" / "products.csv.gz").unlink()
    failed = CliRunner().invoke(app, ["import-log", str(searches), "--out", str(tmp_path / "other")])
    assert "give --products" in str(failed.exception)
