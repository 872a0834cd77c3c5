"""Dead letters: records and outputs that could not be used, put aside in a topic of their own, acknowledged, before the job
moves on.

A letter's Kafka key is its id (`letter_id`), which a second reading of the same record makes again: after a crash the same
record may be put aside twice, and is then known as one.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from msgspec.structs import replace

from schemas import DeadLetter
from schemas.codec import encoder_for
from transforms import metrics

LOG = logging.getLogger(__name__)

MOST_RAW_BYTES = 900_000
"""Bytes of a record kept in its letter: brokers take messages of 1 MB by default."""
CUT = "; raw holds the first {} of {} bytes"


@dataclass(frozen=True)
class Reason:
    """What a reason means, and what to do."""

    meaning: str
    remedy: str


_MAPPER = "fix the mapper, then `aigq dlq redrive --reason mapper_raised`"
_PRODUCER = "fix the producer; a mapper can mend what it sent: then `aigq dlq redrive`, else `aigq dlq discard`"

REASONS: dict[str, Reason] = {
    # decode
    "empty": Reason("the record has no value", _PRODUCER),
    "too_large": Reason("the value is larger than any event (64 KiB; 1 MB before a mapper)", _PRODUCER),
    "unknown_format": Reason(
        "the first bytes belong to no format that the job reads",
        "set --format, or a --mapper, then `aigq dlq redrive --reason unknown_format`",
    ),
    "bad_json": Reason("JSON that ends too early or is none", _PRODUCER),
    "bad_avro": Reason("an Avro body that does not fit the schema it names: cut off, too long, damaged", _PRODUCER),
    "wrong_shape": Reason("well-formed, but a field is missing, null or of another type", _PRODUCER),
    "unknown_schema": Reason(
        "written with a schema that neither schemas/history/ nor the registry holds, or that is not Avro or JSON",
        "add the schema to schemas/history/ (or to the registry), then `aigq dlq redrive --reason unknown_schema`",
    ),
    "bad_id": Reason("id or user is empty, longer than 256 characters, or holds a control character", _PRODUCER),
    "no_text": Reason("a search without a query, or a click without an item's title", _PRODUCER),
    "bad_time": Reason(
        "time_ms (or a trusted ingest_ms) is not Unix milliseconds of 2000 .. 9999; seconds, perhaps", _PRODUCER
    ),
    "no_ingest_time": Reason("--log_clock=ingest_ms, but the event has none", "import the log with `aigq import-log`"),
    "ingest_ahead": Reason(
        "--log_clock=ingest_ms, but it lies more than a minute after the broker's append time", "correct the importer"
    ),
    "mapper_refused": Reason(
        "the mapper returned a reason in place of an event",
        "`aigq dlq show` has the reason; mend the mapper and redrive, or discard",
    ),
    "mapper_raised": Reason("the mapper raised an exception, or returned something else than it may", _MAPPER),
    # track
    "wrong_partition": Reason(
        "the shopper's earlier events came in another partition, so that their order is lost",
        "key events by user with the namespace's partitioner (murmur2), then `aigq dlq redrive --reason wrong_partition`: it keys "
        "them so; where a shopper's first event lies elsewhere, before it `aigq rebuild --users FILE`, which brings the shopper home",
    ),
    "broke_the_fold": Reason(
        "folding the event raised an exception; the shopper is quarantined from this offset on",
        "report it with the letter; `aigq rebuild --users FILE` with the mended fold, or an erase event, ends the quarantine",
    ),
    "quarantined": Reason(
        "an event of a shopper in quarantine", "once the quarantine has ended, `aigq dlq redrive --reason quarantined`"
    ),
    # generate
    "malformed": Reason(
        "the model's output holds no list that keeps the rules",
        "the last good list stays; watch the share; `aigq dlq redrive --reason malformed` asks for a list anew",
    ),
    "exhausted": Reason(
        "a request failed as often as --attempts allows",
        "look at the engine's log for its run id, then `aigq dlq redrive --reason exhausted`",
    ),
}
"""Every reason that a letter can carry. A test holds the code and docs/bad-input.md to this table."""


class DeadLettersUnavailable(Exception):
    """Letters could not be written, so the job must not move on. Names the topic, the broker and its answer."""


def letter_id(letter: DeadLetter) -> str:
    """Names what the letter is about: a record by its place in the log, an output by its run."""
    return f"run/{letter.run_id}" if letter.offset < 0 else f"{letter.topic}/{letter.partition}/{letter.offset}"


class DeadLetterWriter:
    """Writes letters to their topic. One per process (`writer_of_process`); safe in many threads.

    kafka        settings for librdkafka, `bootstrap.servers` at least
    topic        empty: letters are counted and written nowhere (a replay meets records whose letters were written before)
    deadline_s   how long delivery is tried
    """

    def __init__(self, kafka: Mapping[str, str], topic: str, deadline_s: float = 60.0) -> None:
        self.topic = topic
        self._deadline_s = deadline_s
        self._kafka = dict(kafka)
        self._encode = encoder_for(DeadLetter)
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Returns when the broker has acknowledged all letters, in order. Raises DeadLettersUnavailable."""
        if not letters:
            return
        with self._lock:
            pending = [] if not self.topic else [_bounded(_encodable(letter), MOST_RAW_BYTES) for letter in letters]
            give_up = time.monotonic() + self._deadline_s
            while pending:
                pending = self._try(pending, give_up)
        for (stage, reason), count in Counter((letter.stage, letter.reason) for letter in letters).items():
            metrics.DEAD_LETTERS.labels(stage, reason).inc(count)

    def _try(self, letters: list[DeadLetter], give_up: float) -> list[DeadLetter]:
        """Produces the letters; returns those to try again."""
        failed: list[tuple[DeadLetter, KafkaError]] = []
        producer = self._producer or self._connect()
        for letter in letters:

            def note(error: KafkaError | None, _message: Message, letter: DeadLetter = letter) -> None:
                if error is not None:
                    failed.append((letter, error))

            self._produce(producer, letter, note, failed)
        producer.flush()  # ends: every message is delivered or fails within message.timeout.ms
        again: list[DeadLetter] = []
        for letter, error in failed:
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and letter.raw:
                again.append(_bounded(letter, len(letter.raw) // 4))  # this topic takes less than brokers do by default
            elif error.fatal() and time.monotonic() < give_up:
                self._producer = None  # an idempotent producer that has lost its sequence; a new one begins another
                again.append(letter)
            else:
                raise DeadLettersUnavailable(
                    f"{len(failed)} dead letters were not written to topic {self.topic!r} at "
                    f"{self._kafka.get('bootstrap.servers')} within {self._deadline_s:.0f} s: {error.str()}. "
                    f"Nothing was skipped: the job reads their records again when it is started. Does the topic exist, "
                    f"and may the job write to it? (--dead_letter_topic)"
                )
        return again

    def _produce(self, producer: Producer, letter: DeadLetter, note, failed: list) -> None:
        while True:
            try:
                producer.produce(self.topic, self._encode(letter), letter_id(letter), on_delivery=note)
                return
            except BufferError:  # the queue is full: wait for deliveries
                producer.poll(0.1)
            except KafkaException as error:  # refused at once, e.g. too large for the producer
                failed.append((letter, error.args[0]))
                return

    def _connect(self) -> Producer:
        self._producer = Producer(
            {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "compression.type": "lz4",
                "message.timeout.ms": int(self._deadline_s * 1000),
                **self._kafka,
            },
            logger=LOG,
        )
        return self._producer


_WRITERS: dict[tuple, DeadLetterWriter] = {}
_WRITERS_LOCK = threading.Lock()


def writer_of_process(kafka: Mapping[str, str], topic: str) -> DeadLetterWriter:
    """The process's writer for a topic: Beam builds DoFns anew all the time, a producer is made once."""
    key = (*sorted(kafka.items()), topic)
    with _WRITERS_LOCK:
        if key not in _WRITERS:
            _WRITERS[key] = DeadLetterWriter(kafka, topic)
        return _WRITERS[key]


def _encodable(letter: DeadLetter) -> DeadLetter:
    """A mapper's complaint may hold half a surrogate pair, which UTF-8 cannot."""
    detail, user = (text.encode(errors="backslashreplace").decode() for text in (letter.detail, letter.user))
    return replace(letter, detail=detail, user=user)


def _bounded(letter: DeadLetter, most: int) -> DeadLetter:
    if len(letter.raw) <= most:
        return letter
    known, _, earlier = letter.detail.partition(CUT.partition("{}")[0])
    whole = int(earlier.split(" of ")[1].split(" ")[0]) if earlier else len(letter.raw)
    return replace(letter, raw=letter.raw[:most], detail=known + CUT.format(most, whole))
