"""Dead letters on real brokers: acknowledged when `write` returns, found again by their id, bounded in size."""

from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from local.tansu import Tansu
from schemas import DeadLetter
from schemas.wire_avro import reader
from tests.integration.reading import records_in
from transforms.dead_letters import MOST_RAW_BYTES, DeadLettersUnavailable, DeadLetterWriter, letter_id

read = reader(DeadLetter)


def letter(offset: int, raw: bytes = b"raw", reason: str = "bad_json") -> DeadLetter:
    return DeadLetter("decode", reason, "why", "behaviour", 2, offset, 1_780_000_000_000, raw=raw)


def letters_in(bootstrap: str, topic: str, count: int) -> list[DeadLetter]:
    letters = [read(message.value()) for message in records_in(bootstrap, topic, count)]  # type: ignore[arg-type]
    return sorted((each for each in letters if isinstance(each, DeadLetter)), key=lambda each: each.offset)


def test_letters_are_in_the_topic_when_write_returns(tansu: Tansu, fresh_topic: Callable[..., str]) -> None:
    topic = fresh_topic(tansu.bootstrap)
    letters = [letter(offset, raw=bytes([offset])) for offset in range(50)]
    DeadLetterWriter({"bootstrap.servers": tansu.bootstrap}, topic).write(letters)
    assert letters_in(tansu.bootstrap, topic, 50) == letters


def test_a_record_put_aside_twice_is_known_as_one(tansu: Tansu, fresh_topic: Callable[..., str]) -> None:
    topic = fresh_topic(tansu.bootstrap)
    for _ in range(2):
        DeadLetterWriter({"bootstrap.servers": tansu.bootstrap}, topic).write([letter(7), letter(8)])
    keys = [message.key() for message in records_in(tansu.bootstrap, topic, 4)]
    assert sorted(keys) == [b"behaviour/2/7"] * 2 + [b"behaviour/2/8"] * 2  # type: ignore[type-var]
    assert {letter_id(each): each for each in letters_in(tansu.bootstrap, topic, 4)} == {
        "behaviour/2/7": letter(7),
        "behaviour/2/8": letter(8),
    }


def test_a_record_of_10_mb_leaves_its_beginning_and_its_size(tansu: Tansu, fresh_topic: Callable[..., str]) -> None:
    topic = fresh_topic(tansu.bootstrap)
    DeadLetterWriter({"bootstrap.servers": tansu.bootstrap}, topic).write([letter(1, b"0123456789" * 1_000_000)])
    (found,) = letters_in(tansu.bootstrap, topic, 1)
    assert len(found.raw) == MOST_RAW_BYTES
    assert found.raw.startswith(b"0123456789")
    assert found.detail == f"why; raw holds the first {MOST_RAW_BYTES} of 10000000 bytes"


def test_letters_that_cannot_be_written_stop_the_job_and_name_the_topic(tansu: Tansu) -> None:
    writer = DeadLetterWriter({"bootstrap.servers": "127.0.0.1:1"}, "dead-letters", deadline_s=1.0)
    with pytest.raises(DeadLettersUnavailable, match=r"dead-letters.*127\.0\.0\.1:1"):
        writer.write([letter(1)])


def test_an_output_is_known_by_its_run() -> None:
    assert letter_id(DeadLetter("generate", "malformed", "", "", -1, -1, 0, run_id="abc")) == "run/abc"


def test_a_topic_that_takes_small_messages_only_gets_a_smaller_letter(kafka) -> None:
    topic = "small-letters"
    small = NewTopic(topic, 1, 1, config={"max.message.bytes": "100000"})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([small])[topic].result(30)
    noise = bytes((number * number * 7 + number // 251) % 256 for number in range(2_000_000))
    DeadLetterWriter({"bootstrap.servers": kafka.bootstrap, "compression.type": "none"}, topic).write(
        [letter(1, noise)]
    )
    (found,) = letters_in(kafka.bootstrap, topic, 1)
    assert 20_000 < len(found.raw) < 100_000
    assert found.detail.endswith(f"raw holds the first {len(found.raw)} of 2000000 bytes")
