"""What bench.trigger promises is read where it is worst, and its page says what its result says."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.trigger import DEFAULT, Measured, grid, kept, market, targets
from bench.trigger_page import PAGE, PICTURE, RESULT, with_table
from bench.trigger_page import measured as shown
from interest import TriggerPolicy
from pipelines.tune_trigger import Row
from simulation.market_folder import MarketFacts
from simulation.write_market import write_market
from training.yardstick.bootstrap import Estimate


def measured(law: str, hits_kept: float, lists_share: float) -> Measured:
    def row(name: str, lists: float, hits: float) -> Row:
        return Row(name, *(Estimate(value, value - 0.01, value + 0.01) for value in (lists, lists, hits, hits)))

    rows = (row("every event", 1.0, 1.0), row(DEFAULT, lists_share, hits_kept))
    both = {"searches": rows, "pages": rows}
    return Measured(law, "abc", 10, 100, "r", {"searches": 9}, {"searches": 0.5}, both, both)


def test_each_promise_is_held_to_the_law_that_keeps_it_worst():
    both = [measured("missions", 0.94, 0.2), measured("habits", 0.97, 0.24)]
    assert kept(both) == (0.94, 0.24)
    assert [target.met for target in targets(both)] == [False, True]


def test_the_grid_holds_each_policy_once_and_all_can_run():
    tried = grid()
    assert [name for name, policy in tried if policy is None] == ["every event"] == [tried[0].name]
    assert [name for name, policy in tried if policy == TriggerPolicy()] == [DEFAULT]
    assert len({name for name, _ in tried}) == len({policy for _, policy in tried}) == len(tried)
    assert not [policy.errors() for _, policy in tried if policy and policy.errors()]


def test_another_market_in_its_place_is_refused(tmp_path: Path):
    write_market(
        MarketFacts("missions", 11, 1.0, 3, 1, 1_764_547_200_000, False), tmp_path / "missions-11-3", workers=1
    )
    with pytest.raises(ValueError, match="another market"):
        market(tmp_path, "missions", 11, 3)


def test_the_page_holds_what_is_committed():
    page = PAGE.read_text()
    assert with_table(page, shown(RESULT)) == page, "run `python -m bench.trigger_page`"


def test_a_miss_stands_above_the_table_with_its_cause(tmp_path: Path):
    markets = [asdict(measured(law, 0.94, 0.2)) for law in ("missions", "habits")]
    targets = [{"name": "hits_kept", "value": 0.94, "bound": ">= 0.95", "met": False, "cause": "too few"}]
    result = tmp_path / "trigger.json"
    result.write_text(json.dumps({"targets": targets, "figures": {"markets": markets}}))
    miss, table, picture = shown(result).split("\n\n")
    assert miss == "`hits_kept` is 0.94 (>= 0.95): too few."
    assert table.splitlines()[-1].startswith(f"| {DEFAULT} | 0.200 | 0.940 [0.930, 0.950] |")
    assert picture == PICTURE
