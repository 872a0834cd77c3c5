"""`aigq dlq redrive` on a real broker and store: which record is given again, with which key, what is left, and that a redrive which
dies at the worst moment has no effect twice."""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from interest import FOLD_VERSION, State, TriggerPolicy, encode
from local.kafka import Kafka
from local.valkey import Valkey
from pipelines.redrive_aftermath import wait_for_the_job
from schemas import BehaviourEvent, DeadLetter
from schemas.codec import Decoder, decoder_for, encoder_for
from schemas.wire_mapper import event_reader
from serving.operations import operation_as_json
from store.client import NamespaceMeta, ShopperStore, StateChange
from store.layout import shard_of
from store.letters import LetterFate, LetterRegistry
from store.operations import Operations
from tests.integration.dlq import Dlq, SmallJob, new_dlq, total
from tests.integration.typed import typed
from transforms.letter_box import seen_letter
from transforms.letter_cases import LetterCase
from transforms.redriven_records import LETTER_HEADER, REDRIVES_HEADER, RecordLooks, partition_of

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
to_json, avro = encoder_for(BehaviourEvent, "json"), encoder_for(BehaviourEvent)


def search(user: str, id: str, query: str = "red shoes", ago_ms: int = HOUR_MS) -> BehaviourEvent:
    return BehaviourEvent(id, user, "search", int(time.time() * 1000) - ago_ms, query=query)


