"""`aigq tune-trigger` from a simulated market's archive to its files, and counted a second time by hand.

A rule stands in for the model: after a query it lists what anybody searched next, so that a list is as good as its newest query is new.
"""

import json
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import pipelines.tune_trigger
from cli.tune import app
from inference.output import normalise
from simulation.market_folder import MarketFacts, archive_of
from simulation.write_market import write_market
from transforms.archive_layout import EVENTS, EXPOSURES, files_of

DAY_MS, SECOND_MS = 86_400_000, 1_000
START_MS = 1_764_547_200_000
FROM_MS = START_MS + 2 * DAY_MS


class Did(NamedTuple):
    time_ms: int
    query: str
    """Normalised; empty for a click on an item."""
    by_hint: bool


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market") / "missions"
    write_market(MarketFacts("missions", 5, 1.0, 120, 5, START_MS, False), folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def lives(market: Path) -> dict[str, list[Did]]:
    found = defaultdict(list)
    for row in rows_of(market, EVENTS, ["user", "time_ms", "query", "id"]):
        query = normalise(row["query"]) if row["query"] else ""
        found[row["user"]].append(Did(row["time_ms"], query, row["id"].endswith("/hint")))
    return dict(found)


@pytest.fixture(scope="module")
def followers(lives: dict[str, list[Did]]) -> dict[str, tuple[str, ...]]:
    """Query -> what was searched next, by anybody, ever."""
    found = defaultdict(set)
    for life in lives.values():
        for query, following in pairwise(did.query for did in life if did.query):
            found[query].add(following)
    return {query: tuple(sorted(following)) for query, following in found.items()}


@pytest.fixture(scope="module")
def out(market: Path, followers: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")

    def write_lists(models: str, model: str, prompts: Sequence[str]) -> dict[str, tuple[str, ...]]:
        newest = {prompt: re.findall(r"<search> ([^<}|;]+)", prompt)[-1:] for prompt in prompts}
        return {p: followers.get(normalise(query[0]), ()) if query else () for p, query in newest.items()}

    given = {"--archive": archive_of(market), "--shoppers": 1, "--from": "2025-12-03T00:00Z", "--out": folder}
    swept = ["--drift", "0.2", "--drift", "0.6", "--pause", "3:30", "--pause", "3:1e9"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines.tune_trigger, "write_lists", write_lists)
        result = CliRunner().invoke(app, [*(str(part) for pair in given.items() for part in pair), *swept])
    assert result.exit_code == 0, result.output
    assert "advised" in result.output
    return folder


@pytest.fixture(scope="module")
def rows(out: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((out / "trigger.json").read_text())["rows"]}


def rows_of(market: Path, kind: str, columns: list[str]) -> list[dict]:
    files = files_of(str(archive_of(market)), kind)
    rows = [row for file in files for row in pq.read_table(file.path, columns=columns).to_pylist()]
    return sorted(rows, key=lambda row: row["time_ms"])


def test_the_files_are_there_and_say_the_same(out: Path, rows: dict[str, dict]):
    tuned = json.loads((out / "trigger.json").read_text())
    picture = (out / "trigger.svg").read_text()
    assert len(rows) == len(tuned["rows"]) == 6
    assert all(f"<!-- {name} -->" in picture for name in rows)
    assert tuned["advised"] in tuned["rows"]


def test_a_list_an_event_spends_the_most_and_a_higher_threshold_less(rows: dict[str, dict]):
    share = {name: row["lists_share"][0] for name, row in rows.items()}
    assert share.pop("every event") == 1 > max(share.values())
    assert share["drift 0.2, settle 3 s, cooldown 30 s"] > share["drift 0.6, settle 3 s, cooldown 30 s"] > 0


def test_a_policy_that_makes_one_list_and_no_other_hits_the_least(rows: dict[str, dict]):
    kept = {name: row["hits_kept"][0] for name, row in rows.items()}
    once = {name: share for name, share in kept.items() if "cooldown 1e+09 s" in name}
    others = {name: share for name, share in kept.items() if name not in once}
    assert kept["every event"] == 1 == max(kept.values())
    assert max(once.values()) < min(others.values())


def test_lists_are_as_many_as_events_when_counted_by_hand(lives: dict[str, list[Did]], rows: dict[str, dict]):
    times = [did.time_ms for did in (did for life in lives.values() for did in life) if did.time_ms >= FROM_MS]
    days = sum(len({did.time_ms // DAY_MS for did in life if did.time_ms >= FROM_MS}) for life in lives.values())
    assert rows["every event"]["lists_per_shopper_day"][0] == pytest.approx(len(times) / days)


def test_hits_of_a_list_an_event_are_as_many_when_counted_by_hand(
    market: Path, lives: dict[str, list[Did]], followers: dict[str, tuple[str, ...]], out: Path, rows: dict[str, dict]
):
    looks = hits = 0
    for page in rows_of(market, EXPOSURES, ["user", "time_ms"]):
        searches = [did for did in lives.get(page["user"], ()) if did.query]
        own = [did for did in searches if not did.by_hint]
        following = own[bisect_left([did.time_ms for did in own], page["time_ms"]) :][:1]
        if page["time_ms"] < FROM_MS or not following or following[0].time_ms // DAY_MS > page["time_ms"] // DAY_MS:
            continue
        looks += 1
        ready = searches[: bisect_right([did.time_ms for did in searches], page["time_ms"] - SECOND_MS)]
        lists = [followers[did.query] for did in ready if did.query in followers]
        hits += bool(lists) and following[0].query in lists[-1]
    assert looks == json.loads((out / "trigger.json").read_text())["looks"] > 50
    assert rows["every event"]["hit_rate"][0] == pytest.approx(hits / looks)
    assert hits > 5
