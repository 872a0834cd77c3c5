"""Puts states that were folded anew into the running namespace, and asks for the lists that follow from them.

A state takes the old one's place only if that holds nothing newer than what was read; in one step, so that nothing that the job
saves meanwhile is lost. Of a shopper without records nothing stays: state, lists and requests go, and lists that come late are refused.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from interest import EMPTY, TriggerPolicy, decode, due_ms, encode, expire
from pipelines.folding import Folding
from pipelines.operation import Running
from schemas import QueryRun
from store.client import ShopperStore, StateChange, StoreError
from store.layout import shard_of
from transforms.dead_letters import DeadLetterWriter
from transforms.generate_queries import decode_change
from transforms.want_lists import wanted_list

AT_ONCE = 300
"""Shoppers who are put in place together: one whom the job moves just then holds up no more."""
MOST_TRIES, PAUSE_S = 50, 0.1
SHOWN = 5

Clocks = Mapping[tuple[int, int], int]
"""(shard, partition) -> log clock."""
Changes = dict[tuple[int, int], list[StateChange]]


@dataclass
class UsersInPlace:
    """What has become of the shoppers so far."""

    live: ShopperStore
    policy: TriggerPolicy
    letters: DeadLetterWriter
    left: set[str]
    done: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    """Of those done: the state is another one now, so lists are made anew, whatever was asked for before."""
    gone: set[str] = field(default_factory=set)
    """No record is left of them."""
    refused: dict[str, str] = field(default_factory=dict)
    """Left as they were, and why."""
    astray: int = 0
    """Records in a partition that is not their shopper's: now letters."""
    requested: int = 0

    @property
    def counts(self) -> dict[str, int]:
        return {
            "rebuilt": len(self.done),
            "without records": len(self.gone),
            "still broken": len(self.refused),
            "records astray": self.astray,
            "lists requested": self.requested,
        }

    def put(self, folding: Folding, reached: Mapping[int, int], run: Running) -> None:
        """Of those left, all whose state holds no record at or behind `reached` (next offset by partition). Raises StoreError, Stopped."""
        self.refused |= {user: why for user, why in folding.broken.items() if user in self.left}
        self.left -= self.refused.keys()
        users = sorted(self.left)
        for first in range(0, len(users), AT_ONCE):
            self._put(folding, reached, users[first : first + AT_ONCE])
            run.note()

    def _put(self, folding: Folding, reached: Mapping[int, int], users: Sequence[str]) -> None:
        clocks = self._clocks()
        stored = self.live.states(users)
        listed = self.live.runs_of([user for user in users if user not in stored])
        changes: Changes = {}
        going: Changes = {}
        leaving: set[str] = set()
        for user in users:
            held, shard = stored.get(user), shard_of(user, self.live.shards)
            before, token = (decode(held.blob), held.token) if held else (EMPTY, b"")
            if before.offset >= reached.get(before.partition, 0):
                continue  # the job has folded more of this shopper than was read
            if held and not folding.covers(before):
                self.refused[user] = f"the log begins behind partition {before.partition} offset {before.offset}"
                continue
            state = folding.state(user, before.partition)
            if state is EMPTY:
                where = shard, max(before.partition, 0)
                if held or user in listed:
                    going.setdefault(where, []).append(StateChange(user, token, encode(EMPTY), None, (), clocks[where]))
                else:
                    self.gone.add(user)
                continue
            where = shard, state.partition
            state, _ = expire(state, user, clocks[where], self.policy)  # a list as of now is asked for
            due = due_ms(state, self.policy)
            if before.partition not in (-1, state.partition):
                # It moves home. First out of the due changes of the old partition; the next round puts it among the new one's.
                astray = folding.astray(user, before.partition)
                self.letters.write(astray)  # acknowledged before the state that does not hold them
                self.astray += len(astray)
                leaving.add(user)
                where, due = (shard, before.partition), None
            if before != state:
                self.changed.add(user)
            # Without behaviours lists go too. An erasure among the records has its tombstone already.
            erased_ms = None if state.rows else clocks[where]
            changes.setdefault(where, []).append(StateChange(user, token, encode(state), due, (), erased_ms))
        self.done |= self._saved(changes, clocks, forget=False) - leaving
        self.gone |= self._saved(going, clocks, forget=True)
        self.left -= self.done | self.gone | self.refused.keys()

    def _saved(self, changes: Changes, clocks: Clocks, forget: bool) -> set[str]:
        """Whose change is in the store. Of one shard and partition all are or none: the next round tries again."""
        saved: set[str] = set()
        for where, result in self.live.fire_many(changes, clocks, "rebuild", forget).items():
            if result.status == "behind":
                raise StoreError(
                    f"shard {where[0]} of namespace {self.live.namespace!r} went back in time meanwhile; as soon as the job has "
                    f"read again what it lost (`aigq status`), give the same command"
                )
            if result.status == "saved":
                saved |= {change.user for change in changes[where]}
        return saved

    def ask_for_lists(self, run: Running) -> None:
        """A list as of now for everyone who had one, or should have. It takes the place of all of them: they were made from what
        was wrong, as were those that are on their way. Raises StoreError, Stopped."""
        left = sorted(self.done)
        for _ in range(MOST_TRIES):
            clocks, waiting = self._clocks(), []
            for user in left:
                answer = self._ask(user, clocks, run.id)
                self.requested += answer == "requested"
                if answer in ("waits", "listed"):  # one as new came due just now
                    waiting.append(user)
                run.note()
            if not (left := waiting):
                return
            time.sleep(PAUSE_S)
        raise StoreError(
            f"the states are in place, but lists of {named(left)} are as new as the log clock, and new ones could not be asked "
            f"for. As soon as the clock has moved on (is the job running?), give the same command"
        )

    def _ask(self, user: str, clocks: Clocks, operation: str) -> str:
        """The store's answer; empty where no list is wanted."""
        stored = self.live.state(user)
        if stored is None:
            return ""
        state = decode(stored.blob)
        as_of_ms = clocks.get((shard_of(user, self.live.shards), state.partition), 0)
        requests = [each for each in self.live.request(user) if each]
        origins = {decode_change(each.blob).origin for each in requests} | {each.origin for each in self._lists(user)}
        if not (origins or state.fired_ms) or (operation in origins and user not in self.changed):
            return ""
        for each in requests:
            if each.as_of_ms <= as_of_ms:
                self.live.finish(user, each.run_id, "cancelled", "rebuild")
        replaces = [each.run_id for each in self._lists(user)]  # only now: a list may have been stored meanwhile
        wanted = wanted_list(user, state, as_of_ms, operation, self.policy.version, replaces)
        return self.live.want("rebuild", [wanted], low=True)[0] if wanted else ""

    def _lists(self, user: str) -> list[QueryRun]:
        return self.live.runs_of([user]).get(user, [])

    def _clocks(self) -> Clocks:
        return {where: applied.clock_ms for where, applied in self.live.progress().items()}


def named(users: Sequence[str] | set[str]) -> str:
    """How many, and the first of them."""
    return f"{len(users):,} shoppers ({', '.join(sorted(users)[:SHOWN])}{', ...' if len(users) > SHOWN else ''})"
