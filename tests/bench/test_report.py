"""The page of figures says what the result files say."""

import json
from pathlib import Path

from bench.report import PAGE, table, with_table
from bench.result import RESULTS, TARGETS


def test_the_page_holds_the_table_of_the_committed_results() -> None:
    page = PAGE.read_text()
    assert with_table(page, table(RESULTS)) == page, "run `python -m bench.report`"


def test_the_page_says_how_each_benchmark_measures() -> None:
    page = PAGE.read_text()
    assert all(f"\n## {name}:" in page for name in TARGETS)


def test_a_miss_is_shown_with_its_cause(tmp_path: Path) -> None:
    target = {"name": "p95_s", "value": 0.7, "bound": "<= 0.5", "met": False, "cause": "slow disk"}
    result = {"name": "freshness", "cpu": "c", "cores": 2, "git": "abc", "targets": [target]}
    (tmp_path / "freshness.json").write_text(json.dumps(result))
    assert "**missed**: slow disk" in table(tmp_path)
