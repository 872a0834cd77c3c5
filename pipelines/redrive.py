"""Redrive: the records of dead letters are given again, to their own topic, so that the live job takes them like any other.

At most once to effect: a letter is written down as redriven when the broker has acknowledged its record. A redrive that dies between
the two gives at most a few records twice, and the fold knows the second by its event's id. What fails again where it went is
quarantined (transforms/letter_cases.py).
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import KafkaError, Producer
from msgspec import Struct
from msgspec.structs import replace

from interest import decode
from pipelines.list_requests import clocks_of
from pipelines.operation import Running, running
from pipelines.screen import Screen
from pipelines.unmoved import unmoved
from schemas.codec import Decoder
from store.client import ShopperStore, Wanted
from store.letters import LetterFate, LetterRegistry
from transforms.decode_events import LogClock
from transforms.kafka_clients import KafkaSettings
from transforms.letter_box import places
from transforms.letter_cases import LetterCase, LetterFilter
from transforms.produce_again import MESSAGE_TIMEOUT_S, deliver, producer
from transforms.redriven_records import Look, Outlook, RecordLooks
from transforms.throttle import Throttle
from transforms.want_lists import wanted_list

AT_ONCE = 200
"""Letters looked at together; at most so many records are given twice by a redrive that is killed."""


class RedriveFailed(Exception):
    """The broker did not take a record. Names the topic and its answer."""


class RedriveAsked(Struct, frozen=True, omit_defaults=True):
    """What is asked for, and how the job reads."""

    dead_letter_topic: str
    filter: LetterFilter
    again: bool = False
    """Also what was redriven before and failed again."""
    format: str = "auto"
    schema_registry: str = ""
    mapper: str = ""
    log_clock: LogClock = "append"
    force: bool = False
    """Also records of a topic that the namespace does not read."""


class RedrivePlace(Struct, frozen=True):
    """The checkpoint."""

    clocks: dict[int, int]
    """Log clock by partition when the operation began: the as-of of lists that it asks for."""
    letter: str = ""
    """The newest that was given again."""


class Redrive:
    """Of one filter's letters. `cases` are all of the topic's cases that the filter holds."""

    def __init__(
        self,
        kafka: KafkaSettings,
        store: ShopperStore,
        asked: RedriveAsked,
        decoder: Decoder,
        cases: Sequence[LetterCase],
    ):
        self._kafka, self._store, self._asked, self._decoder = kafka, store, asked, decoder
        self._registry = LetterRegistry(store.calls)
        self._cases = {case.id: case for case in cases}
        self.strays: dict[str, LetterFate] = {}
        """Found by `preview`: cases whose record was given again by a redrive that died before it could say so."""

    def preview(self) -> Outlook:
        """What would be done. Raises KafkaException, TimeoutError, StoreUnavailable."""
        outlook = Outlook()
        owners: dict[str, str] = {}
        with self._looks() as looks:
            for batch in self._batches():
                for look in self._look(looks, batch):
                    outlook.take(look)
                    if look.stray_of:
                        owners[look.case.id] = look.stray_of
        if not owners:
            return outlook
        self._adopt(owners)
        return self.preview()

    def execute(self, planned: int, per_second: float, screen: Screen) -> tuple[Outlook, str, dict[str, LetterFate]]:
        """Gives them again. Returns what was done, the operation's id, and the fates of what was given.

        planned: how many, by `preview`, which comes first.

        Raises RedriveFailed, Stopped, KafkaException, TimeoutError, StoreUnavailable, WriterFenced.
        """
        outlook, given = Outlook(), dict[str, LetterFate]()
        if any(case.newest.stage == "generate" for case in self._to_look_at()):
            with unmoved(self._store):
                self._store.begin("redrive")
        out = producer(self._kafka)
        with running(self._store, "redrive", self._asked) as run, self._looks() as looks:
            if self.strays:
                self._registry.note({id: replace(fate, operation=run.id) for id, fate in self.strays.items()})
            step = _Step(self._registry, run, screen, Throttle(per_second), given)
            step.begin(clocks_of(self._store), planned)
            for batch in self._batches():
                looked = self._look(looks, batch)
                records = [look for look in looked if look.record]
                refused = step.produce(out, records)
                lists = [look for look in looked if look.expected == "list"]
                refused |= step.ask_for_lists(
                    self._store, lists, self._wanted([look.case for look in lists], step.clocks, run.id)
                )
                for look in looked:
                    outlook.take(Look(look.case, skip=refused.get(look.case.id, look.skip), expected=look.expected))
                step.note(outlook)
            step.note(outlook, now=True)
        return outlook, run.id, given

    def _to_look_at(self) -> list[LetterCase]:
        """Cases that may be given again, in the order of their places, so that a shopper's events keep theirs."""
        return [case for case in self._cases.values() if case.status in ("open", "returned")]

    def _batches(self) -> Iterator[list[LetterCase]]:
        cases = self._to_look_at()
        for at in range(0, len(cases), AT_ONCE):
            yield cases[at : at + AT_ONCE]

    def _look(self, looks: RecordLooks, cases: Sequence[LetterCase]) -> list[Look]:
        settled = {
            case.id: Look(case, skip="returned")
            for case in cases
            if case.status == "returned" and not self._asked.again
        }
        lists = [case for case in cases if case.newest.stage == "generate" and case.id not in settled]
        wanted = self._wanted(lists, clocks_of(self._store) if lists else {}, "preview")
        for case in lists:
            known = case.newest.user in wanted
            settled[case.id] = Look(case, "list") if known else Look(case, skip="nothing_known")
        records = [case for case in cases if case.id not in settled]
        settled |= {look.case.id: look for look in looks.look(records)}
        return [settled[case.id] for case in cases]

    @contextmanager
    def _looks(self) -> Iterator[RecordLooks]:
        asked = self._asked
        with places(self._kafka) as reading:
            yield RecordLooks(
                self._kafka,
                asked.dead_letter_topic,
                self._store,
                self._decoder,
                reading,
                asked.format,
                bool(asked.mapper),
                asked.log_clock,
                asked.force,
            )

    def _wanted(self, about: Iterable[LetterCase], clocks: Mapping[int, int], operation: str) -> dict[str, Wanted]:
        """A request by shopper, where enough is known of him."""
        users = {case.newest.user for case in about}
        pinned = self._store.pinned() if users else None
        if pinned is None:
            return {}
        wanted: dict[str, Wanted] = {}
        for user, stored in self._store.states(sorted(users)).items():
            state = decode(stored.blob)
            request = wanted_list(user, state, clocks.get(state.partition, 0), operation, pinned.policy_digest)
            if request:
                wanted[user] = request
        return wanted

    def _adopt(self, owners: dict[str, str]) -> None:
        """Letters whose records were given again by a redrive that died before it could write that down join their cases."""
        now = int(time.time() * 1000)
        for id, owner in owners.items():
            stray = self._cases.pop(id)
            case = self._cases.get(owner)
            fate = self.strays.get(owner) or self._registry.get(owner) or LetterFate("redriven", now)
            went = tuple(sorted({*fate.places, id}, key=lambda place: int(place.rpartition("/")[2])))
            self.strays[owner] = fate = replace(fate, time_ms=now, places=went, redrives=len(went))
            letters = (*(case.letters if case else ()), *stray.letters)
            newest = sorted(letters, key=lambda letter: went.index(letter.id) if letter.id in went else -1)
            self._cases[owner] = LetterCase(owner, tuple(newest), fate, stray.times)


