"""Night 5 of the runbook: a new trigger threshold is tried on yesterday's window, compared, and put in place; or dropped."""

import json
import time

import pytest

from interest import decode
from store.client import ShopperStore
from tests.integration.nights import Night, night
from tests.integration.oracle import read_topic


@pytest.fixture
def tonight(kafka, valkey, namespace, tmp_path):
    with night(kafka, valkey, namespace, tmp_path) as made:
        yield made


def states(night: Night, namespace: str) -> dict[str, bytes]:
    store = ShopperStore(night.stage.store.url, namespace, literal=True)
    return {user: state.blob for user, state in store.scan_states()}


@pytest.mark.timeout(600)
def test_a_threshold_is_tried_on_a_window_compared_and_put_in_place(tonight: Night, tmp_path):  # noqa: PLR0915 - one night
    stage = tonight.stage
    stage.start_job()
    tonight.shop(1, 4)
    archive = f"--archive={tmp_path / 'archive'}"
    tonight.aigq("run", "archive", "--supervise=no", "--end=now", archive, "--exposure_topic=", *tonight.options()[:3])
    tonight.in_store("archive", "snapshot", archive, f"--namespace={stage.name}")
    tonight.shop(5, 1)
    from_ms = int(time.time() * 1000)
    tonight.shop(2, 4)
    to_ms = int(time.time() * 1000)
    tonight.shop(3, 2)
    window = [f"--from={from_ms}", f"--to={to_ms}"]
    before = tonight.lists()

    # the same settings: the same decisions, in exactly the window
    same = f"{stage.name}-same"
    said = tonight.aigq("replay", *window, f"--into={same}", "--no_lists", *tonight.options())
    assert "nothing was written" in said
    assert states(tonight, same) == {}
    id = tonight.aigq("replay", *window, f"--into={same}", "--no_lists", "--execute", *tonight.options()).strip()
    record = tonight.operation(id)
    assert record["status"] == "done"
    plan = json.loads(record["checkpoint"])["plan"]
    records = read_topic(stage.broker.bootstrap, stage.topic)
    for partition in range(4):
        inside = [r.offset for r in records if r.partition == partition and from_ms <= r.ingest_ms < to_ms]
        bounds = plan["window_from"][str(partition)], plan["window_to"][str(partition)]
        assert list(range(*bounds)) == inside
    shadow = ShopperStore(stage.store.url, same)
    fired = {r.run_id: r for _, r in shadow.waiting()} | {e.run_id: e for e in shadow.outcomes()}
    live_fired = [each for each in tonight.store.outcomes() if from_ms <= each.as_of_ms < to_ms]
    assert {each.run_id for each in live_fired} == fired.keys()
    assert all(from_ms <= each.as_of_ms < to_ms for each in fired.values())

    # compared without lists: the same changes came due, and their lists are still to be made
    compared = json.loads(tonight.in_store("diff", stage.name, same, "--json"))
    assert compared["here"]["changes"] == compared["there"]["changes"] == len(live_fired)
    assert set(compared["why"]) <= {"waiting there", "conflated there"}

    # from a snapshot and the archive: the same states
    quick = f"{stage.name}-quick"
    words = [*window, f"--into={quick}", "--no_lists", archive, *tonight.options()]
    assert "the snapshot of" in tonight.aigq("replay", *words)
    tonight.aigq("replay", *words, "--execute")
    assert states(tonight, quick) == states(tonight, same)

    # another threshold, with lists
    tried = f"{stage.name}-tried"
    new = ["--trigger_drift=0.9", f"--into={tried}"]
    tonight.aigq("replay", *window, *new, "--execute", *tonight.options())
    compared = json.loads(
        tonight.aigq(
            "diff",
            stage.name,
            tried,
            "--json",
            f"--store={stage.store.url}",
            f"--bootstrap={stage.broker.bootstrap}",
            f"--results_topic={stage.name}-lists",
        )
    )
    assert (compared["from_ms"], compared["to_ms"]) == (from_ms, to_ms)
    assert compared["here"]["generations"] == len([e for e in live_fired if e.outcome == "published"])
    assert compared["there"]["generations"] < compared["here"]["generations"]
    assert compared["there"]["generations"] == compared["there"]["lists"]
    assert compared["there"]["output_tokens"] > 0
    assert compared["why"].get("only here", 0) > 0
    screen = tonight.in_store("diff", stage.name, tried)
    assert "overlap@10" in screen

    # nothing of the live system has moved
    assert tonight.lists() == before
    assert "opened by a job" in _complaint(tonight, "drop", stage.namespace, "--execute")

    # in place: the job goes on in the shadow by itself, and no list becomes older
    stage.pinned = True
    tonight.aigq("promote", tried, "--execute", *tonight.options())
    assert stage.namespace == tried
    tonight.shop(4, 2)
    after = tonight.lists()
    assert all(after[user][0].as_of_ms >= runs[0].as_of_ms for user, runs in before.items())
    pinned = tonight.store.pinned()
    assert pinned
    assert json.loads(pinned.policy)["drift"] == 0.9
    assert all(decode(blob).partition >= 0 for blob in states(tonight, tried).values())
    tonight.in_store("drop", same, "--execute")
    assert same not in tonight.in_store("namespaces")


def _complaint(night: Night, *words: str) -> str:
    child = night.start(*words, f"--store={night.stage.store.url}")
    _, complaint = child.communicate(timeout=60)
    assert child.returncode == 3
    return complaint
