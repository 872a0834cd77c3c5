"""Decode: a batch of records becomes a batch of events. What cannot be read becomes a dead letter that the broker has
acknowledged before the batch goes on, so before the save that covers its offset.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import apache_beam as beam

from schemas import BehaviourEvent, DeadLetter
from schemas.codec import Decoder
from schemas.validate import FIRST_MS, Rejection
from schemas.wire_mapper import SKIP
from transforms import metrics
from transforms.batches import EventBatch, RecordBatch
from transforms.dead_letter_limits import DeadLetterLimits, TooManyDeadLetters
from transforms.dead_letters import DeadLetterWriter

LogClock = Literal["append", "ingest_ms"]
MOST_AHEAD_MS = 60_000
"""A trusted ingest time may lie this far after the broker's append time: clocks differ. More would move the log clock of a
whole partition, and with it every shopper's deadlines, into the future."""


@dataclass(frozen=True)
class EventDecoder:
    """Reads batches. One per process: the limits count everything that the process reads."""

    decoder: Decoder
    letters: DeadLetterWriter
    limits: DeadLetterLimits
    log_clock: LogClock = "append"

    def decode(self, batch: RecordBatch) -> EventBatch:
        """The batch's events. Returns when the letters of the other records are acknowledged.

        Raises TooManyDeadLetters before any letter of this batch is written; DeadLettersUnavailable, RegistryUnavailable.
        """
        results = self.decoder.decode(batch.values)
        ingest_ms = batch.ingest_ms
        if self.log_clock == "ingest_ms":
            results = [with_ingest_time(*pair) for pair in zip(results, batch.ingest_ms, strict=True)]
            ingest_ms = [getattr(result, "ingest_ms", 0) for result in results]
        offsets = batch.offsets
        # A rejection is the exception: a batch of events alone is passed on with the lists it came in.
        if Rejection in set(map(type, results)):
            self._put_aside(batch, results)
            kept = [number for number, result in enumerate(results) if type(result) is not Rejection]
            offsets = [offsets[number] for number in kept]
            ingest_ms = [ingest_ms[number] for number in kept]
            results = [results[number] for number in kept]
        else:
            self.limits.passed([False] * len(results))
        events: list[BehaviourEvent] = results  # type: ignore[assignment]
        return EventBatch(
            batch.topic,
            batch.topic_id,
            batch.partition,
            batch.start_offset,
            offsets,
            ingest_ms,
            events,
            batch.next_offset,
            batch.progress_ms,
            batch.closing,
        )

    def _put_aside(self, batch: RecordBatch, results: list[BehaviourEvent | Rejection]) -> None:
        now = int(time.time() * 1000)
        letters = [
            DeadLetter("decode", r.reason, r.detail, batch.topic, batch.partition, offset, now, raw=value or b"")
            for r, offset, value in zip(results, batch.offsets, batch.values, strict=True)
            if type(r) is Rejection and r is not SKIP
        ]
        passed = self.limits.passed([type(r) is Rejection for r in results if r is not SKIP])
        if passed:
            raise TooManyDeadLetters(_explain(passed, batch, letters))
        self.letters.write(letters)
        metrics.EVENTS.labels("dead").inc(len(letters))
        metrics.EVENTS.labels("skipped").inc(results.count(SKIP))


class DecodeEvents(beam.DoFn):
    """The decoder as a step of a pipeline: RecordBatch to EventBatch."""

    def __init__(self, decoder_of_process: Callable[[], EventDecoder]) -> None:
        self._decoder_of_process = decoder_of_process

    def setup(self) -> None:
        self._decoder = self._decoder_of_process()

    def process(self, element: RecordBatch) -> Iterable[EventBatch]:
        yield self._decoder.decode(element)


def with_ingest_time(result: BehaviourEvent | Rejection, append_ms: int) -> BehaviourEvent | Rejection:
    """The event, if its own ingest time can drive the log clock."""
    if type(result) is Rejection:
        return result
    ingest_ms = result.ingest_ms
    if ingest_ms is None:
        return Rejection("no_ingest_time", "the event has no ingest_ms, and the job runs with --log_clock=ingest_ms")
    if ingest_ms < FIRST_MS:
        return Rejection("bad_time", f"ingest_ms {ingest_ms} is not in Unix milliseconds of the years 2000 and later")
    if ingest_ms > append_ms + MOST_AHEAD_MS:
        return Rejection("ingest_ahead", f"ingest_ms {ingest_ms} is {ingest_ms - append_ms} ms after the append time")
    return result


def _explain(passed: str, batch: RecordBatch, letters: list[DeadLetter]) -> str:
    first = letters[0]
    reasons = ", ".join(
        f"{reason} {count}" for reason, count in Counter(each.reason for each in letters).most_common(3)
    )
    return (
        f"stopped: {passed}. Topic {batch.topic}, partition {batch.partition}, in offsets {batch.offsets[0]} to "
        f"{batch.offsets[-1]}: {reasons}; the first is offset {first.offset}: {first.reason}, {first.detail}. No letter of "
        f"this batch was written and none of it was passed over: after the cause is mended (a deploy of the producer, "
        f"--format, --mapper, --schema_registry) the job goes on from here. To put all of it aside and go on, raise "
        f"--dead_letter_ratio to 1 and set --dead_letter_run to 0."
    )
