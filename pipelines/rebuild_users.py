"""Folds single shoppers anew, in the running namespace: from a corrected archive, or to end a quarantine.

Their records are read again from the beginning, up to where the namespace is, and folded by the same rule as ever; the state
takes the old one's place only if the job has not moved it meanwhile (then what came since is read too). Afterwards a list as of
now is asked for: a correction is newer than what it corrects.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from interest import EMPTY, Arrival, State, TriggerPolicy, WrongPartition, decode, due_ms, encode, fold
from pipelines.nearline import read_settings
from pipelines.operation import Running, running
from pipelines.options import NearlineSettings
from pipelines.rebuild import CountsDiffer, event_decoder
from pipelines.recount import Recount, count_of
from store.client import Applied, ShopperStore, StateChange, StoredState, StoreError
from store.layout import shard_of
from transforms.batches import EventBatch
from transforms.read_plan import ReadSettings, plan_read
from transforms.read_through import read_through
from transforms.want_lists import wanted_list

LOG = logging.getLogger(__name__)
MOST_ROUNDS = 50
"""Each round reads what came since the one before; a shopper who moves all the time needs a few."""


class RebuildUsersAsked(msgspec.Struct, frozen=True):
    """What was asked for: the same again goes on with it."""

    archive: str
    users: int
    digest: str
    """Of the shoppers' ids."""


class Folding:
    """The shoppers' states as the records so far make them."""

    def __init__(self, users: Sequence[str], policy: TriggerPolicy):
        self.states: dict[str, State] = dict.fromkeys(users, EMPTY)
        self.recount = Recount(policy)
        self.broken: dict[str, str] = {}
        """Shoppers whose records still break the fold, and where."""
        self._policy = policy
        self._clocks: dict[int, int] = {}

    def add(self, batch: EventBatch) -> None:
        """Requests that fire on the way are history: their lists were made, or are asked for at the end."""
        clock = self._clocks.get(batch.partition, 0)
        kept = []
        for position, (offset, ingest_ms, event) in enumerate(
            zip(batch.offsets, batch.ingest_ms, batch.events, strict=True)
        ):
            clock = max(clock, ingest_ms)
            if event.user not in self.states:
                continue
            kept.append(position)
            try:
                step = fold(self.states[event.user], event, Arrival(batch.partition, offset, clock), self._policy)
            except WrongPartition:  # a dead letter, as it was for the job
                continue
            except Exception as error:  # the fold is not mended for this one: left as it is, and said
                LOG.exception("partition %d offset %d breaks the fold", batch.partition, offset)
                self.broken[event.user] = f"partition {batch.partition} offset {offset}: {error!r}"
                continue
            self.states[event.user] = step.state
        self._clocks[batch.partition] = clock
        self.recount.add(
            replace(
                batch,
                offsets=[batch.offsets[p] for p in kept],
                ingest_ms=[batch.ingest_ms[p] for p in kept],
                events=[batch.events[p] for p in kept],
            )
        )


def preview(settings: NearlineSettings, live: ShopperStore, users: Sequence[str]) -> str:
    """What `--execute` would do."""
    known = {user: decode(state.blob) for user, state in live.states(users).items()}
    broken = sum(state.broken_at >= 0 for state in known.values())
    at = _applied(live)
    plan = plan_read(_whole(settings))
    records = sum(at[p].next_offset - start for p, start in plan.starts.items() if p in at)
    return "\n".join(
        [
            f"shoppers  {len(users):,}: {len(known):,} have a state, {broken:,} of them are in quarantine",
            f"read      {records:,} records{' from ' + settings.archive if settings.archive else ''} and topic {settings.topic}",
            "then      their states are put in place one by one, and a list as of now is asked for",
            "nothing was written; --execute does it",
        ]
    )


