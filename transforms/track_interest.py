"""Track: a batch of events moves the states of its shoppers, one load and one save for all shards of the store.

The truth about what was done is the applied offset that every save carries: a shard takes a batch only where the last one
ended. So a record read twice changes nothing, a shard that lost its newest saves is noticed (`behind`) and read again, and
the job can die at any instant.
"""

import logging
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field

import apache_beam as beam
import msgspec

from interest import EMPTY, Arrival, TriggerPolicy, WrongPartition, decode, due_ms, encode, fold, quarantine
from schemas import BehaviourEvent, Change, DeadLetter
from store.client import Applied, Fired, SaveResult, ShardSave, ShopperStore, StateChange, StoredState
from transforms import metrics
from transforms.batches import EventBatch
from transforms.dead_letter_limits import DeadLetterLimits, TooManyDeadLetters
from transforms.dead_letters import DeadLetterWriter

LOG = logging.getLogger(__name__)

PROGRESS_MS = 100
"""A shard without events is told the log clock this often, so that its due changes fire."""
MOST_CONFLICTS = 20
"""Saves of one batch that may meet a state changed by the other stage. More means a second writer that is not fenced."""

encode_change = msgspec.msgpack.Encoder().encode


class TooManyConflicts(Exception):
    """Two writers change the same shoppers, and neither is fenced. See `aigq status` for the writers."""


@dataclass
class PartitionPosition:
    """What this process knows of one partition: how far each shard is, and the log clock."""

    applied: dict[int, Applied]
    """By shard. A shard that never was written starts with the first batch."""
    next_offset: int = -1
    """Where the newest batch ended."""
    clock_ms: int = 0
    """Log clock at `next_offset`: running maximum of ingest time."""
    idle_floor_ms: int = 0
    """Progress made without a record (at a proven end, at the end of a window); an earlier record is clamped to it."""
    saved_at: dict[int, float] = field(default_factory=dict)
    """Monotonic seconds of each shard's last save."""
    seen: dict[int, int] = field(default_factory=dict)
    """By shard, the offset up to which nothing is left to do: beyond the applied one lay records of other shards only."""

    def ends(self, shard: int) -> int:
        """The first offset at which the shard may have something to do."""
        return max(self.applied[shard].next_offset, self.seen.get(shard, 0))


