"""`aigq dlq` on a real broker and store: letters are listed, shown, exported and discarded; nothing of Kafka's changes."""

import json
import re
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_END, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # pyright: ignore[reportPrivateImportUsage]
from typer.testing import CliRunner

from cli import app
from local.kafka import Kafka
from local.valkey import Valkey
from schemas import DeadLetter
from store.client import ShopperStore
from store.letters import LetterRegistry
from store.operations import Operations
from tests.integration.dlq import Dlq, new_dlq

NOW = 1_780_000_000_000


@pytest.fixture
def dlq(kafka: Kafka, valkey: Valkey, namespace: str, fresh_topic: Callable[..., str]) -> Dlq:
    return new_dlq(kafka.bootstrap, valkey.url, namespace, fresh_topic)


def letter(dlq: Dlq, offset: int, reason: str = "bad_json", raw: bytes = b"{") -> DeadLetter:
    return DeadLetter("decode", reason, "why", dlq.behaviour, 2, offset, NOW + offset, raw=raw)


def test_letters_are_listed_by_reason_and_one_written_twice_is_one(dlq: Dlq) -> None:
    dlq.write(*(letter(dlq, offset) for offset in range(1_200)), letter(dlq, 2_000, "bad_time"), letter(dlq, 7))
    sums = {each["reason"]: each for each in dlq.lines("list")}
    assert (sums["bad_json"]["open"], sums["bad_time"]["open"]) == (1_200, 1)
    assert (sums["bad_json"]["first_ms"], sums["bad_json"]["last_ms"]) == (NOW, NOW + 1_199)
    assert {each["id"]: each["times"] for each in dlq.lines("list", "--letters")}[f"{dlq.behaviour}/2/7"] == 2
    window = ("--from", str(NOW + 5), "--to", str(NOW + 9))
    assert [each["offset"] for each in dlq.lines("list", "--letters", *window)] == [5, 6, 7, 8]
    assert "1,201 letters: 1,201 open, 0 redriven, 0 returned, 0 discarded" in dlq("list")


def test_a_letter_is_shown_with_its_bytes_as_text_or_in_hex(dlq: Dlq) -> None:
    dlq.write(letter(dlq, 1, raw='{"query": "café"'.encode()), letter(dlq, 2, "bad_avro", b"\xc3\x01\x00\xff"))
    dlq.write(letter(dlq, 3, raw=b"[/red] [bold]no markup of ours"))
    assert "[/red] [bold]no markup of ours" in dlq("show", f"{dlq.behaviour}/2/3")
    shown = dlq("show", f"{dlq.behaviour}/2/1")
    assert '{"query": "café"' in shown
    assert "partition 2 offset 1" in shown
    assert "c3 01 00 ff" in dlq("show", f"{dlq.behaviour}/2/2")
    assert "holds no letter" in dlq("show", "nothing/0/0", status=2)


def test_an_export_holds_every_byte(dlq: Dlq, tmp_path: Path) -> None:
    letters = [letter(dlq, 1, raw=b"{"), letter(dlq, 2, "bad_avro", bytes(range(256))), letter(dlq, 3, "no_text")]
    dlq.write(*letters)
    file = tmp_path / "letters.jsonl"
    dlq("export", str(file), "--reason", "bad_json", "--reason", "bad_avro")
    exported = [json.loads(line) for line in file.read_text().splitlines()]
    assert {each["offset"]: b64decode(each["raw_base64"]) for each in exported} == {1: b"{", 2: bytes(range(256))}
    assert [each["raw_text"] for each in sorted(exported, key=lambda each: each["offset"])] == ["{", None]
    assert "there already" in dlq("export", str(file), status=2)


def test_discard_is_a_preview_then_a_record_and_never_a_deletion(dlq: Dlq) -> None:
    dlq.write(letter(dlq, 1), letter(dlq, 2), letter(dlq, 3, "bad_time"))
    assert "2 letters would be discarded" in dlq("discard", "--reason", "bad_json")
    assert {each["open"] for each in dlq.lines("list")} == {1, 2}
    assert "--why" in dlq("discard", "--execute", status=2)
    done = dlq("discard", "--reason", "bad_json", "--execute", "--why", "a load test")
    (shown,) = dlq.lines("show", f"{dlq.behaviour}/2/1")
    assert (shown["status"], shown["fate"]["why"]) == ("discarded", "a load test")
    assert shown["fate"]["operation"] in done
    sums = {each["reason"]: each for each in dlq.lines("list")}
    assert (sums["bad_json"]["open"], sums["bad_json"]["discarded"], sums["bad_time"]["open"]) == (0, 2, 1)
    _, progress = Operations(ShopperStore(dlq.store_url, dlq.namespace).calls).show(shown["fate"]["operation"])
    assert (progress.status, progress.counts, progress.done, progress.of) == ("done", {"discarded": 2}, 2, 2)


