from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from cli import app
from inference.output import normalise
from schemas import Exposure
from schemas.codec import decoder_for
from schemas.wire_avro import reader
from simulation.law import DAY_MS
from simulation.market_folder import START_MS, MarketFacts, archive_of, law_of, read_market, truth_of
from simulation.play import HINT
from simulation.write_market import write_market
from transforms.archive_columns import event_columns
from transforms.archive_layout import EVENTS, EXPOSURES, facts_of, files_of
from transforms.archive_overview import overview
from transforms.archived_log import ArchivedLog
from transforms.read_plan import ReadSettings, plan_read

TINY = "tests.simulation.tiny_law:Tiny"
DAYS = 4


FACTS = MarketFacts(law=TINY, seed=1, drift=1.0, shoppers=60, days=DAYS, start_ms=START_MS, null=False)


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("market") / "tiny"
    write_market(FACTS, folder, workers=2)
    return folder


def rows_of(folder: Path, kind: str) -> list[dict]:
    return [row for file in files_of(archive_of(folder), kind) for row in pq.ParquetFile(file.path).read().to_pylist()]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_command_gives_the_same_bytes_whatever_the_number_of_workers(market: Path, tmp_path: Path):
    write_market(FACTS, tmp_path / "again", workers=3)
    assert digests(tmp_path / "again") == digests(market)


def test_another_seed_gives_another_market(market: Path, tmp_path: Path):
    write_market(replace(FACTS, seed=2), tmp_path / "other", workers=1)
    assert rows_of(tmp_path / "other", EVENTS)[0]["value"] != rows_of(market, EVENTS)[0]["value"]


def test_the_archive_is_whole_and_holds_what_was_counted(market: Path):
    counts = read_market(market).counts
    of_kind = {each.kind: each for each in overview(archive_of(market))}
    assert set(of_kind) == {EVENTS, EXPOSURES}
    for kind, expected in ((EVENTS, counts.searches + counts.clicks), (EXPOSURES, counts.exposures)):
        assert of_kind[kind].holes == of_kind[kind].overlaps == []
        assert len(of_kind[kind].days) == DAYS
        assert sum(part.records for day in of_kind[kind].days.values() for part in day) == expected
    assert counts.shoppers <= FACTS.shoppers
    assert 0 < counts.clicked_exposures < counts.exposures


def test_the_archive_proves_its_end(market: Path):
    for kind in (EVENTS, EXPOSURES):
        assert facts_of(files_of(archive_of(market), kind)[-1]).progress_ms == START_MS + DAYS * DAY_MS


def test_decoded_columns_are_what_the_bytes_say(market: Path):
    rows = rows_of(market, EVENTS)
    events = decoder_for("avro").decode([row["value"] for row in rows])
    for row, event in zip(rows, events, strict=True):
        told = (event.id, event.user, event.kind, event.time_ms, event.query)  # pyright: ignore[reportAttributeAccessIssue]
        assert tuple(row[name] for name in ("id", "user", "kind", "time_ms", "query")) == told
        assert row["clock_ms"] == row["append_ms"] == event.ingest_ms  # pyright: ignore[reportAttributeAccessIssue]
        assert event.profile  # pyright: ignore[reportAttributeAccessIssue]
    assert [row["offset"] for row in rows] == list(range(len(rows)))
    assert [row["time_ms"] for row in rows] == sorted(row["time_ms"] for row in rows)
    assert event_columns(decoder_for("avro"), "ingest_ms").schema.names == list(rows[0])


def test_exposures_say_what_the_ranker_knew(market: Path):
    read = reader(Exposure)
    for row in rows_of(market, EXPOSURES):
        exposure = read(row["value"])
        assert isinstance(exposure, Exposure)
        assert set(exposure.hints) <= set(exposure.ranked)
        assert len(exposure.hints) == len(exposure.propensities) == 3
        assert all(0 < each <= 1 for each in exposure.propensities)
        assert len(exposure.ranked) == len(exposure.scores)
        assert [normalise(each) for each in exposure.hints] == list(exposure.hints)