@dataclass(frozen=True)
class Tracker:
    """Moves states in the store. One per process and namespace; a batch at a time per partition."""

    store: ShopperStore
    policy: TriggerPolicy
    letters: DeadLetterWriter
    limits: DeadLetterLimits
    """Of its own: a record that breaks the fold passed the decoder as good."""
    rewind: Callable[[str, int, int], None]
    """Asks the reader to go back: topic, partition, offset."""
    requests: bool = True
    """Whether a change asks for a list. False: states move, and what comes due is forgotten."""
    positions: dict[int, PartitionPosition] = field(default_factory=dict)

    def track(self, batch: EventBatch) -> None:
        """Folds a batch into the store. Returns when it is saved, or when the reader was asked to read it again.

        Raises StoreUnavailable, WriterFenced, TooManyConflicts, TooManyDeadLetters: the process ends and its supervisor starts it again.
        """
        position = self.positions.get(batch.partition) or self._position(batch)
        arrivals, clamped = self._arrivals(batch, position)
        now = time.monotonic()
        due_for_progress = [
            shard
            for shard in range(self.store.shards)
            if batch.closing or shard in arrivals or now - position.saved_at.get(shard, 0.0) >= PROGRESS_MS / 1000
        ]
        for shard in position.applied:
            if shard not in due_for_progress and position.ends(shard) >= batch.start_offset:
                position.seen[shard] = batch.next_offset
        pending = due_for_progress
        for _ in range(MOST_CONFLICTS):
            results = self._fold_and_save(
                batch, position, {shard: arrivals.get(shard, []) for shard in pending}, clamped
            )
            pending = [shard for shard, result in results.items() if self._again(batch, position, shard, result)]
            for shard in results:
                position.saved_at[shard] = now
            if not pending:
                return
        raise TooManyConflicts(
            f"partition {batch.partition} up to offset {batch.next_offset}: {MOST_CONFLICTS} saves in a row met states "
            f"that another writer had changed (shards {pending}). Is a second job of an older version running?"
        )

    @property
    def quiet_s(self) -> float | None:
        """Seconds since the last save; None before the first."""
        saved_at = [at for position in self.positions.values() for at in position.saved_at.values()]
        return time.monotonic() - max(saved_at) if saved_at else None

    def _position(self, batch: EventBatch) -> PartitionPosition:
        position = PartitionPosition(self.store.applied(batch.partition))
        self.positions[batch.partition] = position
        behind = [a.next_offset for a in position.applied.values() if a.next_offset < batch.start_offset]
        if behind:  # the store went back after the job had asked it where to begin
            self.rewind(batch.topic, batch.partition, min(behind))
        return position

    def _arrivals(
        self, batch: EventBatch, position: PartitionPosition
    ) -> "tuple[dict[int, list[tuple[Arrival, BehaviourEvent]]], set[int]]":
        """Events by shard with their log clock, and the offsets of those that came after their time; moves the partition's clock to
        the end of the batch."""
        if batch.start_offset != position.next_offset:
            # At the start, and when records are read again: the log clock there is what the shards that end there were told.
            before = [a.clock_ms for a in position.applied.values() if a.next_offset <= batch.start_offset]
            position.clock_ms, position.idle_floor_ms = max(before, default=0), 0
        shards, partition, clock = self.store.shards, batch.partition, position.clock_ms
        arrivals: dict[int, list[tuple[Arrival, BehaviourEvent]]] = {}
        clamped: set[int] = set()
        for offset, ingest_ms, event in zip(batch.offsets, batch.ingest_ms, batch.events, strict=True):
            if ingest_ms > clock:
                clock = ingest_ms
            elif ingest_ms < position.idle_floor_ms:
                clamped.add(offset)
            shard = zlib.crc32(event.user.encode()) % shards
            arrivals.setdefault(shard, []).append((Arrival(partition, offset, clock), event))
        if batch.progress_ms is not None:
            clock = position.idle_floor_ms = max(clock, batch.progress_ms)
        if clamped:
            metrics.CLAMPED.labels(partition).inc(len(clamped))
        position.clock_ms, position.next_offset = clock, batch.next_offset
        metrics.PROGRESS_AGE.labels(partition).set(max(0.0, time.time() - clock / 1000))
        return arrivals, clamped

    def _fold_and_save(
        self,
        batch: EventBatch,
        position: PartitionPosition,
        arrivals: "dict[int, list[tuple[Arrival, BehaviourEvent]]]",
        clamped: Set[int],
    ) -> dict[int, SaveResult]:
        # What a shard already holds is skipped. A shard ahead of the whole batch has nothing to do, and one that ends before
        # the batch begins waits for the records in between, which are being read again.
        todo: dict[int, list[tuple[Arrival, BehaviourEvent]]] = {}
        for shard, events in arrivals.items():
            applied = position.applied.get(shard)
            if applied is None:
                todo[shard] = events
            elif batch.start_offset <= position.ends(shard) and applied.next_offset <= batch.next_offset:
                todo[shard] = [pair for pair in events if pair[0].offset >= applied.next_offset]
        users = {shard: list(dict.fromkeys(event.user for _, event in events)) for shard, events in todo.items()}
        loaded = self.store.load_many({shard: names for shard, names in users.items() if names})
        saves: list[ShardSave] = []
        for shard, events in todo.items():
            applied = position.applied.get(shard) or Applied(batch.start_offset, 0)
            stored = dict(zip(users[shard], loaded.get(shard, []), strict=True))
            changes = list(self._fold(batch, events, stored, applied.clock_ms))
            clock = max(position.clock_ms, applied.clock_ms)
            late = sum(seen.offset in clamped for seen, _ in events) if clamped else 0
            saves.append(
                ShardSave(shard, batch.partition, applied.next_offset, batch.next_offset, clock, changes, late)
            )
        results = self.store.save_many(saves)
        return {save.shard: result for save, result in zip(saves, results, strict=True)}

    def _fold(
        self,
        batch: EventBatch,
        events: "list[tuple[Arrival, BehaviourEvent]]",
        stored: dict[str, StoredState | None],
        floor_clock_ms: int,
    ) -> Iterator[StateChange]:
        """The changed states of one shard. `floor_clock_ms` is the progress the shard has already been told."""
        states = {user: decode(state.blob) if state else EMPTY for user, state in stored.items()}
        fired: dict[str, list[Change]] = {}
        erased: dict[str, int] = {}
        outcomes: dict[str, int] = {}
        letters: list[DeadLetter] = []
        refused: set[int] = set()
        for seen, event in events:
            arrival = seen if seen.clock_ms >= floor_clock_ms else seen._replace(clock_ms=floor_clock_ms)
            state, user = states[event.user], event.user
            try:
                state, changes, outcome = fold(state, event, arrival, self.policy)
            except Exception as error:
                reason = "wrong_partition" if isinstance(error, WrongPartition) else "broke_the_fold"
                if reason == "broke_the_fold":
                    LOG.exception("partition %d offset %d broke the fold", arrival.partition, arrival.offset)
                    states[user] = quarantine(state, arrival)
                letters.append(track_letter(batch, arrival, event, reason, repr(error)))
                refused.add(arrival.offset)
                outcome = "dead"
            else:
                states[user] = state
                if changes:
                    fired.setdefault(user, []).extend(changes)
                if outcome == "erased":
                    erased[user] = arrival.clock_ms
                elif outcome == "quarantined":
                    letters.append(track_letter(batch, arrival, event, outcome, f"since offset {state.broken_at}"))
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if passed := self.limits.passed([seen.offset in refused for seen, _ in events]):
            first = letters[0]
            raise TooManyDeadLetters(
                f"stopped: {passed}. Topic {batch.topic}, partition {batch.partition}: records that could be read cannot be "
                f"folded in; offset {first.offset}: {first.reason}, {first.detail}. No letter of these was written and none was "
                f"passed over: the job goes on from here once the cause is mended (this job's own version, or the producer's "
                f"partitioner). To put all of it aside, raise --dead_letter_ratio to 1 and set --dead_letter_run to 0."
            )
        if letters:
            self.letters.write(letters)  # acknowledged before the save that moves the offset past them
        for outcome, count in outcomes.items():
            metrics.EVENTS.labels(outcome).inc(count)
        metrics.CHANGES.inc(sum(len(changes) for changes in fired.values()))
        for user, state in states.items():
            changes = fired.get(user, ()) if self.requests else ()
            before = stored[user]
            yield StateChange(
                user,
                before.token if before else b"",
                encode(state),
                due_ms(state, self.policy),
                tuple(Fired(change.run_id, change.as_of_ms, encode_change(change)) for change in changes),
                erased.get(user),
            )

    def _again(self, batch: EventBatch, position: PartitionPosition, shard: int, result: SaveResult) -> bool:
        """Takes note of a save's result; says whether the shard is to be folded again."""
        if result.status == "saved":
            position.applied[shard] = Applied(batch.next_offset, position.clock_ms)
            return False
        if result.status == "conflict":
            metrics.CONFLICTS.inc()
            return True
        assert result.applied is not None
        position.applied[shard] = result.applied
        if result.status == "ahead":
            return result.applied.next_offset < batch.next_offset
        # Behind: the shard was rolled back (an older append-only file, a lost replica). What it lost is read again; shards
        # that hold it skip it.
        LOG.error(
            "shard %d of partition %d is at offset %d, expected %d: the store lost saves; reading them again",
            shard,
            batch.partition,
            result.applied.next_offset,
            batch.next_offset,
        )
        metrics.REWINDS.inc()
        position.seen.pop(shard, None)
        self.rewind(batch.topic, batch.partition, result.applied.next_offset)
        return False


def track_letter(batch: EventBatch, arrival: Arrival, event: BehaviourEvent, reason: str, detail: str) -> DeadLetter:
    return DeadLetter(
        stage="track",
        reason=reason,
        detail=detail,
        topic=batch.topic,
        partition=batch.partition,
        offset=arrival.offset,
        time_ms=int(time.time() * 1000),
        user=event.user,
        raw=msgspec.json.encode(event),
    )


class TrackInterest(beam.DoFn):
    """The tracker as a step of a pipeline. Emits nothing: its output is in the store."""

    def __init__(self, tracker_of_process: Callable[[], Tracker]):
        self._tracker_of_process = tracker_of_process

    def setup(self) -> None:
        self._tracker = self._tracker_of_process()

    def process(self, element: EventBatch) -> Iterable[None]:
        self._tracker.track(element)
        return ()
