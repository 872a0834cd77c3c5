"""The way of a record through decoder, limits, dead letters, fold and store, and what became of it."""

from collections import Counter
from dataclasses import dataclass, field

from prometheus_client import REGISTRY

from interest import State, TriggerPolicy, decode
from interest.state import behaviours_of
from schemas import DeadLetter
from schemas.codec import Decoder, decoder_for
from schemas.wire_avro import reader
from schemas.wire_confluent import RegistryUnavailable
from store.client import ShopperStore
from tests.integration.reading import records_in
from transforms.batches import RecordBatch
from transforms.dead_letter_limits import DeadLetterLimits, TooManyDeadLetters
from transforms.dead_letters import DeadLettersUnavailable, DeadLetterWriter
from transforms.decode_events import EventDecoder, LogClock
from transforms.track_interest import Tracker

NOW = 1_780_000_000_000
POLICY = TriggerPolicy()
read_letter = reader(DeadLetter)


@dataclass
class Way:
    """What the reader would hand over is `feed`ed."""

    store: ShopperStore
    bootstrap: str
    letter_topic: str
    decoder: Decoder = field(default_factory=decoder_for)
    log_clock: LogClock = "append"
    policy: TriggerPolicy = POLICY
    limits: DeadLetterLimits = field(default_factory=DeadLetterLimits)
    next_offset: Counter[int] = field(default_factory=Counter)
    stopped: Exception | None = None
    letters_before: int = field(default_factory=lambda: letters_counted())  # noqa: PLW0108
    seen_before: dict[str, float] = field(default_factory=lambda: events_counted())  # noqa: PLW0108 (defined below)

    def __post_init__(self) -> None:
        self.writer = DeadLetterWriter({"bootstrap.servers": self.bootstrap}, self.letter_topic, deadline_s=20)
        self.tracker = Tracker(self.store, self.policy, self.writer, DeadLetterLimits(), lambda *_: None)

    def feed(self, *values: bytes | None, append_ms: list[int] | int = NOW, partition: int = 0) -> None:
        """One batch of records through the steps."""
        start = self.next_offset[partition]
        end = start + len(values)
        times = append_ms if isinstance(append_ms, list) else [append_ms] * len(values)
        batch = RecordBatch("behaviour", "id", partition, start, list(range(start, end)), times, list(values), end)
        decoder = EventDecoder(self.decoder, self.writer, self.limits, self.log_clock)
        try:
            self.tracker.track(decoder.decode(batch))
        except (TooManyDeadLetters, DeadLettersUnavailable, RegistryUnavailable) as error:
            self.stopped = error
            return
        self.next_offset[partition] = end

    def state(self, user: str) -> State:
        stored = self.store.state(user)
        assert stored is not None, f"{user!r} has no state"
        return decode(stored.blob)

    def texts(self, user: str) -> list[str]:
        return [behaviour.text for behaviour in behaviours_of(self.state(user))]

    def letters(self) -> list[DeadLetter]:
        """As many letters as are counted, from the broker."""
        count = letters_counted() - self.letters_before
        letters = [read_letter(each.value()) for each in records_in(self.bootstrap, self.letter_topic, count, 0)]  # type: ignore[arg-type]
        return [letter for letter in letters if isinstance(letter, DeadLetter)]

    def ended_as(self) -> set[str]:
        """The outcomes of all that was fed, a dead record by its reason."""
        if self.stopped:
            return {"stops"}
        counted = events_counted()
        outcomes = {name for name, count in counted.items() if count > self.seen_before.get(name, 0)} - {"dead"}
        return outcomes | {letter.reason for letter in self.letters()}


def events_counted() -> dict[str, float]:
    (metric,) = (m for m in REGISTRY.collect() if m.name == "aigq_events")
    return {s.labels["outcome"]: s.value for s in metric.samples if s.name == "aigq_events_total"}


def letters_counted() -> int:
    (metric,) = (m for m in REGISTRY.collect() if m.name == "aigq_dead_letters")
    return int(sum(s.value for s in metric.samples if s.name == "aigq_dead_letters_total"))
