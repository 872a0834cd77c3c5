"""Single shoppers' states as the records read so far make them, for `aigq rebuild --users`: by the job's own fold, each at home.

Home is where the namespace's partitioner leads, as soon as the log holds a record of the shopper there. The job takes the
partition that it meets first, so that a producer with another partitioner can keep a shopper away from home for good.
"""

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from interest import EMPTY, Arrival, State, TriggerPolicy, fold
from pipelines.options import NearlineSettings
from pipelines.readable import event_decoder
from pipelines.recount import Recount, count_of
from schemas import DeadLetter
from transforms.batches import EventBatch, RecordBatch
from transforms.dead_letters import DeadLetterWriter
from transforms.redriven_records import partition_of
from transforms.track_interest import track_letter

LOG = logging.getLogger(__name__)
Place = tuple[int, int]
"""Partition and offset."""


class Unreadable(DeadLetterWriter):
    """Counts the records that cannot be read. One that was blanked is no record any more."""

    def __init__(self, newest: Mapping[Place, str]):
        super().__init__({}, "")
        self._newest = newest
        self.count = 0
        self.first = ""
        self.of: dict[str, str] = {}
        """Shoppers whose newest record the job could read, and this reading cannot."""

    def write(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            if not letter.raw:
                continue
            self.count += 1
            said = (
                f"partition {letter.partition} offset {letter.offset} cannot be read: {letter.reason}, {letter.detail}"
            )
            self.first = self.first or said
            if user := self._newest.get((letter.partition, letter.offset)):
                self.of[user] = said


class Folding:
    """Folds batches of records, each partition's in offset order.

    newest   place of the newest record of each shopper whom the store knows
    """

    def __init__(
        self,
        settings: NearlineSettings,
        users: Sequence[str],
        partitions: int,
        policy: TriggerPolicy,
        newest: Mapping[Place, str],
    ):
        self._policy = policy
        self._unreadable = Unreadable(newest)
        self._decoder = event_decoder(settings, self._unreadable)
        self._by_key = {user: partition_of(user.encode(), partitions) for user in users}
        self._states: dict[str, dict[int, State]] = {user: {} for user in users}
        self._recounts: dict[int, Recount] = {}
        self._astray: dict[tuple[str, int], deque[DeadLetter]] = {}
        self._clocks: dict[int, int] = {}
        self._broken: dict[str, str] = {}
        self._begins: dict[int, int] = {}
        self.records = 0

    @property
    def unreadable(self) -> int:
        return self._unreadable.count

    @property
    def first_unreadable(self) -> str:
        return self._unreadable.first

    @property
    def broken(self) -> dict[str, str]:
        """Shoppers whose state cannot be made, and which record is why."""
        return self._unreadable.of | self._broken

    def covers(self, state: State) -> bool:
        """Whether the newest record of a state lies in what was read: else nothing can be said of the shopper."""
        return state.partition in self._begins and self._begins[state.partition] <= state.offset

    def state(self, user: str, held_in: int) -> State:
        """EMPTY where the log has no record of the shopper. `held_in`: partition of the state that the store holds."""
        states = self._states[user]
        for home in (self._by_key[user], held_in):
            if home in states:
                return states[home]
        return next(iter(states.values()), EMPTY)

    def astray(self, user: str, partition: int) -> Sequence[DeadLetter]:
        """The shopper's newest records in a partition that is not their home, as the letters that the job makes of such: as many as
        a state remembers."""
        return tuple(self._astray.get((user, partition), ()))

    def add(self, records: RecordBatch) -> None:
        """Requests that fire on the way are history: their lists were made, or are asked for at the end."""
        self.records += len(records.offsets)
        self._begins.setdefault(records.partition, records.start_offset)
        batch = self._decoder.decode(records)
        clock = self._clocks.get(batch.partition, 0)
        kept = []
        for position, (offset, ingest_ms, event) in enumerate(
            zip(batch.offsets, batch.ingest_ms, batch.events, strict=True)
        ):
            clock = max(clock, ingest_ms)
            if event.user not in self._states or event.user in self._broken:
                continue
            kept.append(position)
            arrival = Arrival(batch.partition, offset, clock)
            states = self._states[event.user]
            try:
                step = fold(states.get(batch.partition, EMPTY), event, arrival, self._policy)
            except Exception as error:  # the fold is not mended for this one: left as it is, and said
                LOG.exception("partition %d offset %d breaks the fold", batch.partition, offset)
                self._broken[event.user] = f"partition {batch.partition} offset {offset} breaks the fold: {error!r}"
                continue
            states[batch.partition] = step.state
            if batch.partition != self._by_key[event.user]:
                letter = track_letter(batch, arrival, event, "wrong_partition", "the shopper was brought home")
                newest = deque[DeadLetter](maxlen=self._policy.behaviours_kept)
                self._astray.setdefault((event.user, batch.partition), newest).append(letter)
        self._clocks[batch.partition] = clock
        self._recounts.setdefault(batch.partition, Recount(self._policy)).add(_only(batch, kept))

    def differences(self) -> Iterator[str]:
        """Where fold and count do not agree."""
        counts = {partition: recount.counts() for partition, recount in self._recounts.items()}
        for user, states in self._states.items():
            for partition, state in states.items() if user not in self._broken else ():
                if count_of(state) != (counted := counts[partition].get(user)):
                    yield f"{user}: folded {count_of(state)}, counted {counted}"


def _only(batch: EventBatch, positions: Sequence[int]) -> EventBatch:
    return replace(
        batch,
        offsets=[batch.offsets[p] for p in positions],
        ingest_ms=[batch.ingest_ms[p] for p in positions],
        events=[batch.events[p] for p in positions],
    )
