"""What the store does, in plain Python over dicts: the other side of test_store_state_machine.py, and the store of
tests/sameness. Imports nothing of store/.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

RUNS_KEPT = 2


class ModelRequest(NamedTuple):
    run_id: str
    as_of: int
    attempt: int
    listed: bool = False
    """Its list is stored, and its writer has not ended it yet."""
    low: bool = False
    """A person asked for it: taken where no other request waits."""


class ModelRun(NamedTuple):
    as_of: int
    promotion: int
    run_id: str
    text: str


@dataclass
class Shopper:
    shard: int
    blob: bytes | None = None
    saves: int = 0
    """Stands for the token: it changes with every save."""
    due: dict[int, int] = field(default_factory=dict)
    waiting: ModelRequest | None = None
    leased: ModelRequest | None = None
    expired: bool = False
    """Of the lease."""
    runs: list[ModelRun] = field(default_factory=list)
    erased: int = -1


class Change(NamedTuple):
    user: str
    expected: int
    """`saves` of the shopper when the change was made."""
    blob: bytes
    due: int | None
    fired: tuple[tuple[str, int], ...]
    erased: int | None
    saves: int | None = None
    """What the shopper's `saves` becomes; None for one more. Where a store can go back in time, one that was never used."""


@dataclass
class ModelStore:
    shoppers: dict[str, Shopper]
    applied: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    outcomes: list[tuple[str, str, str]] = field(default_factory=list)
    fired: int = 0
    revoked: set[str] = field(default_factory=set)

    def save(self, shard: int, partition: int, start: int, end: int, clock: int, changes: list[Change]) -> str:
        held = self.applied.get((shard, partition))
        if held and held[0] != start:
            return "behind" if held[0] < start else "ahead"
        status = self._save(partition, changes)
        if status == "saved":
            self.applied[shard, partition] = (end, max(clock, held[1] if held else 0))
        return status

    def fire(self, partition: int, changes: list[Change], clock: int = 0, shard: int = 0) -> str:
        """clock: what it was decided by; a shard that has gone back knows of less."""
        if self.applied.get((shard, partition), (0, 0))[1] < clock:
            return "behind"
        return self._save(partition, changes)

    def _save(self, partition: int, changes: list[Change]) -> str:
        if any(change.saves is not None and self.shoppers[change.user].saves == change.saves for change in changes):
            return "saved"  # this very call, sent again
        if any(self.shoppers[change.user].saves != change.expected for change in changes):
            return "conflict"
        for change in changes:
            shopper = self.shoppers[change.user]
            shopper.blob = change.blob
            shopper.saves = shopper.saves + 1 if change.saves is None else change.saves
            shopper.due.pop(partition, None)
            if change.due is not None:
                shopper.due[partition] = change.due
            for run_id, as_of in change.fired:
                self._offer(change.user, ModelRequest(run_id, as_of, 0))
        for change in changes:
            if change.erased is not None:
                self._erase(change.user, change.erased)
        return "saved"

    def _offer(self, user: str, request: ModelRequest) -> None:
        shopper = self.shoppers[user]
        if request.run_id in [held.run_id for held in (shopper.waiting, shopper.leased) if held]:
            return
        self.fired += 1
        if shopper.waiting is None:
            shopper.waiting = request
        elif shopper.waiting.as_of > request.as_of:
            self._end(user, request, "conflated")
            shopper.waiting = shopper.waiting._replace(low=False)  # a shopper waits for it now
        else:
            self._end(user, shopper.waiting, "conflated")
            shopper.waiting = request

    def want(self, request: ModelRequest, user: str) -> str:
        """A request that a person asks for."""
        shopper = self.shoppers[user]
        if shopper.erased >= request.as_of:
            return "refused"
        if any(run.as_of >= request.as_of or run.run_id == request.run_id for run in shopper.runs):
            return "listed"
        if shopper.waiting or shopper.leased:
            return "waits"
        self.fired += 1
        shopper.waiting = request
        return "requested"

    def _erase(self, user: str, at: int) -> None:
        self.shoppers[user].runs = []
        self.erase(user, at)

    def erase(self, user: str, at: int) -> None:
        """Another namespace knows that the shopper was erased then."""
        shopper = self.shoppers[user]
        shopper.erased = max(shopper.erased, at)
        shopper.runs = [run for run in shopper.runs if run.as_of > shopper.erased]
        for slot in ("waiting", "leased"):
            request = getattr(shopper, slot)
            if request and request.as_of <= shopper.erased:
                setattr(shopper, slot, None)
                self._end(user, request, "refused")

    def _end(self, user: str, request: ModelRequest, outcome: str) -> None:
        outcome = "published" if request.listed else outcome
        self.counts[outcome] += 1
        self.outcomes.append((request.run_id, user, outcome))

    def claim(self, room: int, lease_lasts: bool, low_room: int | None = None) -> list[tuple[str, str, int]]:
        for user, shopper in self.shoppers.items():
            if shopper.leased and shopper.expired:
                if shopper.waiting:
                    self._end(user, shopper.leased, "conflated")
                else:
                    shopper.waiting = shopper.leased
                shopper.leased = None
        free = [(user, s, s.waiting) for user, s in self.shoppers.items() if s.waiting and not s.leased]
        # Within a shard the later name of two with one as-of; between shards the lower number.
        free.sort(key=lambda each: each[0], reverse=True)
        free.sort(key=lambda each: (each[2].low, -each[2].as_of, each[1].shard))
        if low_room is not None:
            room = min(room, sum(not waiting.low for *_, waiting in free) + low_room)
        claims = []
        for user, shopper, waiting in free[:room]:
            shopper.leased = waiting._replace(attempt=waiting.attempt + 1)
            shopper.waiting, shopper.expired = None, not lease_lasts
            claims.append((user, shopper.leased.run_id, shopper.leased.attempt))
        return claims

    def extend(self, user: str, run_id: str) -> int:
        shopper = self.shoppers[user]
        if shopper.leased and shopper.leased.run_id == run_id:
            shopper.expired = False
            return 1
        return 0

    def finish(self, user: str, run_id: str, outcome: str) -> bool:
        shopper = self.shoppers[user]
        listed = any(held and held.run_id == run_id and held.listed for held in (shopper.leased, shopper.waiting))
        return (listed or outcome != "published") and self._finish(user, run_id, outcome)

    def _finish(self, user: str, run_id: str, outcome: str, ends: bool = True) -> bool:
        shopper = self.shoppers[user]
        for slot in ("leased", "waiting"):
            request = getattr(shopper, slot)
            if request and request.run_id == run_id:
                setattr(shopper, slot, None if ends else request._replace(listed=True))
                if ends:
                    self._end(user, request, outcome)
                return True
        return False

    def publish(self, user: str, run: ModelRun, model: str, ends: bool, replaces: tuple[str, ...] = ()) -> str:
        """ends: whether a stored list ends its request at once. replaces: runs whose lists go."""
        shopper = self.shoppers[user]
        if model in self.revoked or run.as_of <= shopper.erased:
            self._finish(user, run.run_id, "refused")
            return "refused"
        if any(held.run_id == run.run_id and held.promotion >= run.promotion for held in shopper.runs):
            self._finish(user, run.run_id, "published", ends)
            return "repeated"
        if run.run_id not in [held.run_id for held in (shopper.waiting, shopper.leased) if held]:
            return "unknown"
        rivals = [held for held in shopper.runs if held.as_of == run.as_of]
        order = sorted([held for held in shopper.runs if held not in rivals] + [run], reverse=True)
        if run not in order[:RUNS_KEPT] or any(rival.promotion >= run.promotion for rival in rivals):
            self._finish(user, run.run_id, "conflated")
            return "older"
        shopper.runs = [held for held in order if held is run or held.run_id not in replaces][:RUNS_KEPT]
        self._finish(user, run.run_id, "published", ends)
        return "published"

    def restore(self, user: str, lists: list[ModelRun], replaced: tuple[str, ...] = ()) -> int:
        """Lists made elsewhere take their places; the waiting request that they answer ends."""
        shopper, stored = self.shoppers[user], set[str]()
        runs = [held for held in shopper.runs if held.run_id not in replaced]
        for run in lists:
            rivals = [held for held in runs if held.as_of == run.as_of]
            if run.run_id in replaced:
                continue
            if run.as_of > shopper.erased and all(rival.promotion < run.promotion for rival in rivals):
                runs = [*(held for held in runs if held not in rivals), run]
                stored.add(run.run_id)
        shopper.runs = sorted(runs, reverse=True)[:RUNS_KEPT]
        held = [run.run_id for run in shopper.runs]
        if shopper.waiting and shopper.runs and shopper.runs[0].as_of >= shopper.waiting.as_of:
            request, shopper.waiting = shopper.waiting, None
            self._end(user, request, "published" if request.run_id in held else "conflated")
        return sum(run_id in stored for run_id in held)
