"""Redrive, first half: what each dead letter's record would be given again as, and what the job would make of it. Writes nothing.

The record comes from its topic, byte for byte, while that still holds it; else from the letter. What the job would make of it is no
guess: the same decoder and the same fold are asked, over the shopper's present state.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import Message
from kafka.partitioner.default import murmur2

from interest import EMPTY, Arrival, State, TriggerPolicy, WrongPartition, decode, fold
from schemas import BehaviourEvent, DeadLetter
from schemas.codec import Decoder, encoder_for
from schemas.validate import Rejection
from store.client import NamespaceMeta, ShopperStore
from transforms.decode_events import LogClock, with_ingest_time
from transforms.kafka_clients import KafkaSettings
from transforms.letter_box import NoSuchTopic, Place, Places, SeenLetter, whole_letters
from transforms.letter_cases import LetterCase
from transforms.produce_again import Record

LETTER_HEADER, REDRIVES_HEADER = "aigq-letter", "aigq-redrives"
"""Of every redriven record: the first letter of its case, and how often it has been given again."""
MOST_STATES = 50_000
"""Shoppers' states that a forecast carries on at once."""

MOST_DEAD, MOST_DEAD_SHARE = 100, 0.5
"""More records than these that would be dead letters again could stop the job (--dead_letter_run, --dead_letter_ratio)."""

SKIPS: dict[str, str] = {
    "returned": "redriven before and failed again where it went; --again gives it once more",
    "gone": "deleted from its topic, and the letter cannot stand in for it (it holds the beginning only, or what it holds cannot be "
    "written in the job's format: give --format)",
    "no_topic": "its topic is not at these brokers",
    "not_read": "of a topic that the namespace does not read (any more): no job would take it. Is --namespace right? --force gives it all "
    "the same",
    "no_key": "names no shopper: neither the record (as read with --format and --mapper) nor its key nor the letter",
    "unreadable": "the record in its topic cannot be read with --format and --mapper, so that nothing says it is the letter's; give "
    "what the job runs with",
    "away_from_home": "the shopper's first event came in another partition than the key leads to, and would be refused again; "
    "`aigq rebuild --users FILE` brings the shopper home, then redrive",
    "quarantined": "the shopper is in quarantine and takes no event; `aigq rebuild --users FILE` ends it, then redrive",
    "breaks_the_fold": "this version's fold breaks on it too, and would quarantine the shopper",
    "nothing_known": "nothing is known of the shopper from which a list could be made",
    "erased": "the shopper was erased",
    "before_erasure": "older than the shopper's erasure: what was forgotten stays so",
    "too_large_for_topic": "the topic takes no message of this size",
}
"""Why a letter is not redriven."""
TAKEN_FOR_NOTHING = ("away_from_home", "quarantined", "breaks_the_fold", "before_erasure")
"""Of these, what the job's own rule says of the record. (An erasure that was a dead letter is given again: it takes effect.)"""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of one case before it is given again."""

    case: LetterCase
    expected: str = ""
    """What the job would make of it: folded, duplicate, too_late, erased; `dead REASON`; skipped (by a mapper); readable, where the
    store says nothing of the topic's shoppers; list, for a request of a list; empty where it is skipped here."""
    skip: str = ""
    """A name of SKIPS."""
    record: Record | None = None
    stray_of: str = ""
    """Its record is one that a redrive gave again without having lived to write that down: the case that it belongs to."""


@dataclass
class Outlook:
    """What a redrive will do, or has done, by (reason, topic) of the letters."""

    expected: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """See Look.expected."""
    skipped: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By name in SKIPS."""

    def take(self, look: Look) -> None:
        about = look.case.newest.reason, look.case.newest.topic
        if look.skip:
            self.skipped[about][look.skip] += 1
        else:
            self.expected[about][look.expected] += 1

    @property
    def given(self) -> Counter[str]:
        return sum(self.expected.values(), Counter())

    @property
    def left(self) -> Counter[str]:
        return sum(self.skipped.values(), Counter())

    @property
    def dead_again(self) -> int:
        return sum(count for name, count in self.given.items() if name.startswith("dead "))

    @property
    def stops_the_job(self) -> bool:
        """So much of it would come back that the job's own limits could stop it."""
        return self.dead_again > MOST_DEAD and self.dead_again > MOST_DEAD_SHARE * self.given.total()