@dataclass
class _Step:
    """What an execution does with a batch, and what it writes down after each."""

    registry: LetterRegistry
    run: Running
    screen: Screen
    throttle: Throttle
    given: dict[str, LetterFate]
    place: RedrivePlace = field(default_factory=lambda: RedrivePlace({}))
    _before: int = 0

    @property
    def clocks(self) -> dict[int, int]:
        return self.place.clocks

    def begin(self, clocks: dict[int, int], planned: int) -> None:
        checkpoint = self.run.progress.checkpoint
        self.place = msgspec.json.decode(checkpoint, type=RedrivePlace) if checkpoint else RedrivePlace(clocks)
        self._before = self.run.progress.counts.get("redriven", 0)
        self.run.note(self._checkpoint(), of=self._before + planned, now=True)

    def produce(self, out: Producer, looks: Sequence[Look]) -> dict[str, str]:
        """Gives the records again, as fast as it may; returns why some were not, by case. Raises RedriveFailed."""
        refused: dict[str, str] = {}
        waiting = list(looks)
        while waiting:
            most = self.throttle.allowed(time.monotonic())
            if most < 1:
                self.note()
                time.sleep(0.02)
                continue
            some, waiting = waiting[:most], waiting[most:]
            self.throttle.took(len(some))
            self.run.check()
            went, failed = deliver(out, {look.case.id: look.record for look in some if look.record})
            self._write_down([(look.case, went[look.case.id]) for look in some if look.case.id in went])
            for id, error in failed.items():
                if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise RedriveFailed(
                        f"letter {id}: the broker did not take its record within {MESSAGE_TIMEOUT_S} s: {error.str()}. What "
                        f"was taken before is written down; the same command goes on"
                    )
                refused[id] = "too_large_for_topic"
        return refused

    def ask_for_lists(self, store: ShopperStore, looks: Sequence[Look], wanted: dict[str, Wanted]) -> dict[str, str]:
        """Asks for a new list in place of one that could not be made."""
        asked = [wanted[user] for user in sorted({look.case.newest.user for look in looks} & wanted.keys())]
        answers = dict(zip((each.user for each in asked), store.want("redrive", asked, low=True), strict=True))
        refused = {look.case.id: "erased" for look in looks if answers.get(look.case.newest.user) == "refused"}
        refused |= {look.case.id: "nothing_known" for look in looks if look.case.newest.user not in wanted}
        self._write_down(
            [
                (look.case, f"run/{wanted[look.case.newest.user].run_id}")
                for look in looks
                if look.case.id not in refused
            ]
        )
        return refused

    def note(self, outlook: Outlook | None = None, now: bool = False) -> None:
        done = self._before + len(self.given)
        counts = self.run.progress.counts | {"redriven": done}
        if outlook:
            counts = {"redriven": done} | dict(outlook.given)
            counts |= {f"left: {name}": count for name, count in outlook.left.items()}
        self.run.note(self._checkpoint(), counts, done, now=now)
        self.screen.show(self.run.progress)

    def _write_down(self, went: Sequence[tuple[LetterCase, str]]) -> None:
        now = int(time.time() * 1000)
        fates: dict[str, LetterFate] = {}
        for case, place in went:
            before = case.fate.places if case.fate else ()
            fates[case.id] = LetterFate("redriven", now, case.redrives + 1, (*before, place), self.run.id)
        self.registry.note(fates)
        self.given |= fates
        if went:
            self.place = replace(self.place, letter=next(reversed(fates)))

    def _checkpoint(self) -> str:
        return msgspec.json.encode(self.place).decode()
