"""Decode: events go on, dead letters are acknowledged first, a bad deploy stops the job."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from schemas import BehaviourEvent, DeadLetter
from schemas.codec import decoder_for, encoder_for
from schemas.wire_mapper import SKIP, event_reader
from transforms.batches import RecordBatch
from transforms.dead_letter_limits import DeadLetterLimits, TooManyDeadLetters
from transforms.decode_events import EventDecoder

NOW = 1_780_000_000_000
encode = encoder_for(BehaviourEvent, "json")


@dataclass
class Written:
    """Stands where the writer stands and keeps what would be written (the writer itself is tested on real brokers)."""

    letters: list[DeadLetter] = field(default_factory=list)

    def write(self, letters: list[DeadLetter]) -> None:
        self.letters += letters


def search(id: str, ingest_ms: int | None = None) -> bytes:
    return encode(BehaviourEvent(id, "u1", "search", NOW, query="red shoes", ingest_ms=ingest_ms))


def batch(values: Sequence[bytes | None], start: int = 0, progress_ms: int | None = None) -> RecordBatch:
    offsets = list(range(start, start + len(values)))
    return RecordBatch(
        "behaviour", "id", 3, start, offsets, [NOW] * len(values), list(values), start + len(values), progress_ms
    )


def event_decoder(log_clock="append", **limits) -> tuple[EventDecoder, list[DeadLetter]]:
    written = Written()
    return EventDecoder(decoder_for(), written, DeadLetterLimits(**limits), log_clock), written.letters  # type: ignore[arg-type]


def test_events_keep_their_offsets_around_a_dead_record() -> None:
    decoder, letters = event_decoder()
    events = decoder.decode(batch([search("a"), b"{", search("b"), None], start=7))
    assert [event.id for event in events.events] == ["a", "b"]
    assert events.offsets == [7, 9]
    assert events.ingest_ms == [NOW, NOW]
    assert (events.start_offset, events.next_offset) == (7, 11)
    assert [(letter.reason, letter.offset, letter.raw) for letter in letters] == [
        ("bad_json", 8, b"{"),
        ("empty", 10, b""),
    ]
    assert {(letter.stage, letter.topic, letter.partition) for letter in letters} == {("decode", "behaviour", 3)}


def test_a_batch_without_records_passes_progress_on() -> None:
    decoder, _ = event_decoder()
    tick = decoder.decode(batch([], start=5, progress_ms=NOW))
    assert (tick.events, tick.next_offset, tick.progress_ms) == ([], 5, NOW)


def test_a_batch_of_dead_records_still_moves_the_offset() -> None:
    decoder, letters = event_decoder()
    assert decoder.decode(batch([b"x"] * 4)).next_offset == 4
    assert len(letters) == 4


def test_an_imported_log_drives_the_clock_by_its_own_ingest_time() -> None:
    decoder, letters = event_decoder("ingest_ms")
    past = 1_313_000_000_000
    events = decoder.decode(batch([search("a", past), search("b", NOW + 60_000)]))
    assert events.ingest_ms == [past, NOW + 60_000]
    assert letters == []


@pytest.mark.parametrize(
    ("ingest_ms", "reason"),
    [(None, "no_ingest_time"), (NOW + 60_001, "ingest_ahead"), (0, "bad_time"), (-1, "bad_time")],
)
def test_an_ingest_time_that_cannot_be_trusted_is_a_dead_letter(ingest_ms: int | None, reason: str) -> None:
    decoder, letters = event_decoder("ingest_ms")
    assert decoder.decode(batch([search("a", ingest_ms)])).events == []
    assert [letter.reason for letter in letters] == [reason]


def test_an_events_own_ingest_time_is_ignored_unless_the_job_was_told_to_trust_it() -> None:
    decoder, letters = event_decoder()
    assert decoder.decode(batch([search("a", NOW * 2)])).ingest_ms == [NOW]
    assert letters == []


def test_a_bad_deploy_stops_the_job_before_any_of_its_letters_is_written() -> None:
    decoder, letters = event_decoder(run=200)
    with pytest.raises(TooManyDeadLetters) as stopped:
        decoder.decode(batch([b'{"id": 1}'] * 2_000, start=4_000))
    assert letters == []
    for said in ("200 records in a row", "behaviour", "partition 3", "offset 4000", "wrong_shape", "--dead_letter_run"):
        assert said in str(stopped.value)


def test_the_run_goes_on_from_batch_to_batch_and_over_partitions() -> None:
    decoder, letters = event_decoder(run=200)
    decoder.decode(batch([b"x"] * 199))
    with pytest.raises(TooManyDeadLetters):
        decoder.decode(batch([b"x"]))
    assert len(letters) == 199


def test_one_good_record_ends_a_run() -> None:
    decoder, _ = event_decoder(run=200)
    for _ in range(4):
        decoder.decode(batch([b"x"] * 199))
        decoder.decode(batch([search("a")] * 400))


def test_too_large_a_share_of_the_last_thousand_stops_the_job() -> None:
    decoder, letters = event_decoder(ratio=0.5)
    half = [b"x", search("a")] * 500
    decoder.decode(batch(half))
    with pytest.raises(TooManyDeadLetters, match="501 of the last 1000"):
        decoder.decode(batch([search("a"), b"x", b"x"] * 400))
    assert len(letters) == 500


def test_a_share_of_few_records_says_nothing() -> None:
    decoder, letters = event_decoder(ratio=0.01)
    decoder.decode(batch([b"x", search("a")] * 10))
    assert len(letters) == 10


def test_the_limits_can_be_lifted_to_put_everything_aside() -> None:
    decoder, letters = event_decoder(ratio=1.0, run=0)
    decoder.decode(batch([b"x"] * 5_000))
    assert len(letters) == 5_000


def test_what_a_mapper_skips_is_neither_event_nor_letter_and_counts_for_no_limit() -> None:
    written = Written()
    read = event_reader(lambda message: SKIP if message == b"view" else "no")
    from schemas.codec import Decoder

    decoder = EventDecoder(Decoder({}, read), written, DeadLetterLimits(run=3))  # type: ignore[arg-type]
    events = decoder.decode(batch([b"view"] * 2_000 + [b"x", b"view", b"x"]))
    assert (events.events, events.next_offset) == ([], 2_003)
    assert [letter.reason for letter in written.letters] == ["mapper_refused"] * 2
