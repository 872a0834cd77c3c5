"""Folds single shoppers anew, in the running namespace: from a corrected archive, to end a quarantine, or to bring them home.

Their records are read again from the beginning, up to where the namespace is, and folded by the same rule as ever; the state
takes the old one's place only if that holds nothing newer than what was read (then what came since is read too). Afterwards a
list as of now is asked for: a correction is newer than what it corrects. Of a shopper without records nothing stays.

A kill, and the same command again: everything is read again, and a list that this command asked for is not asked for twice.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from interest import decode
from pipelines.folding import Folding
from pipelines.nearline import read_settings
from pipelines.operation import Running, check_alone, running
from pipelines.options import NearlineSettings
from pipelines.rebuild import CountsDiffer
from pipelines.users_in_place import SHOWN, UsersInPlace, named
from store.client import Applied, ShopperStore, StoreError
from store.layout import shard_of
from transforms.dead_letter_limits import TooManyDeadLetters
from transforms.dead_letters import DeadLetterWriter
from transforms.read_plan import ReadSettings, plan_read
from transforms.read_through import read_through

LOG = logging.getLogger(__name__)
MOST_ROUNDS = 50
"""Each round reads what came since the one before; a shopper who moves all the time needs a few."""


class RebuildUsersAsked(msgspec.Struct, frozen=True):
    """What was asked for: the same again goes on with it."""

    archive: str
    users: int
    digest: str
    """Of the shoppers' ids."""


def preview(settings: NearlineSettings, live: ShopperStore, users: Sequence[str]) -> str:
    """What `--execute` would do."""
    known = {user: decode(state.blob) for user, state in live.states(users).items()}
    broken = sum(state.broken_at >= 0 for state in known.values())
    at = _applied(live, users)
    starts = plan_read(_whole(settings)).starts
    spans = {p: (start, at[p].next_offset) for p, start in sorted(starts.items()) if p in at}
    return "\n".join(
        [
            f"shoppers  {len(users):,}: {len(known):,} have a state, {broken:,} of them are in quarantine",
            f"read      {sum(end - start for start, end in spans.values()):,} records"
            f"{' from archive ' + settings.archive if settings.archive else ''} and topic {settings.topic}: offsets "
            + ", ".join(f"{p}:{start}-{end}" for p, (start, end) in spans.items()),
            "then      their states are put in place one by one, and a list as of now is asked for; whoever has no record there "
            "loses state and lists",
            "nothing was written; --execute does it",
        ]
    )


def rebuild_users(settings: NearlineSettings, live: ShopperStore, users: Sequence[str]) -> str:
    """Returns the operation's id. Raises CountsDiffer, TooManyDeadLetters, StoreError, Stopped, ReadRefused."""
    digest = hashlib.sha256("\n".join(sorted(users)).encode()).hexdigest()[:16]
    asked = RebuildUsersAsked(settings.archive, len(users), digest)
    check_alone(live, "rebuild-users", asked)
    with running(live, "rebuild-users", asked) as run:
        pinned = live.pinned()
        if pinned is None:
            raise StoreError(f"no job has opened namespace {live.namespace!r} at {live.calls.where}")
        policy = settings.policy_of(pinned)
        live.begin("rebuild")
        places = ((decode(state.blob), user) for user, state in live.states(users).items())
        newest = {(state.partition, state.offset): user for state, user in places}
        folding = Folding(settings, users, pinned.partitions, policy, newest)
        letters = DeadLetterWriter(settings.kafka, settings.dead_letter_topic)
        placing = UsersInPlace(live, policy, letters, set(users))
        reached: Mapping[int, int] = {}
        run.note(done=0, of=0)
        for _ in range(MOST_ROUNDS):
            at = _applied(live, placing.left)
            _read(run, settings, folding, reached, at)
            _check(settings, folding)
            reached = {p: applied.next_offset for p, applied in at.items()}
            placing.put(folding, reached, run)
            if not placing.left:
                break
        run.save(counts=placing.counts)
        placing.ask_for_lists(run)
        note = f"no record of {named(placing.gone)}: nothing of them is kept" if placing.gone else ""
        run.save(counts=placing.counts | {"unreadable records": folding.unreadable}, note=note)
        if note:
            LOG.warning(note)
        _say_who_is_left(placing)
        return run.id


def _whole(settings: NearlineSettings) -> ReadSettings:
    horizon_ms = settings.policy().horizon_ms
    return replace(read_settings(settings), group="", start="earliest", end="now", horizon_ms=horizon_ms)


def _applied(store: ShopperStore, users: Sequence[str] | set[str]) -> dict[int, Applied]:
    """Up to where all shards of these shoppers are, by partition."""
    theirs = {shard_of(user, store.shards) for user in users}
    least: dict[int, Applied] = {}
    for (shard, partition), applied in store.progress().items():
        if shard in theirs and (partition not in least or applied.next_offset < least[partition].next_offset):
            least[partition] = applied
    return least


def _read(
    run: Running, settings: NearlineSettings, folding: Folding, reached: Mapping[int, int], at: Mapping[int, Applied]
) -> None:
    """Folds what lies between `reached` (at first: the log's beginning) and `at`. Raises Stopped."""
    whole = _whole(settings)
    plan = plan_read(whole)
    starts = {p: reached.get(p, start) for p, start in plan.starts.items()}
    ends = {p: max(start, at[p].next_offset) if p in at else start for p, start in starts.items()}
    done, of = run.progress.done, run.progress.done + sum(end - starts[p] for p, end in ends.items())
    for batch in read_through(whole, replace(plan, starts=starts, ends=ends, end_ms=None)):
        folding.add(batch)
        done += batch.next_offset - batch.start_offset
        run.note(done=done, of=of)


def _check(settings: NearlineSettings, folding: Folding) -> None:
    if folding.unreadable > settings.dead_letter_ratio * folding.records:
        raise TooManyDeadLetters(
            f"nothing more was put in place: {folding.unreadable:,} of {folding.records:,} records cannot be read "
            f"(--dead_letter_ratio={settings.dead_letter_ratio}), the first: {folding.first_unreadable}. Give the --format and "
            f"--mapper that the job runs with, or mend the archive ({settings.archive or 'none was named'}); then the same command"
        )
    for wrong in folding.differences():
        raise CountsDiffer(f"the fold and the count of the log differ, nothing more was put in place: {wrong}")


def _say_who_is_left(placing: UsersInPlace) -> None:
    """Raises StoreError where somebody was not rebuilt."""
    if placing.refused:
        why = "; ".join(f"{user}: {said}" for user, said in sorted(placing.refused.items())[:SHOWN])
        raise StoreError(
            f"{len(placing.refused):,} shoppers were left as they were. {why}. Mend these records in the archive that is read "
            f"(--archive), or the --mapper or version that reads them, and give the same command; `aigq explain USER` shows them"
        )
    if placing.left:
        raise StoreError(
            f"{named(placing.left)} moved in each of {MOST_ROUNDS} rounds and were left as they were; the same command tries "
            f"again. Is the job down? Start it first: it ended between the saves of two shards"
        )
