"""Night 6 of the runbook: shoppers need lists before a launch. The command is killed, cancelled and given again, shoppers go on
meanwhile, and nothing is made twice. Broker, store, runner and the shipped model on vLLM are real."""

import random
import subprocess
import time
from collections.abc import Iterator

import pytest

from bench.faults.act import Watcher
from bench.faults.evidence import operations, with_asked_for
from bench.faults.model_server import Gate
from local.kafka import Kafka
from local.valkey import Valkey
from tests.integration.nights import Night, Shoppers, next_second, night, rule
from tests.integration.oracle import fold_log, read_topic
from tests.integration.oracle_store import read_store
from tests.integration.verdict import judge

KILLS = 3
SHOPPERS = [f"shopper-{number}" for number in range(400)]
GOODS = ("gaming laptop", "wireless mouse", "hd lens", "sony microphone", "usb hub")


@pytest.fixture
def tonight(kafka: Kafka, valkey: Valkey, vllm: Gate, namespace: str, tmp_path) -> Iterator[Night]:
    with night(kafka, valkey, vllm, namespace, tmp_path) as made:
        yield made


@pytest.mark.timeout(600)
def test_a_backfill_that_is_killed_and_cancelled_makes_each_list_once(tonight: Night):
    page = tonight.page("night-6-backfill")
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance, stage, shoppers = random.Random(seed), tonight.stage, Shoppers(tonight)
    stage.start_job()
    begin_ms = next_second()
    for user in SHOPPERS:
        shoppers.click(user, chance.choice(GOODS))
    shoppers.flush()
    tonight.level()
    page.take_window(begin_ms, next_second())
    before = read_store(stage.store.url, stage.name)
    assert len(before.shoppers) == len(SHOPPERS)
    assert before.ended == [], "one click is no change"

    preview = page.type("aigq backfill", says="nothing was written; --execute asks for them")
    assert "400 shoppers, 400 lists" in preview
    assert read_store(stage.store.url, stage.name).open_requests == []
    assert operations(stage.store.url, "backfill", stage.name) == []

    command = page.next("aigq backfill")[1:]
    live = chance.sample(SHOPPERS, 40)
    watcher = Watcher(stage, live)
    for number in range(KILLS):
        child = begin_again(tonight, *command)
        for user in live[number::KILLS]:
            shoppers.search(user, "oled tv")
        shoppers.flush()
        time.sleep(chance.uniform(0.0, 2.5))
        child.kill()
        child.communicate()
    (operation,) = operations(stage.store.url, "backfill", stage.name)
    assert operation.status == "running", "nobody had the time to write down that it died"

    # Slow enough that it is not done before it is cancelled; what may be changed when the command is given again.
    cancelled = begin_again(tonight, *command, "--per_second=10")
    page.ours["ID"] = operation.id
    page.type("aigq runs list", says="running")
    page.type("aigq runs cancel", says="")
    page.finish()
    cancelled.communicate(timeout=60)
    assert cancelled.returncode == 4
    (operation,) = operations(stage.store.url, "backfill", stage.name)
    assert operation.status == "cancelled"

    tonight.aigq(*command, "--per_second=400", *tonight.where()[1:])
    tonight.level()
    assert "0 lists to ask for at most" in tonight.aigq(*command[:3], *tonight.where()[1:])
    watcher.stop()
    assert watcher.older == []
    check(tonight, live)


def begin_again(tonight: Night, *command: str) -> subprocess.Popen[str]:
    """Returns when the operation has begun, or goes on."""
    given_ms = int(time.time() * 1000)
    child = tonight.start(*command, *tonight.where()[1:])

    def goes_on() -> bool:
        found = operations(tonight.stage.store.url, "backfill", tonight.stage.name)
        return any(each.updated_ms > given_ms for each in found)

    tonight.stage.wait("backfill", goes_on, 120)
    return child


def check(tonight: Night, live: list[str]) -> None:
    """Everyone has a list, each was made once, and shoppers' own changes got theirs."""
    stage = tonight.stage
    stored = read_store(stage.store.url, stage.name)
    expected = fold_log(read_topic(stage.broker.bootstrap, stage.topic), rule())
    own = {user: [each.run_id for each in expected[user].requests] for user in live}
    asked = with_asked_for(expected, stored, operations(stage.store.url, "backfill", stage.name))
    assert asked >= len(SHOPPERS) - len(live)
    verdict = judge(expected, stored)
    assert not verdict.wrong, str(verdict)
    assert stored.lists.keys() == set(SHOPPERS)
    published = {run_id for run_id, _, outcome in stored.ended if outcome == "published"}
    assert all(published & set(runs) for runs in own.values()), "a shopper's own change got no list"
    results = read_topic(stage.broker.bootstrap, f"{stage.name}-lists")
    assert len(results) == len(published), "each list once"