def in_seconds(event: BehaviourEvent) -> bytes:
    return to_json(msgspec.structs.replace(event, time_ms=event.time_ms // 1000))


def mended(record: bytes) -> BehaviourEvent | str:
    fields = json.loads(record)
    fields["time_ms"] *= 1000 if fields["time_ms"] < 1e11 else 1
    return msgspec.convert(fields, BehaviourEvent)


MENDED = ("--mapper", f"{__name__}:mended")


def mend(job: SmallJob) -> None:
    job.decoder = Decoder({}, event_reader(mended))


@pytest.fixture
def dlq(kafka: Kafka, valkey: Valkey, namespace: str, fresh_topic: Callable[..., str]) -> Dlq:
    return new_dlq(kafka.bootstrap, valkey.url, namespace, fresh_topic)


@pytest.fixture
def job(dlq: Dlq) -> SmallJob:
    return SmallJob(dlq)


def redriven(dlq: Dlq) -> list[tuple[int, str | None, dict[str, str]]]:
    """Partition, key and headers of the records that carry a letter's id."""
    consumer = Consumer({"bootstrap.servers": dlq.bootstrap, "group.id": "test", "enable.partition.eof": True})
    consumer.assign([TopicPartition(dlq.behaviour, partition, 0) for partition in range(4)])
    found, ended = [], 0
    while ended < 4:
        message = consumer.poll(30)
        assert message is not None
        if message.error():
            ended += 1
        elif headers := {name: value.decode() for name, value in message.headers() or []}:
            key = message.key()
            found.append((message.partition(), key.decode() if key else None, headers))
    consumer.close()
    return found


def test_a_record_is_given_again_as_it_was_keyed_by_its_shopper_with_its_provenance(dlq: Dlq, job: SmallJob) -> None:
    job.produce(in_seconds(search("u1", "e1")), key=None, partition=3)
    job.take()
    assert dlq.statuses() == {f"{dlq.behaviour}/3/0": "open"}
    preview = dlq("redrive", *MENDED)
    assert "1 letters would be redriven" in preview
    assert redriven(dlq) == []
    said = dlq.redrive(*MENDED, "--wait_s=0")
    assert said["expected"] == [{"reason": "bad_time", "topic": dlq.behaviour, "folded": 1}]
    provenance = {LETTER_HEADER: f"{dlq.behaviour}/3/0", REDRIVES_HEADER: "1"}
    assert redriven(dlq) == [(partition_of(b"u1", 4), "u1", provenance)]
    mend(job)
    job.take()
    assert job.texts("u1") == ["red shoes"]
    assert dlq.statuses() == {f"{dlq.behaviour}/3/0": "redriven"}
    assert total(dlq.redrive(*MENDED)["expected"]) == {}
    assert len(redriven(dlq)) == 1


def test_a_redrive_that_dies_before_it_could_write_down_has_no_effect_twice(
    dlq: Dlq, job: SmallJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        job.produce(in_seconds(search("u1", f"e{number}", f"query {number}")), "u1")
    job.take()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LetterRegistry, "note", die)
        dlq("redrive", "--execute", *MENDED, status=130)
    given = len(redriven(dlq))
    assert given > 0
    dlq.redrive(*MENDED, "--wait_s=0")
    assert len(redriven(dlq)) == 5 + given  # twice in the topic
    mend(job)
    job.take()
    assert sorted(job.texts("u1")) == [f"query {number}" for number in range(5)]  # once in the state
    assert set(dlq.statuses().values()) == {"redriven"}


def test_a_record_that_a_dead_redrive_gave_again_is_known_when_it_fails_again(
    dlq: Dlq, job: SmallJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.produce(in_seconds(search("u1", "e1")), "u1")
    job.take()
    (id,) = dlq.statuses()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LetterRegistry, "note", die)
        dlq("redrive", "--execute", status=130)
    job.take()  # not mended: it fails again, in a place that nobody wrote down
    assert set(dlq.statuses().values()) == {"open"}
    assert len(dlq.statuses()) == 2
    said = dlq.redrive()
    assert (said["expected"], total(said["left"])) == ([], {"returned": 1})
    assert dlq.statuses() == {id: "returned"}
    assert len(redriven(dlq)) == 1


def test_events_in_a_wrong_partition_go_home(dlq: Dlq, job: SmallJob) -> None:
    home = partition_of(b"u1", 4)
    job.produce(avro(search("u1", "e1", "at home")), "u1")
    job.take()
    job.produce(avro(search("u1", "e2", "astray")), "some session", (home + 1) % 4)
    job.take()
    assert job.texts("u1") == ["at home"]
    dlq.redrive("--wait_s=0", "--user", "u1")
    job.take()
    assert job.texts("u1") == ["at home", "astray"]


def test_a_shopper_whose_first_event_lies_elsewhere_is_brought_home_by_a_rebuild(
    dlq: Dlq, job: SmallJob, tmp_path: Path
) -> None:
    away = (partition_of(b"u1", 4) + 1) % 4
    for number in range(3):
        job.produce(avro(search("u1", f"e{number}", f"astray {number}")), "some session", away)
    job.take()
    job.produce(avro(search("u1", "e3", "at home")), "u1")
    job.take()
    assert total(dlq.redrive()["left"]) == {"away_from_home": 1}
    assert "`aigq rebuild --users FILE` brings the shopper home" in dlq("redrive")
    (users := tmp_path / "users.txt").write_text("u1")
    where = [f"--bootstrap={dlq.bootstrap}", f"--store={dlq.store_url}", f"--namespace={dlq.namespace}"]
    where += [f"--topic={dlq.behaviour}", f"--dead_letter_topic={dlq.topic}"]
    typed("rebuild", f"--users={users}", "--execute", *where)
    assert (job.texts("u1"), job.state("u1").partition) == (["at home"], partition_of(b"u1", 4))
    due = {p: job.store.due(shard_of("u1", 4), p, 1 << 49, 9) for p in range(4)}
    assert due == {p: ["u1"] if p == partition_of(b"u1", 4) else [] for p in range(4)}
    assert total(dlq.redrive("--reason=wrong_partition", "--wait_s=0")["expected"]) == {"folded": 3, "duplicate": 1}
    job.take()
    assert sorted(job.texts("u1")) == ["astray 0", "astray 1", "astray 2", "at home"]
    assert set(dlq.statuses().values()) == {"redriven"}


def test_what_has_gone_from_its_topic_comes_from_the_letter(dlq: Dlq, job: SmallJob) -> None:
    home = partition_of(b"u1", 4)
    job.produce(avro(search("u1", "e1", "at home")), "u1")
    job.take()
    astray = (home + 1) % 4
    job.produce(avro(search("u1", "e2", "astray")), "u1", astray)
    job.produce(in_seconds(search("u2", "e3", "in seconds")), "u2", astray)
    cut = DeadLetter(
        "decode", "too_large", "x; raw holds the first 3 of 9 bytes", dlq.behaviour, astray, 7, 1, raw=b"{.."
    )
    dlq.write(cut)
    job.take()
    admin = AdminClient({"bootstrap.servers": dlq.bootstrap})
    for deleted in admin.delete_records([TopicPartition(dlq.behaviour, astray, -1)]).values():
        deleted.result(30)
    before = dlq.lines("redrive", *MENDED)
    assert total(before[0]["left"]) == {"gone": 2}, "with a mapper nothing of ours can be written in the job's format"
    said = dlq.redrive("--wait_s=0")
    assert total(said["left"]) == {"gone": 1, "no_key": 1}, (
        "nothing but the record's key knew the shopper of what cannot be read"
    )
    assert total(said["expected"]) == {"folded": 1}
    job.take()
    assert job.texts("u1") == ["at home", "astray"]


def test_what_comes_too_late_to_count_is_said_before(dlq: Dlq, job: SmallJob) -> None:
    job.produce(in_seconds(search("u1", "e1", ago_ms=100 * DAY_MS)), "u1")
    job.produce(in_seconds(search("u1", "e2")), "u1")
    job.produce(in_seconds(search("u1", "e2")), "u1")
    job.produce(to_json(search("u1", "e3", "blue shoes")), "u1")
    job.take()
    (said,) = dlq.lines("redrive", *MENDED)
    assert total(said["expected"]) == {"too_late": 1, "folded": 1, "duplicate": 1}
    assert "1 come too late to count" in dlq("redrive", *MENDED)
    dlq.redrive(*MENDED, "--wait_s=0")
    mend(job)
    job.take()
    assert sorted(job.texts("u1")) == ["blue shoes", "red shoes"]


def test_what_a_shopper_did_before_an_erasure_never_comes_back_and_a_mended_erasure_counts(
    dlq: Dlq, job: SmallJob
) -> None:
    job.produce(in_seconds(search("ann", "e1", "of before")), "ann")
    job.take()
    for user in ("ann", "bob"):
        job.produce(to_json(search(user, f"{user}-good")), user)
    now_ms = int(time.time() * 1000)
    job.produce(to_json(BehaviourEvent("forget", "ann", "erase", now_ms)), "ann")
    job.produce(in_seconds(BehaviourEvent("forget too", "bob", "erase", now_ms)), "bob")
    job.take()
    assert (job.texts("ann"), job.texts("bob")) == ([], ["red shoes"])
    said = dlq.redrive(*MENDED, "--wait_s=0")
    assert (total(said["left"]), total(said["expected"])) == ({"before_erasure": 1}, {"erased": 1})
    mend(job)
    job.take()
    assert (job.texts("ann"), job.texts("bob")) == ([], [])


def test_a_record_without_a_shopper_is_left(dlq: Dlq, job: SmallJob) -> None:
    job.produce(b"{ no json", None, 0)
    job.produce(b"{ no json", "u1")
    job.take()
    said = dlq.redrive("--wait_s=0")
    assert total(said["left"]) == {"no_key": 1}
    assert [key for _, key, _ in redriven(dlq)] == ["u1"]


def test_a_request_that_found_no_list_is_asked_for_anew_at_low_priority(dlq: Dlq, job: SmallJob) -> None:
    job.produce(avro(search("u1", "e1")), "u1")
    job.take()
    dlq.write(
        DeadLetter("generate", "malformed", "no list", "", -1, -1, 1_780_000_000_000, "u1", "abc", b"?"),
        DeadLetter("generate", "exhausted", "tried 3 times", "", -1, -1, 1_780_000_000_000, "nobody", "def"),
    )
    said = dlq.redrive("--stage", "generate")
    assert (total(said["expected"]), total(said["left"])) == ({"list": 1}, {"nothing_known": 1})
    request = job.store.request("u1").waiting
    assert request is not None
    assert request.low
    assert dlq.statuses() == {"run/abc": "redriven", "run/def": "open"}
    dlq.write(DeadLetter("generate", "malformed", "again", "", -1, -1, 1_780_000_000_001, "u1", request.run_id))
    assert dlq.statuses() == {"run/abc": "returned", "run/def": "open"}


def test_most_of_it_dead_again_is_refused_before_it_stops_the_job(dlq: Dlq, job: SmallJob) -> None:
    for number in range(120):
        job.produce(in_seconds(search("u1", f"e{number}")), "u1")
    job.take()
    assert "120 of 120 would be dead letters again" in dlq("redrive", "--execute", status=3)
    assert redriven(dlq) == []
    assert total(dlq.redrive("--force", "--wait_s=0")["expected"]) == {"dead bad_time": 120}


def test_a_job_that_stands_is_said(dlq: Dlq, job: SmallJob) -> None:
    job.produce(in_seconds(search("u1", "e1")), "u1")
    job.take()
    for number in range(2, 12):
        job.produce(in_seconds(search("u1", f"e{number}")), "u1")
    said = dlq("redrive")
    assert "no job tracks" in said
    assert "10 of the next 10 records cannot be read" in said
    done = dlq("redrive", "--execute", status=1)
    assert "has not taken all of it yet: does one run" in done
    (record,) = [progress for each, progress in Operations(job.store.calls).list() if dlq.topic in each.asked]
    assert (record.status, record.done, record.of) == ("done", 1, 1)


def test_a_cancelled_redrive_says_so_and_the_rest_can_be_asked_for_again(dlq: Dlq, job: SmallJob) -> None:
    for number in range(40):
        job.produce(in_seconds(search("u1", f"e{number}", f"query {number}")), "u1")
    job.take()
    operations = Operations(job.store.calls)

    shown: list[dict] = []

    def cancel() -> None:
        while not (running := [(o, p) for o, p in operations.list() if dlq.topic in o.asked and p.done]):
            time.sleep(0.05)
        shown.append(operation_as_json(*running[0], int(time.time() * 1000)))
        operations.control(running[0][0].id, "cancel")

    canceller = Thread(target=cancel)
    canceller.start()
    said = dlq("redrive", *MENDED, "--execute", "--per_second=5", status=4)
    canceller.join()
    assert "was cancelled" in said
    given = len(redriven(dlq))
    assert 0 < given < 40
    assert 0 < shown[0]["done"] < shown[0]["of"] == 40
    assert shown[0]["left_s"] > 0
    (record,) = [progress for each, progress in operations.list() if dlq.topic in each.asked]
    assert (record.status, record.counts["redriven"]) == ("cancelled", given)
    assert Counter(dlq.statuses().values()) == {"redriven": given, "open": 40 - given}
    assert total(dlq.redrive(*MENDED, "--wait_s=0")["expected"]) == {"folded": 40 - given}
    assert len(redriven(dlq)) == 40


def test_an_erasure_is_given_again_and_neither_what_it_made_forgotten_nor_what_no_job_reads(
    valkey: Valkey, namespace: str
) -> None:
    store, policy = ShopperStore(valkey.url, namespace, 1), TriggerPolicy()
    store.open(NamespaceMeta("behaviour", "id", 1, "murmur2", 1, FOLD_VERSION, policy.version, policy.to_json()))
    store.begin("track")
    forgotten = encode(State(0, 5, erased_ms=10**12))
    store.save(0, 0, 0, 6, 2 * 10**12, [StateChange("ann", b"", forgotten, None, (), 10**12)])
    looks = RecordLooks({}, "dead-letters", store, decoder_for(), None, _partitions={"behaviour": 1})  # type: ignore[arg-type]
    looks._load(["ann"])
    letter = seen_letter(DeadLetter("decode", "bad_json", "", "behaviour", 0, 3, 1), (0, 0))
    case = LetterCase(letter.id, (letter,), None)
    before = BehaviourEvent("e1", "ann", "search", 10**12, query="red shoes")
    assert looks._look(case, None, b"", before).skip == "before_erasure"
    other = seen_letter(DeadLetter("decode", "bad_json", "", "behaviour-1", 0, 3, 1), (0, 0))
    looks._partitions["behaviour-1"] = 1
    unread, recent = LetterCase(other.id, (other,), None), BehaviourEvent("e3", "bob", "search", 2 * 10**12, query="tv")
    assert looks._look(unread, None, b"", recent).skip == "not_read", "before `rebuild --topic` the namespace read it"
    looks.unread = True
    assert looks._look(unread, None, b"", recent).expected == "readable"
    given = {other.id: LetterFate("redriven", 1, 1, ("behaviour-1/0/9",))}
    assert not wait_for_the_job(store, given, 0), "nobody reads it: that a job has taken it is not said"
    erase = looks._look(case, None, b"", BehaviourEvent("e2", "ann", "erase", 10**12))
    assert (erase.skip, erase.expected, erase.record is not None) == ("", "erased", True)
