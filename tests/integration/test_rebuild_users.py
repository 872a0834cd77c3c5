"""Single shoppers folded anew in the running namespace: from a corrected archive, and out of a quarantine."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from interest import behaviours_of, decode, encode
from local.kafka import Kafka
from local.valkey import Valkey
from store.client import ShopperStore, StateChange
from store.layout import shard_of
from tests.integration.nights import Night, night


@pytest.fixture
def tonight(kafka: Kafka, valkey: Valkey, namespace: str, tmp_path):
    with night(kafka, valkey, namespace, tmp_path) as made:
        yield made


def texts(tonight: Night, user: str) -> list[str]:
    state = tonight.store.state(user)
    assert state
    return [behaviour.text for behaviour in behaviours_of(decode(state.blob))]


@pytest.mark.timeout(600)
def test_shoppers_are_folded_anew_from_a_corrected_archive_and_out_of_quarantine(tonight: Night, tmp_path: Path):
    stage = tonight.stage
    stage.start_job()
    tonight.shop(1, 4)
    before = tonight.lists()
    wrong, broken, other = sorted(before, key=lambda user: -len(before[user]))[:3]
    untouched = {user: state.blob for user, state in tonight.store.scan_states() if user not in (wrong, broken)}
    archive = tmp_path / "archive"
    options = [f"--archive={archive}", "--exposure_topic=", *tonight.options()[:3]]
    tonight.aigq("run", "archive", "--supervise=no", "--end=now", *options)
    assert correct(archive, wrong) > 0
    held = texts(tonight, broken)
    put_in_quarantine(tonight.store, broken)
    assert "Quarantined" in tonight.in_store("explain", broken, f"--namespace={stage.name}")

    users = tmp_path / "users.txt"
    users.write_text(f"{wrong}\n{broken}\nnobody\n")
    command = ["rebuild", f"--users={users}", f"--archive={archive}", *tonight.options()]
    assert "1 of them are in quarantine" in tonight.aigq(*command)
    assert decode(tonight.store.states([broken])[broken].blob).broken_at >= 0
    child = tonight.start(*command, "--execute")
    child.kill()
    child.communicate()
    id = tonight.aigq(*command, "--execute").strip()
    record = tonight.operation(id)
    assert (record["status"], record["counts"]["rebuilt"], record["counts"]["still broken"]) == ("done", 3, 0)
    assert all(text.startswith("corrected") for text in texts(tonight, wrong))
    assert texts(tonight, broken) == held
    assert decode(tonight.store.states([broken])[broken].blob).broken_at == -1

    # Lists as of now take the place of those that were made from what was wrong; nobody else is touched.
    tonight.level()
    stage.wait("new lists", lambda: all(origins(tonight, user) == [id] for user in (wrong, broken)), 120)
    assert {user: tonight.store.states([user])[user].blob for user in untouched} == untouched
    assert [run.run_id for run in tonight.lists()[other]] == [run.run_id for run in before[other]]


def origins(tonight: Night, user: str) -> list[str]:
    return [run.origin for run in tonight.store.runs(user)]


def correct(archive: Path, user: str) -> int:
    """Writes the user's records anew, with other texts. Returns how many."""
    corrected = 0
    for path in (archive / "events").rglob("*.parquet"):
        table = pq.read_table(path)
        values = table["value"].to_pylist()
        for number, value in enumerate(values):
            event = json.loads(value)
            if event["user"] != user:
                continue
            corrected += 1
            if event["kind"] == "search":
                event["query"] = f"corrected {event['query']}"
            else:
                event["item"]["title"] = f"corrected {event['item']['title']}"
            values[number] = json.dumps(event).encode()
        column = table.schema.get_field_index("value")
        table = table.set_column(column, table.schema.field(column), pa.array(values, table.schema.field(column).type))
        pq.write_table(table, path)
    return corrected


def put_in_quarantine(store: ShopperStore, user: str) -> None:
    """As a record that broke the fold would."""
    store.begin("rebuild")
    stored = store.state(user)
    assert stored
    state = replace(decode(stored.blob), broken_at=decode(stored.blob).offset)
    pinned = store.pinned()
    assert pinned
    change = StateChange(user, stored.token, encode(state), None)
    where = shard_of(user, store.shards), state.partition
    assert store.fire_many({where: [change]}, {where: 0}, "rebuild")[where].status == "saved"
