"""The job on archives of real files, on Beam's own runner in this process: every record counted once, the same bytes every time."""

from pathlib import Path
from random import Random

import msgspec
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from typer.testing import CliRunner

from cli.samples import app
from inference.prompt import build_prompt
from local.prism import Prism
from pipelines.samples import ReadEventsOf, SampleOptions, Summary, make, reading, rules_of, samples_of
from schemas import BehaviourEvent, Exposure, Item
from tests.integration.sample_archives import archive_events, archive_pages, of_events, of_pages
from training.sample_files import read_case_rows, read_direct, read_think
from transforms import make_samples_log
from transforms.archive import Rolling
from transforms.log_position import RecordsLost
from transforms.make_samples_facts import QueryFacts
from transforms.make_samples_log import page_parcels
from transforms.read_plan import plan_read

T0 = 1_764_547_200_000
"""2025-12-01T00:00Z"""
DAY_MS = 86_400_000
MINUTE_MS = 60_000
IN_PROCESS = ["--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"]
QUERIES = [f"{colour} {thing}" for colour in ("red", "blue", "old") for thing in ("shoes", "lamp", "sofa", "hub")]
USERS = [f"u{n}" for n in range(30)]


def market(seed: int) -> tuple[list[tuple[int, BehaviourEvent]], list[Exposure]]:
    """Four days of thirty shoppers, in log order."""
    draw, events, pages = Random(seed), [], []
    for number in range(2_400):
        time_ms = T0 + number * 4 * DAY_MS // 2_400
        user, query = draw.choice(USERS), draw.choice(QUERIES)
        if draw.random() < 0.4:
            hints = tuple(draw.sample(QUERIES, 3))
            clicked = (draw.randrange(3),) if draw.random() < 0.4 else ()
            pages.append(Exposure(f"x{number}", user, time_ms, hints, clicked, "", tuple(draw.sample(QUERIES, 8))))
        elif draw.random() < 0.5:
            events.append((time_ms, BehaviourEvent(f"e{number}", user, "search", time_ms, query=query)))
        else:
            item = Item("i", f"{query} deluxe", query.split()[1])
            events.append((time_ms + MINUTE_MS, BehaviourEvent(f"e{number}", user, "click", time_ms, item=item)))
    return sorted(events, key=lambda pair: pair[0]), pages


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two partitions by shopper, files of 300 records, a dead record in each log."""
    root = tmp_path_factory.mktemp("archive")
    write(root, 4)
    return root


def write(root: Path, days: int) -> None:
    events, pages = market(1)
    small, until = Rolling(300), T0 + days * DAY_MS
    logs = [[pair for pair in events if int(pair[1].user[1:]) % 2 == n and pair[0] < until] for n in range(2)]
    archive_events(root, [*of_events(logs[0]), (until - 1, b"{ no event")], of_events(logs[1]), rolling=small)
    shown = [[page for page in pages if int(page.user[1:]) % 2 == n and page.time_ms < until] for n in range(2)]
    archive_pages(root, [*of_pages(shown[0]), (until - 1, b"no page")], of_pages(shown[1]), rolling=small)


def options(archive: Path, **changed) -> SampleOptions:
    return SampleOptions(str(archive), **({"shards": 3} | changed))


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("samples") / "out"
    return out, make(options(archive), str(out), IN_PROCESS)


def test_every_record_is_counted_and_every_clicked_page_is_a_sample_or_has_a_reason(made: tuple[Path, Summary]) -> None:
    out, summary = made
    events, pages = market(1)
    counts = summary.counts
    assert (counts.events, counts.exposures, counts.shoppers) == (len(events), len(pages), len(USERS))
    assert (counts.dropped["event undecodable"], counts.dropped["exposure undecodable"]) == (1, 1)
    samples = {split: read_direct(out, split) for split in ("train", "test")}
    assert (counts.direct_train, counts.direct_test) == (len(samples["train"]), len(samples["test"]))
    unmade = sum(count for why, count in counts.dropped.items() if why.startswith("direct"))
    assert counts.direct_train + counts.direct_test + unmade == len(pages)
    assert counts.direct_train > 100 < counts.direct_test
    assert {each.exposure_id for each in samples["train"]} <= {
        p.id for p in pages if p.clicked and p.time_ms < T0 + 2 * DAY_MS
    }
    assert min(each.as_of_ms for each in samples["test"]) >= T0 + 2 * DAY_MS == summary.asked.test_from_ms
    assert len(read_think(out, "train")) == counts.think_train > 30 <= counts.think_test == len(read_think(out, "test"))
    assert len(read_case_rows(out)) == counts.cases > 100


def test_prompts_are_those_of_the_behaviours_that_had_arrived(made: tuple[Path, Summary]) -> None:
    events, _ = market(1)
    for sample in read_direct(made[0], "test"):
        arrived = [(e.time_ms, e.query or (e.item.title if e.item else "")) for clock, e in events if e.user == sample.user and clock < sample.as_of_ms]  # fmt: skip
        assert [(b.time_ms, b.text) for b in sample.behaviours] == sorted(arrived)[-50:]
        assert sample.prompt == build_prompt(sample.profile, sample.behaviours, sample.as_of_ms)


def test_the_same_archive_and_options_make_the_same_bytes_in_other_files_and_after_any_kill(
    archive: Path, made: tuple[Path, Summary], tmp_path: Path
) -> None:
    out, expected = made
    again = tmp_path / "again"
    make(options(archive), str(again), IN_PROCESS)
    assert files(again) == files(out)
    # As a kill leaves it: no summary, one shard not noted, another one's files half there; and the archive has grown since.
    for gone in ("samples.json", "done/s001.json", "done/s002.json", "direct/split=train/s002.parquet"):
        (again / gone).unlink()
    left = (again / "think/split=test/s000.parquet").stat().st_mtime_ns
    assert make(options(archive), str(again), IN_PROCESS) == expected
    assert files(again) == files(out)
    assert (again / "think/split=test/s000.parquet").stat().st_mtime_ns == left, (
        "a shard that is done is not made again"
    )
    assert make(options(archive), str(again), ["--runner=none"]) == expected, "a folder that is whole needs no runner"


def test_in_which_order_a_runner_hands_out_parcels_changes_nothing(
    archive: Path, made: tuple[Path, Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_samples_log, "PARCEL_RECORDS", 100)
    asked = made[1].asked
    parcels = [
        each.parcel for p, end in asked.exposures_until.items() for each in page_parcels(str(archive), p, end, 1)
    ]
    of_events_in = ReadEventsOf(
        msgspec.structs.replace(asked, options=options(archive, shards=1)), plan_read(reading(asked))
    )
    parcels += [each.parcel for p in asked.events_until for each in of_events_in.process(p)]
    assert len(parcels) > 20
    facts = QueryFacts(dict.fromkeys(QUERIES, ""))
    there = samples_of(parcels, facts, rules_of(asked))
    Random(3).shuffle(parcels)
    again = samples_of(parcels, facts, rules_of(asked))
    assert msgspec.json.encode(there) == msgspec.json.encode(again)


def test_what_was_archived_after_the_first_try_is_not_read_by_the_second(tmp_path: Path) -> None:
    root, out, fresh = tmp_path / "archive", tmp_path / "out", tmp_path / "fresh"
    write(root, 3)
    make(options(root), str(out), IN_PROCESS)
    first = files(out)
    events, _ = market(1)
    late = [pair for pair in events if pair[0] >= T0 + 3 * DAY_MS]
    log = [[pair for pair in events if int(pair[1].user[1:]) % 2 == n and pair[0] < T0 + 3 * DAY_MS] for n in range(2)]
    more = [[*of_events(log[0]), (T0 + 3 * DAY_MS - 1, b"{ no event"), *of_events(late)], of_events(log[1])]
    archive_events(root, *more, rolling=Rolling(300))
    (out / "samples.json").unlink()
    (out / "done/s000.json").unlink()
    make(options(root), str(out), IN_PROCESS)
    assert files(out) == first
    assert make(options(root), str(fresh), IN_PROCESS).counts.events > len(events) * 0.9


def test_other_options_into_the_same_folder_are_refused(archive: Path, made: tuple[Path, Summary]) -> None:
    with pytest.raises(ValueError, match=r"other options \(fewest_shoppers 5"):
        make(options(archive, fewest_shoppers=2), str(made[0]), IN_PROCESS)


def test_wrong_options_are_said_all_at_once_before_any_work(archive: Path, tmp_path: Path) -> None:
    wrong = options(archive, test_from=str(T0 + 1), shards=0, cases="pages")
    with pytest.raises(ValueError, match=r"(?s)shards.*no begin of a day.*cases is one of exposures, searches"):
        make(wrong, str(tmp_path / "out"), IN_PROCESS)
    with pytest.raises(LookupError, match="no archive of events"):
        make(options(tmp_path), str(tmp_path / "out"), IN_PROCESS)
    assert not (tmp_path / "out").exists()


def test_an_archive_with_a_hole_in_its_pages_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "archive", 4)
    pages = sorted((tmp_path / "archive/exposures").rglob("p00000*.parquet"))
    pages[len(pages) // 2].unlink()
    with pytest.raises(RecordsLost, match="exposures"):
        make(options(tmp_path / "archive"), str(tmp_path / "out"), IN_PROCESS)


def test_a_log_of_searches_alone_gives_think_samples_and_a_case_a_search(tmp_path: Path) -> None:
    events, _ = market(1)
    archive_events(tmp_path / "archive", of_events(events))
    arguments = ["--archive", str(tmp_path / "archive"), "--out", str(tmp_path / "out"), "--shards", "2", *IN_PROCESS]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, LookupError)
    assert "--cases=searches" in str(refused.exception)
    done = CliRunner().invoke(app, [*arguments, "--cases=searches"])
    assert done.exit_code == 0, done.output
    assert '"direct_train": 0' in done.output.splitlines()[-1]
    searches = [event for _, event in events if event.kind == "search" and event.time_ms >= T0 + 2 * DAY_MS]
    rows = read_case_rows(tmp_path / "out")
    assert sorted((row.case.user, row.case.as_of_ms, row.case.next) for row in rows) == sorted(
        (event.user, event.time_ms, event.query) for event in searches
    )
    assert read_think(tmp_path / "out", "train")


def test_a_job_on_our_own_prism_may_take_longer_than_five_minutes() -> None:
    """Beam's default ends every job on Prism then; no test waits so long, so the setting is held."""
    child = Prism("127.0.0.1:1", child=None)  # type: ignore[arg-type]
    assert PipelineOptions(child.options).view_as(PortableOptions).job_server_timeout > 365 * 86_400