def test_a_job_without_a_broker_reads_it_to_its_end(market: Path):
    end = str(START_MS + DAYS * DAY_MS)
    kafka = {"bootstrap.servers": ""}
    settings = ReadSettings(
        kafka, "behaviour", start="earliest", end=end, archive=archive_of(market), log_clock="ingest_ms"
    )
    plan = plan_read(settings)
    assert plan.ends == {0: len(rows_of(market, EVENTS))}
    log, values, at = ArchivedLog(settings, plan, (0,)), [], 0
    while at < plan.ends[0]:
        fetched = log.read({0: at}, 500)[0]
        values += fetched.values
        at = fetched.next_offset
    log.close()
    assert values == [row["value"] for row in rows_of(market, EVENTS)]


def test_truth_tells_of_every_shown_hint_and_of_every_page_of_the_last_two_days(market: Path):
    exposures = rows_of(market, EXPOSURES)
    appeal = pq.read_table(truth_of(market, "appeal")).to_pylist()
    assert [(row["exposure_id"], row["hint"]) for row in appeal] == [
        (e["id"], hint) for e in exposures for hint in e["hints"]
    ]
    assert all(0 <= row["probability"] <= row["appeal"] for row in appeal)
    ceiling = pq.read_table(truth_of(market, "ceiling")).to_pylist()
    judged = [e["id"] for e in exposures if e["time_ms"] >= START_MS + (DAYS - 2) * DAY_MS]
    assert [row["exposure_id"] for row in ceiling] == judged
    assert all(len(row["queries"]) == 30 and 0 < sum(row["probabilities"]) <= 1 for row in ceiling)


def test_truth_tells_the_category_of_every_query(market: Path):
    told = {row["query"]: row["category"] for row in pq.read_table(truth_of(market, "categories")).to_pylist()}
    assert set(told) == {normalise(row["query"]) for row in rows_of(market, EVENTS) if row["kind"] == "search"}
    assert told["thing 07"] == "Group 1"


def test_purchases_are_of_items_that_were_clicked_then(market: Path):
    bought = pq.read_table(market / "purchases.parquet").to_pylist()
    titles = {row["id"]: row["title"] for row in pq.read_table(market / "items.parquet").to_pylist()}
    clicked = {
        (row["user"], row["time_ms"], row["item_title"]) for row in rows_of(market, EVENTS) if row["kind"] == "click"
    }
    assert len(bought) == read_market(market).counts.purchases > 0
    assert {(row["user"], row["time_ms"], titles[row["item_id"]]) for row in bought} <= clicked


def test_a_market_is_never_overwritten(market: Path):
    with pytest.raises(ValueError, match="never overwritten"):
        write_market(FACTS, market)


def test_an_unfinished_market_is_refused_and_made_anew(tmp_path: Path):
    broken = "tests.simulation.test_play:_Broken"
    with pytest.raises(RuntimeError, match="goes back in time"):
        write_market(replace(FACTS, law=broken), tmp_path / "m", workers=2)
    assert not (tmp_path / "m").exists()
    (left,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match=r"no market\.json"):
        read_market(left)
    write_market(replace(FACTS, days=1, shoppers=5), tmp_path / "m", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_bad_facts_are_refused_before_any_work(tmp_path: Path):
    for wrong in ({"shoppers": 0}, {"days": 0}, {"drift": -1.0}, {"law": "nobody's"}):
        with pytest.raises(ValueError):  # noqa: PT011 (each has its own message)
            write_market(replace(FACTS, **wrong), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_hint_searches_keep_the_rule_by_which_real_logs_know_them(market: Path):
    clicked = {e["id"]: e["hints"][e["clicked"][0]] for e in rows_of(market, EXPOSURES) if e["clicked"]}
    begun = {row["id"].removesuffix(HINT): row["query"] for row in rows_of(market, EVENTS) if row["id"].endswith(HINT)}
    assert begun.items() <= clicked.items()
    assert len(clicked) - len(begun) <= 1  # of a page a minute before the end, the search lies behind it


def test_the_command_says_what_it_made(tmp_path: Path):
    asked = [
        "simulate",
        "--law",
        TINY,
        "--shoppers",
        "5",
        "--days",
        "2",
        "--workers",
        "1",
        "--out",
        str(tmp_path / "m"),
    ]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "day 2 of 2" in done.output
    assert f"a hint clicked on {read_market(tmp_path / 'm').counts.clicked_exposures}" in done.output


def test_a_law_is_named_or_a_class():
    assert law_of(TINY, 1, 0.0, START_MS).name == "tiny"
    with pytest.raises(ValueError, match="missions, habits"):
        law_of("nobody's", 1, 0.0, START_MS)
