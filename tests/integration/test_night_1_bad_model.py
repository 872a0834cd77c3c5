"""Night 1 of the runbook: a bad model wrote bad lists for a while. It is rolled back, and exactly its lists are made again. Broker,
store, runner and vLLM are real; the bad version is the shipped model with disturbed weights."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.faults.evidence import operations, run_name
from bench.faults.model_server import Gate
from inference.model_versions import promote, publish
from local.kafka import Kafka
from local.valkey import Valkey
from tests.integration.nights import (
    GOOD,
    OTHER,
    PROMOTION,
    Night,
    Shoppers,
    next_second,
    night,
    rule,
    with_another_version,
)
from tests.integration.oracle import Due, Shopper, fold_log, read_topic
from tests.integration.oracle_store import Stored, read_store
from tests.integration.verdict import judge

BEFORE, WITHIN, AFTER = ([f"{when}-{number}" for number in range(15)] for when in ("before", "within", "after"))
BAD_ONE, ROLLED_BACK = PROMOTION + 1, PROMOTION + 2
"""Promotions, after those of the shipped history."""


@pytest.fixture
def tonight(kafka: Kafka, valkey: Valkey, namespace: str, tmp_path: Path) -> Iterator[Night]:
    """The bad version serves, the good one did before. The job has the engine, as only then a roll-back reaches it by itself."""
    models, bad = with_another_version(tmp_path)
    publish(bad, models)
    promote(models, "aigq-small", OTHER)
    with night(kafka, valkey, Gate(to_port=0), namespace, tmp_path, models) as made:
        yield made


@pytest.mark.timeout(900)
def test_a_bad_models_lists_of_a_window_are_made_again_and_nobody_elses(tonight: Night):
    page = tonight.page("night-1-bad-model")
    stage, models = tonight.stage, f"--models={tonight.stage.models}"
    job = stage.start_job("--model_server=")
    play(tonight, BEFORE)
    begin_ms = next_second()
    play(tonight, WITHIN)
    assert tonight.promotions([*BEFORE, *WITHIN]) == {BAD_ONE: 30}

    page.type("aigq models list", models, says=f"aigq-small/{OTHER} │ yes")
    page.type("aigq models rollback", models, says=f"aigq-small/{GOOD} serves (promotion {ROLLED_BACK})")
    serves = f"model aigq-small/{GOOD} (promotion {ROLLED_BACK}) serves"
    stage.wait("good model", lambda: serves in job.child.log.read_text(), 280)
    play(tonight, AFTER)
    end_ms = next_second()
    page.take_window(begin_ms, end_ms)
    before = read_store(stage.store.url, stage.name)

    preview = page.type("aigq replay", models, says="nothing was written; --execute asks for them")
    assert "15 shoppers, 15 lists" in preview
    assert f"15 lists of aigq-small/{OTHER} were stored within" in preview
    unchanged = read_store(stage.store.url, stage.name)
    assert (unchanged.lists, unchanged.counts) == (before.lists, before.counts)
    assert operations(stage.store.url, "regenerate", stage.name) == []
    page.type("aigq replay", models, says="requested 15, ended published 15")
    (asked,) = operations(stage.store.url, "regenerate", stage.name)
    assert asked.status == "done"
    again = tonight.aigq("replay", f"--from={begin_ms}", f"--to={end_ms}", "--regenerate", models, *tonight.where())
    assert "0 shoppers, 0 lists" in again
    page.finish()

    stored = read_store(stage.store.url, stage.name)
    assert tonight.promotions(BEFORE) == {BAD_ONE: 15}, "outside the window nothing is touched"
    assert tonight.promotions([*WITHIN, *AFTER]) == {ROLLED_BACK: 30}, "no bad list is left beside the new one"
    expected = fold_log(read_topic(stage.broker.bootstrap, stage.topic), rule())
    verdict = judge(expected, stored, replaced=made_again(expected, stored, before, asked.id))
    assert not verdict.wrong, str(verdict)
    results = read_topic(stage.broker.bootstrap, f"{stage.name}-lists")
    assert len(results) == stored.counts["published"] == 60, "each list once"


def play(tonight: Night, users: list[str]) -> None:
    """Each searches once, and gets a list."""
    shoppers = Shoppers(tonight)
    for number, user in enumerate(users):
        shoppers.search(user, ("gaming laptop", "wireless mouse", "sony microphone")[number % 3])
    shoppers.flush()
    tonight.stage.wait("lists", lambda: tonight.promotions(users).total() == len(users), 280)
    tonight.level()


def made_again(expected: Mapping[str, Shopper], stored: Stored, before: Stored, operation: str) -> set[str]:
    """Adds what the operation has asked for: of each shopper within the window one list, as of later. Returns the lists that went."""
    for user in WITHIN:
        ((was_ms, _, _),), ((as_of_ms, _, run_id),) = before.lists[user], stored.lists[user]
        assert as_of_ms > was_ms
        assert run_id == run_name(user, as_of_ms, operation)
        shopper = expected[user]
        shopper.requests.append(Due(run_id, as_of_ms, tuple(shopper.kept), shopper.profile, 0.0, 0.0))
    return {run_id for user in WITHIN for _, _, run_id in before.lists[user]}
