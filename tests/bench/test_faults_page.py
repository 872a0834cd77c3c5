"""The page of the campaign says what its result says."""

import json

from bench.faults.__main__ import RESULT, write
from bench.faults.campaign import Row
from bench.faults.page import page
from bench.faults.scenarios import FAULTS


def test_the_committed_page_is_written_from_the_committed_result():
    assert RESULT.with_suffix(".md").read_text() == page(json.loads(RESULT.read_text())["faults"])


def test_a_campaign_replaces_the_rows_of_its_faults_and_no_others(tmp_path):
    result = tmp_path / "faults.json"
    first, second = FAULTS[0], FAULTS[1]
    write(Row(second.name, second.does, runs=1), result, 1)
    write(Row(first.name, first.does, runs=20, overwritten=1, wrong=["seed 3: served an older list"]), result, 1)
    write(Row(second.name, second.does, runs=5), result, 2)
    rows = json.loads(result.read_text())["faults"]
    assert [(row["fault"], row["runs"], row["clean"]) for row in rows] == [
        (first.name, 20, False),
        (second.name, 5, True),
    ]
    assert f"- `{first.name}`, seed 3: served an older list" in result.with_suffix(".md").read_text()