def rebuild_users(settings: NearlineSettings, live: ShopperStore, users: Sequence[str]) -> str:
    """Returns the operation's id. Raises CountsDiffer, StoreError, Stopped, ReadRefused."""
    digest = hashlib.sha256("\n".join(sorted(users)).encode()).hexdigest()[:16]
    with running(live, "rebuild-users", RebuildUsersAsked(settings.archive, len(users), digest)) as run:
        pinned = live.pinned()
        if pinned is None:
            raise StoreError(f"no job has opened namespace {live.namespace!r} at {live.calls.where}")
        policy = settings.policy_of(pinned)
        live.begin("rebuild")
        folding = Folding(users, policy)
        from_offsets: Mapping[int, int] | None = None
        left = set(users)
        for _ in range(MOST_ROUNDS):
            at = _applied(live)
            _read(settings, folding, from_offsets, at)
            from_offsets = {p: applied.next_offset for p, applied in at.items()}
            wrong = list(_differences(folding))
            if wrong:
                raise CountsDiffer(f"the fold and the count of the log differ, nothing was put in place: {wrong[0]}")
            left -= folding.broken.keys()
            left -= set(_put_in_place(live, folding, left, policy))
            run.note(done=len(users) - len(left), of=len(users), now=True)
            if not left:
                break
        requested = _ask_for_lists(run, live, folding, policy)
        rebuilt = len(users) - len(left) - len(folding.broken)
        counts = {"rebuilt": rebuilt, "still broken": len(folding.broken), "lists requested": requested}
        run.save(counts=counts, note="; ".join(folding.broken.values())[:1_000])
        if left:
            raise StoreError(
                f"{len(left)} shoppers moved in each of {MOST_ROUNDS} rounds; the same command tries again"
            )
        return run.id


def _whole(settings: NearlineSettings) -> ReadSettings:
    return replace(read_settings(settings), group="", start="earliest", end="now")


def _applied(store: ShopperStore) -> dict[int, Applied]:
    """Up to where every shard is, by partition."""
    least: dict[int, Applied] = {}
    for (_, partition), applied in store.progress().items():
        if partition not in least or applied.next_offset < least[partition].next_offset:
            least[partition] = applied
    return least


def _read(
    settings: NearlineSettings, folding: Folding, begin: Mapping[int, int] | None, at: Mapping[int, Applied]
) -> None:
    whole = _whole(settings)
    plan = plan_read(whole)
    starts = {p: start if begin is None else begin.get(p, start) for p, start in plan.starts.items()}
    ends = {p: at[p].next_offset if p in at else start for p, start in starts.items()}
    decoder = event_decoder(settings)
    for batch in read_through(whole, replace(plan, starts=starts, ends=ends, end_ms=None)):
        folding.add(decoder.decode(batch))


def _differences(folding: Folding) -> Iterator[str]:
    counts = folding.recount.counts()
    for user, state in folding.states.items():
        if state is not EMPTY and user not in folding.broken and counts.get(user) != count_of(state):
            yield f"{user}: folded {count_of(state)}, counted {counts.get(user)}"


def _put_in_place(live: ShopperStore, folding: Folding, users: set[str], policy: TriggerPolicy) -> Iterator[str]:
    """Yields who is done: those whose state the job has not moved beyond what was read."""
    stored: dict[str, StoredState] = live.states(tuple(users))
    changes: dict[tuple[int, int], list[StateChange]] = {}
    for user in users:
        state, held = folding.states[user], stored.get(user)
        if state.partition < 0:
            yield user  # no record of this shopper
        elif not held or decode(held.blob).offset <= state.offset:
            where = shard_of(user, live.shards), state.partition
            token = held.token if held else b""
            # An erasure among the records has its tombstone already, and lists may have come since.
            changes.setdefault(where, []).append(StateChange(user, token, encode(state), due_ms(state, policy)))
    for where, result in live.fire_many(changes, dict.fromkeys(changes, 0), "rebuild").items():
        if result.status == "saved":
            yield from (change.user for change in changes[where])


def _ask_for_lists(run: Running, live: ShopperStore, folding: Folding, policy: TriggerPolicy) -> int:
    """A list as of now for everyone who has lists; it takes the place of all of them: they were made from what was wrong."""
    if not run.progress.checkpoint:  # the same time at every try, so that the same requests are made
        clocks = {partition: applied.clock_ms for partition, applied in _applied(live).items()}
        run.note(checkpoint=msgspec.json.encode(clocks).decode(), now=True)
    as_of = msgspec.json.decode(run.progress.checkpoint, type=dict[int, int])
    requested = 0
    for user, lists in live.runs_of([user for user in folding.states if user not in folding.broken]).items():
        state = folding.states[user]
        replaces = [each.run_id for each in lists]
        wanted = wanted_list(user, state, as_of.get(state.partition, 0), run.id, policy.version, replaces)
        requested += wanted is not None and live.want("rebuild", [wanted], low=True) == ["requested"]
    return requested
