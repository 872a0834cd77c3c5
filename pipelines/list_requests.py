"""An operator's requests for lists: offered to the live workers at low priority, and seen through until the last has ended.

They go through the same queue as the changes of the shoppers, so there is one engine, its batches stay full, and nobody else
writes lists. What was asked for is in the store and carries the operation's id: a command that was killed knows it again.
"""

import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec

from pipelines.operation import Running
from pipelines.screen import Screen
from store.client import Ended, ShopperStore, Stage, Wanted
from store.layout import shard_of
from transforms.throttle import PAUSE_S, Throttle
from transforms.want_lists import run_id

AT_ONCE = 200
"""Shoppers that are looked at together: bounds the memory, and what is looked at again after a kill."""
LOOK_S = 0.25
SWEEP_S = 5.0
"""Between two looks at every single request, when nothing else says that ours have ended."""
STUCK_S = 30.0
FAILED = ("malformed", "exhausted")
"""Outcomes after which the same request would probably fail again."""
_ENDS = ("published", "conflated", "expired", "malformed", "refused", "exhausted", "cancelled", "uncounted")
OUTCOMES = tuple(f"ended {outcome}" for outcome in _ENDS)
"""Counts of requests by how they ended. uncounted: the store no longer remembered how."""
REQUESTED, WAITS, LISTED, ERASED = "requested", "waits", "listed", "erased"
_ANSWERS = {"requested": REQUESTED, "waits": WAITS, "listed": LISTED, "refused": ERASED}

Verdict = Wanted | str
"""What becomes of a shopper: a request, or why there is none."""
Judge = Callable[[Sequence[str]], Sequence[Verdict]]


@dataclass(frozen=True)
class Limits:
    """What a person may change when the command is given again."""

    per_second: float = 200.0
    most_waiting: int = 2_000
    """Requests of low priority in the queue at once."""


class Place(msgspec.Struct, frozen=True):
    """The checkpoint: where the operation stands."""

    namespace: str = ""
    shards: int = 0
    """Of which the shard is one: what lies behind a place in another namespace, or among other shards, is other shoppers."""
    clocks: dict[int, int] = {}
    """Log clock of each partition when this round began: the as-of of its requests."""
    round: int = 1
    shard: int = -1
    user: str = ""
    """Up to this shopper of this shard everything is asked for; in order of shard and name."""
    seen: dict[int, str] = {}
    """How far the outcomes are counted (ShopperStore.outcomes_after)."""
    looked: int = 0
    """Shoppers that were looked at, of all rounds."""


