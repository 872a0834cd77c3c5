"""Night 5 of the runbook: a new trigger threshold and a new model are tried on yesterday's window and compared; the threshold is
put in place, the other is dropped. Every namespace is judged by the log folded once more, each by its own rule."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.faults.evidence import namespaces, states
from bench.faults.model_server import Gate
from bench.faults.stage import POLICY
from inference.model_versions import publish
from local.kafka import Kafka
from local.valkey import Valkey
from tests.integration.nights import Night, next_second, night, operation_in, rule, with_another_version
from tests.integration.oracle import Record, Rule, Shopper, fold_log, read_topic
from tests.integration.oracle_store import read_store
from tests.integration.verdict import judge

TRIED = replace(POLICY, drift=0.9)
"""As the page's --trigger_drift."""


@pytest.fixture
def tonight(kafka: Kafka, valkey: Valkey, vllm: Gate, namespace: str, tmp_path: Path) -> Iterator[Night]:
    models, other = with_another_version(tmp_path)
    publish(other, models)
    with night(kafka, valkey, vllm, namespace, tmp_path, models) as made:
        yield made


@pytest.mark.timeout(900)
def test_a_threshold_is_tried_on_a_window_compared_and_put_in_place(tonight: Night, tmp_path: Path):  # noqa: PLR0915 - one night
    stage, archive = tonight.stage, tmp_path / "archive"
    url, live = stage.store.url, stage.name
    tried, other = f"{live}-tried", f"{live}-other"
    page = tonight.page("night-5-new-threshold-or-model")
    page.ours |= {"live": live, "tried": tried, "other": other, "/data/aigq": str(archive)}
    stage.start_job()
    tonight.shop(1, 4)
    tonight.archive(archive)
    page.type("aigq archive snapshot", says="states in 16 files")
    tonight.shop(5, 1)
    from_ms = next_second()
    tonight.shop(2, 4)
    to_ms = next_second()
    tonight.shop(3, 2)
    page.take_window(from_ms, to_ms)
    records, served = read_topic(stage.broker.bootstrap, stage.topic), read_store(url, live).lists

    # Another threshold, from the snapshot and the archive: exactly the window.
    preview = page.type("aigq replay", *tonight.own_options(), says="nothing was written; --execute does it")
    assert "the snapshot of" in preview
    assert tried not in namespaces(url, live)
    id = operation_in(page.type("aigq replay", *tonight.own_options(), says="replay-"))
    plan = json.loads(tonight.operation(id)["checkpoint"])["plan"]
    for partition in range(4):
        inside = [r.offset for r in records if r.partition == partition and from_ms <= r.ingest_ms < to_ms]
        bounds = plan["window_from"][str(partition)], plan["window_to"][str(partition)]
        assert list(range(*bounds)) == inside
    in_window = [each for each in records if each.ingest_ms < to_ms]
    check_shadow(tonight, tried, within(in_window, from_ms, to_ms, rule(TRIED)))

    # Another model: the same decisions, which are those of a replay from the log's beginning, too.
    by_live = within(in_window, from_ms, to_ms, rule())
    page.type("aigq replay", *tonight.own_options(), "--model_server=", says="replay-")
    check_shadow(tonight, other, by_live)
    whole = f"{live}-whole"
    window = ["replay", f"--from={from_ms}", f"--to={to_ms}", f"--into={whole}"]
    tonight.aigq(*window, "--no_lists", "--execute", *tonight.options())
    assert states(url, whole) == states(url, other)
    due = {each.run_id for shopper in by_live.values() for each in shopper.requests}
    undone = json.loads(tonight.in_store("diff", live, whole, "--json"))
    assert undone["here"]["changes"] == undone["there"]["changes"] == len(due)
    assert set(undone["why"]) <= {"waiting there", "conflated there"}

    results = f"--results_topic={live}-lists"
    page.type("aigq diff", results, says="who have a list on both sides")
    in_sum = json.loads(tonight.aigq("diff", live, tried, results, "--json", *tonight.where()[:2]))
    published = [
        run_id for run_id, _, outcome in read_store(url, live).ended if outcome == "published" and run_id in due
    ]
    assert (in_sum["from_ms"], in_sum["to_ms"]) == (from_ms, to_ms)
    assert in_sum["here"]["generations"] == len(published)
    assert in_sum["there"]["generations"] < in_sum["here"]["generations"]
    assert in_sum["there"]["generations"] == in_sum["there"]["lists"]
    assert in_sum["there"]["output_tokens"] > 0
    assert in_sum["why"].get("only here", 0) > 0
    page.type("aigq diff", results, says="other model")

    # Nothing of the live system has moved.
    assert read_store(url, live).lists == served
    assert "opened by a job" in _complaint(tonight, "drop", live, "--execute")

    # In place: the job goes on in the shadow by itself, and no list becomes older.
    stage.pinned = True
    page.type("aigq promote", *tonight.own_options(), says="nothing was written; --execute does it")
    assert stage.namespace == live
    page.type("aigq promote", *tonight.own_options(), says="promote-")
    assert stage.namespace == tried
    tonight.shop(4, 2)
    after = read_store(url, tried)
    assert all(after.lists[user][0][0] >= runs[0][0] for user, runs in served.items())
    by_both = fold_log(read_topic(stage.broker.bootstrap, stage.topic), rule(), change=(from_ms, rule(TRIED)))
    verdict = judge(since(by_both, from_ms), after, copied=read_store(url, live).lists)
    assert not verdict.wrong, str(verdict)

    page.type("aigq drop", says="--execute does it")
    assert other in namespaces(url, live)
    page.type("aigq drop", says="keys removed")
    assert other not in namespaces(url, live)
    page.type("aigq namespaces", says="stands for")
    page.finish()


def within(records: list[Record], from_ms: int, to_ms: int, then: Rule) -> dict[str, Shopper]:
    """What a replay of the window should decide: the live rule as far as its begin, then this one."""
    return since(fold_log(records, rule(), to_ms, (from_ms, then)), from_ms)


def since(shoppers: dict[str, Shopper], from_ms: int) -> dict[str, Shopper]:
    """Without the requests of before: a replay asks for none of them again."""
    for shopper in shoppers.values():
        shopper.requests = [each for each in shopper.requests if each.as_of_ms >= from_ms]
    return shoppers


def check_shadow(tonight: Night, namespace: str, expected: dict[str, Shopper]) -> None:
    verdict = judge(expected, read_store(tonight.stage.store.url, namespace))
    assert not verdict.wrong, str(verdict)
    assert verdict.requests > 0


def _complaint(night: Night, *words: str) -> str:
    child = night.start(*words, f"--store={night.stage.store.url}")
    _, complaint = child.communicate(timeout=60)
    assert child.returncode == 3
    return complaint