def test_one_retention_covers_archive_store_and_topics(dlq: Dlq, kafka: Kafka, tmp_path: Path) -> None:
    store = ShopperStore(dlq.store_url, dlq.namespace)
    operations = Operations(store.calls)
    dlq.write(letter(dlq, 1))
    dlq("discard", "--execute", "--why", "a load test")
    delete_all(kafka.bootstrap, dlq.topic)
    dlq.write(letter(dlq, 2))
    dlq("discard", "--execute", "--why", "a load test")
    unfinished = operations.begin("replay", dlq.namespace, "{}").operation
    snapshot = tmp_path / "snapshots" / "live" / "20251124T000000Z" / "manifest.json"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_text("{}")

    def prune(keep_days: float, *more: str) -> tuple[int, str, str]:
        where = dlq.words()[1:5]
        topics = [f"--topic={dlq.behaviour}", "--exposure_topic=no-such", "--results_topic=no-such"]
        words = [
            "archive",
            "prune",
            f"--archive={tmp_path}",
            f"--keep-days={keep_days}",
            f"--namespace={dlq.namespace}",
        ]
        ran = CliRunner().invoke(app, [*words, *where, *topics, f"--dead_letter_topic={dlq.topic}", *more])
        return ran.exit_code, ran.stdout, ran.stderr

    ours = [each for each, _ in operations.list() if each.namespace == dlq.namespace]
    fates = {f"{dlq.behaviour}/2/1", f"{dlq.behaviour}/2/2"}
    status, said, wrong = prune(0)
    assert re.search(r"[1-9]\d* fates of letters that are gone would be forgotten", said)  # other tests' among them
    assert "ended operations would be forgotten" in said
    assert snapshot.exists()
    assert LetterRegistry(store.calls).all().keys() >= fates
    assert status == 1
    assert f"aigq runs cancel {unfinished.id}" in wrong
    settings = {
        line.split()[1]: line.split("--add-config ")[1] for line in wrong.splitlines() if "--add-config" in line
    }
    assert settings.keys() == {dlq.topic, dlq.behaviour}

    status, said, _ = prune(0, "--execute")
    assert status == 1
    assert not snapshot.exists()
    assert LetterRegistry(store.calls).all().keys() & fates == {f"{dlq.behaviour}/2/2"}, (
        "a letter that is there stays known"
    )
    (run, progress), *rest = [each for each in operations.list() if each[0].namespace == dlq.namespace]
    assert (run.kind, progress.status, progress.counts["files"]) == ("prune", "done", 1)
    assert progress.counts["letters"] >= 1
    assert [each.id for each, _ in rest] == [unfinished.id]
    assert len(ours) == 3

    status, _, wrong = prune(1)
    assert (status, wrong.count("--add-config")) == (1, 2)
    for line in wrong.splitlines():
        set_as_told(kafka.bootstrap, line.split()[1], line.split("--add-config ")[1])
    assert prune(1)[0] == 0


def delete_all(bootstrap: str, topic: str) -> None:
    """As retention does when time has passed."""
    to_the_end = [TopicPartition(topic, partition, OFFSET_END) for partition in range(4)]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for deleted in admin.delete_records(to_the_end).values():
        deleted.result(30)


def set_as_told(bootstrap: str, topic: str, settings: str) -> None:
    """What kafka-configs.sh does with --add-config."""
    added = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in (each.split("=") for each in settings.split(","))
    ]
    told = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=added)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for altered in admin.incremental_alter_configs([told]).values():
        altered.result(30)


def test_reading_letters_joins_no_group_and_commits_nothing(dlq: Dlq, kafka: Kafka) -> None:
    dlq.write(letter(dlq, 1))
    live = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"live-{dlq.topic}"})
    live.commit(offsets=[TopicPartition(dlq.topic, 0, 0)], asynchronous=False)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    before = {group.group_id for group in admin.list_consumer_groups().result().valid}
    dlq("list")
    dlq("show", f"{dlq.behaviour}/2/1")
    assert {group.group_id for group in admin.list_consumer_groups().result().valid} == before
    (committed,) = live.committed([TopicPartition(dlq.topic, 0)])
    live.close()
    assert committed.offset == 0


def test_wrong_arguments_are_said_before_any_work(dlq: Dlq) -> None:
    assert "bad_json" in dlq("list", "--reason", "bad_jsn", status=2)
    assert "zone" in dlq("list", "--from", "2026-11-24T09:00:00", status=2)
    dlq.topic = "no-such-topic"
    assert "no topic 'no-such-topic'" in dlq("list", status=2)