@dataclass
class RecordLooks:
    """Looks at cases of the stages decode and track, some at a time, in the order in which they are given again."""

    kafka: KafkaSettings
    dead_letter_topic: str
    store: ShopperStore
    decoder: Decoder
    reading: Places
    format: str = "auto"
    mapped: bool = False
    """The job reads with a mapper: an event of ours cannot be written in its format."""
    log_clock: LogClock = "append"
    unread: bool = False
    """Also records of a topic that the namespace does not read."""
    _partitions: dict[str, int] = field(default_factory=dict)
    _states: dict[str, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pinned: NamespaceMeta | None = self.store.pinned()
        self._policy = TriggerPolicy.from_json(self._pinned.policy) if self._pinned and self._pinned.policy else None
        self._clocks: dict[int, int] = {}
        for (_, partition), applied in self.store.progress().items() if self._pinned else ():
            self._clocks[partition] = max(applied.clock_ms, self._clocks.get(partition, 0))

    def look(self, cases: Sequence[LetterCase]) -> list[Look]:
        """One look a case, in their order."""
        originals = self._originals(cases)
        gone = [case.newest for case in cases if case.id not in originals and not case.newest.cut]
        stand_ins = {seen.id: letter for seen, letter in whole_letters(self.kafka, self.dead_letter_topic, gone)}
        values = [self._value(case, originals.get(case.id), stand_ins.get(case.newest.id)) for case in cases]
        events = [self._event(value) if isinstance(value, bytes) else None for value in values]
        self._load([event.user for event in events if isinstance(event, BehaviourEvent)])
        return [
            self._look(case, originals.get(case.id), value, event)
            for case, value, event in zip(cases, values, events, strict=True)
        ]

    def _originals(self, cases: Sequence[LetterCase]) -> dict[str, Message]:
        by_topic: dict[str, list[LetterCase]] = {}
        for case in cases:
            by_topic.setdefault(case.newest.topic, []).append(case)
        found: dict[str, Message] = {}
        for topic, some in by_topic.items():
            wanted: dict[str, Place] = {case.id: (case.newest.partition, case.newest.offset) for case in some}
            try:
                records = self.reading.at(topic, wanted.values())
                self._partitions[topic] = self._partitions.get(topic) or len(self.reading.partitions(topic))
            except NoSuchTopic:
                continue
            found |= {id: records[place] for id, place in wanted.items() if place in records}
        return found

    def _value(self, case: LetterCase, original: Message | None, letter: DeadLetter | None) -> bytes | str:
        """The bytes to give again, or why there are none."""
        seen = case.newest
        if seen.topic not in self._partitions:
            return "no_topic"
        if original is not None:
            value = original.value() or b""
            if seen.stage == "decode" and seen.is_of(value):
                return value
            if seen.stage == "track":
                event = self._event(value)
                if isinstance(event, Rejection):
                    return "unreadable"
                if event.user == seen.user:
                    return value
        if letter is None:
            return "gone"  # or another record lies at its place: the topic was made anew
        return letter.raw if seen.stage == "decode" else self._encoded(letter)

    def _encoded(self, letter: DeadLetter) -> bytes | str:
        if self.mapped or self.format == "confluent":
            return "gone"
        event = msgspec.json.decode(letter.raw, type=BehaviourEvent)
        return encoder_for(BehaviourEvent, "json" if self.format == "json" else "avro")(event)

    def _event(self, value: bytes) -> BehaviourEvent | Rejection:
        (result,) = self.decoder.decode([value])
        if self.log_clock == "ingest_ms" and isinstance(result, BehaviourEvent):
            return with_ingest_time(result, result.ingest_ms or 0)
        return result

    def _look(
        self, case: LetterCase, original: Message | None, value: bytes | str, event: BehaviourEvent | Rejection | None
    ) -> Look:
        if isinstance(value, str):
            return Look(case, skip=value)
        headers = dict(original.headers() or []) if original is not None else {}
        owner = (headers.get(LETTER_HEADER) or b"").decode()  # type: ignore[union-attr]
        if owner and owner != case.id:
            return Look(case, skip="returned", stray_of=owner)
        key = _key(case.newest, original, event)
        if not key:
            return Look(case, skip="no_key")
        topic = case.newest.topic
        if self._pinned and topic != self._pinned.topic and not self.unread:
            return Look(case, skip="not_read")
        expected = self._expected(event, topic, partition_of(key, self._partitions[topic]))
        if expected in TAKEN_FOR_NOTHING:
            return Look(case, skip=expected)
        headers |= {LETTER_HEADER: case.id.encode(), REDRIVES_HEADER: b"%d" % (case.redrives + 1)}
        return Look(case, expected, record=Record(topic, key, value, list(headers.items())))  # type: ignore[arg-type]

    def _expected(self, event: BehaviourEvent | Rejection | None, topic: str, partition: int) -> str:
        if not isinstance(event, BehaviourEvent):
            assert event is not None
            return "skipped" if event.reason == "skipped" else f"dead {event.reason}"
        if self._policy is None or self._pinned is None or self._pinned.topic != topic:
            return "readable"
        state = self._states.get(event.user, EMPTY)
        clock = max(self._clocks.get(partition, 0), event.ingest_ms or 0 if self.log_clock == "ingest_ms" else 0)
        try:
            step = fold(state, event, Arrival(partition, state.offset + 1, clock), self._policy)
        except WrongPartition:
            return "away_from_home"
        except Exception:  # whatever breaks the fold breaks it in the job too
            return "breaks_the_fold"
        self._states[event.user] = step.state
        return step.outcome

    def _load(self, users: Sequence[str]) -> None:
        """States that the forecast does not carry on yet."""
        if self._policy is None:
            return
        if len(self._states) > MOST_STATES:
            self._states.clear()
        missing = [user for user in dict.fromkeys(users) if user not in self._states]
        found = self.store.states(missing)
        self._states |= {user: decode(found[user].blob) if user in found else EMPTY for user in missing}


def _key(letter: SeenLetter, original: Message | None, event: BehaviourEvent | Rejection | None) -> bytes:
    """The shopper, by whom the job's topic is keyed. The record itself knows best: a wrong key is what some letters are about."""
    if isinstance(event, BehaviourEvent):
        return event.user.encode()
    if letter.user:
        return letter.user.encode()
    return (original.key() if original is not None else None) or b""  # type: ignore[return-value]


def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's own partitioner, to which the namespace is pinned."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