class ListRequests:
    """Of one operation."""

    def __init__(self, store: ShopperStore, running: Running, stage: Stage, limits: Limits, screen: Screen):
        self._store, self._running = store, running
        self._stage: Stage = stage
        self._limits, self._screen = limits, screen
        self._throttle = Throttle(limits.per_second)
        self._counts = Counter(running.progress.counts)
        self.failed: set[str] = set()
        """Shoppers whose request of this operation failed while this process watched."""
        self._asked_for: set[str] = set()
        self._low = 0
        self._looked_at = self._moved_at = time.monotonic() - LOOK_S
        self._taken = 0
        checkpoint = running.progress.checkpoint
        self.place = msgspec.json.decode(checkpoint, type=Place) if checkpoint else self._begin()
        if checkpoint:
            if (self.place.namespace, self.place.shards) != (store.namespace, store.shards):
                self._begin_anew()
            self._find_what_was_asked_for()

    def _begin(self) -> Place:
        _, seen = self._store.outcomes_after({})
        place = Place(self._store.namespace, self._store.shards, clocks_of(self._store), seen=seen)
        # Before the first request: whoever goes on with this must ask as of the same time.
        self._running.note(msgspec.json.encode(place).decode(), now=True)
        return place

    def _begin_anew(self) -> None:
        """The name has moved since: requests that waited may be gone with the old namespace, so everybody is looked at, and counted,
        again. Who has a list of this operation keeps it (the judge's to say), who waits in a copy is known by the request."""
        self._screen.say(
            f"{self._running.id}: the name has moved to {self._store.namespace!r} since; everybody is looked at again, nobody gets a second list"
        )
        self._counts.clear()
        self.place = Place(self._store.namespace, self._store.shards, clocks_of(self._store), self.place.round)
        self._note(now=True)

    def next_round(self) -> None:
        """From now on as of now, and from the first shopper again."""
        self.place = msgspec.structs.replace(
            self.place, clocks=clocks_of(self._store), round=self.place.round + 1, shard=-1, user=""
        )
        self._asked_for.clear()
        self._note(now=True)

    def ask(self, users: Iterable[str], judge: Judge) -> int:
        """Asks for the lists of those whom `judge` does not skip; goes on behind the checkpoint. Returns how many were requested.

        Raises Stopped, StoreUnavailable, WriterFenced.
        """
        before = self._counts[REQUESTED]
        # Also who has had the list since, and is none of `users` any more: it was not counted yet.
        shards = by_shard(chain(users, self._asked_for), self._store.shards)
        done = [self._behind(number, names) for number, names in enumerate(shards)]
        self._note(of=self.place.looked + sum(map(len, shards)) - sum(done))
        for number, names in enumerate(shards):
            for begin in range(done[number], len(names), AT_ONCE):
                self._ask(number, names[begin : begin + AT_ONCE], judge)
        self._note(now=True)
        return self._counts[REQUESTED] - before

    def _behind(self, shard: int, names: Sequence[str]) -> int:
        """How many of a shard's shoppers lie behind the checkpoint."""
        if shard != self.place.shard:
            return len(names) if shard < self.place.shard else 0
        return bisect_right(names, self.place.user)

    def _ask(self, shard: int, users: Sequence[str], judge: Judge) -> None:
        """Place and counts move together, with what was just offered: they are saved in between."""
        unasked = [user for user in users if user not in self._asked_for]
        judged = dict(zip(unasked, judge(unasked), strict=True))
        verdicts = deque((user, judged.get(user, REQUESTED)) for user in users)
        while verdicts:
            now: list[Wanted] = []
            passed: list[str] = []
            most = self._room()
            while verdicts and (isinstance(verdicts[0][1], str) or len(now) < most):
                user, verdict = verdicts.popleft()
                passed.append(user)
                if isinstance(verdict, str):
                    self._counts[verdict] += 1
                else:
                    now.append(verdict)
            if now:
                answers = Counter(_ANSWERS[answer] for answer in self._store.want(self._stage, now, low=True))
                self._counts += answers
                self._throttle.took(len(now))
                self._low += answers[REQUESTED]
            if passed:
                looked = self.place.looked + len(passed)
                self.place = msgspec.structs.replace(self.place, shard=shard, user=passed[-1], looked=looked)
            self._note()
            if not now and verdicts:
                time.sleep(0.02 if self._low < self._limits.most_waiting else LOOK_S)

    def _room(self) -> int:
        self._look()
        return min(self._throttle.allowed(time.monotonic()), self._limits.most_waiting - self._low)

    def wait_until_ended(self) -> None:
        """Returns when none of the operation's requests waits or is at a model. Raises Stopped, StoreUnavailable, WriterFenced."""
        clear, swept_at = 0, 0.0
        while clear < 2:
            time.sleep(LOOK_S)
            self._look()
            self._note()
            # The counts alone would wait for ever where outcomes were dropped while nobody counted them.
            if self.open == 0 or time.monotonic() - swept_at > SWEEP_S:
                swept_at = time.monotonic()
                clear = 0 if self._open_users() else clear + 1
        self._look(now=True)
        if self.open:
            self._counts["ended uncounted"] += self.open
        self._note(now=True)

    def cancel_waiting(self) -> None:
        """Ends those that wait; those at a model go on. One that took the place of a shopper's change stays: it is waited for."""
        for user, request in list(self._store.waiting()):
            if request.low and self._is_ours(user, request.as_of_ms, request.run_id):
                self._store.finish(user, request.run_id, "cancelled", self._stage)
        self._look(now=True)
        self._running.save(counts=dict(self._counts), done=self._done, checkpoint=self._checkpoint())

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts

    @property
    def open(self) -> int:
        """Requests that have not been seen to end."""
        return max(0, self._counts[REQUESTED] - sum(self._counts[outcome] for outcome in OUTCOMES))

    def _look(self, now: bool = False) -> None:
        """Counts what has ended, and notices when nobody takes requests."""
        at = time.monotonic()
        if not now and at - self._looked_at < LOOK_S:
            return
        if at - self._looked_at > PAUSE_S:
            self._moved_at = at
        self._looked_at = at
        ended, seen = self._store.outcomes_after(self.place.seen)
        self.place = msgspec.structs.replace(self.place, seen=seen)
        for each in ended:
            if self._is_ours(each.user, each.as_of_ms, each.run_id):
                self._count_end(each)
        self._low = self._store.depth().low
        taken = self._counts[REQUESTED] - self._low
        if taken != self._taken or not self._low:
            self._taken, self._moved_at = taken, at
        elif at - self._moved_at > STUCK_S:
            self._moved_at = at
            self._screen.say(self._why_stuck())

    def _count_end(self, each: Ended) -> None:
        self._counts[f"ended {each.outcome}"] += 1
        if each.outcome in FAILED:
            self.failed.add(each.user)

    def _why_stuck(self) -> str:
        clocks = clocks_of(self._store).values()
        behind_s = time.time() - min(clocks, default=0) / 1000
        return (
            f"{self._low:,} requests wait and none was taken for {STUCK_S:.0f} s. Is a job with the generate stage running? "
            f"`aigq run nearline --stages=generate`. If one is: they wait while shoppers' own changes fill it, and while the "
            f"tracking is more than --catch_up_s behind (its log clock is {behind_s:,.0f} s old); `aigq status` tells"
        )

    def _is_ours(self, user: str, as_of_ms: int, id: str) -> bool:
        return run_id(user, as_of_ms, self._running.id) == id

    def _open_users(self) -> set[str]:
        """Shoppers whose request of ours waits or is leased: each in a walk of its own, in the order that requests go."""
        return {
            user
            for walk in (self._store.waiting, self._store.leased)
            for user, request in walk()
            if self._is_ours(user, request.as_of_ms, request.run_id)
        }

    def _find_what_was_asked_for(self) -> None:
        """Behind the checkpoint: the process died after it had asked and before it could say so."""
        self._asked_for = self._open_users()
        ended, _ = self._store.outcomes_after(self.place.seen)
        self._asked_for |= {each.user for each in ended if self._is_ours(each.user, each.as_of_ms, each.run_id)}

    def _note(self, of: int | None = None, now: bool = False) -> None:
        self._running.note(self._checkpoint(), self._counts, self._done, of, now)
        self._screen.show(self._running.progress)

    def _checkpoint(self) -> str:
        return msgspec.json.encode(self.place).decode()

    @property
    def _done(self) -> int:
        return max(0, self.place.looked - self.open)


def by_shard(users: Iterable[str], shards: int) -> list[list[str]]:
    """Each shopper once, in order. Ids alone are held: of two million shoppers 200 MB."""
    found: list[list[str]] = [[] for _ in range(shards)]
    for user in users:
        found[shard_of(user, shards)].append(user)
    return [sorted(set(names)) for names in found]


def clocks_of(store: ShopperStore) -> dict[int, int]:
    """partition -> its log clock: the least over the shards. A change that fires later and is due before it holds no behaviour
    that the state of its shopper lacks now."""
    clocks: dict[int, int] = {}
    for (_, partition), applied in store.progress().items():
        if applied.clock_ms:
            clocks[partition] = min(clocks.get(partition, applied.clock_ms), applied.clock_ms)
    return clocks
