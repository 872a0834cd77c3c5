"""ShopperStore over the plain-Python model of its functions, with what can happen to a call: another process comes in between,
the caller dies, the answer is lost and the call sent again, the server comes back with an older append-only file.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from store.client import (
    Applied,
    Claim,
    Depth,
    Publication,
    PublishResult,
    SaveResult,
    ShardSave,
    Stage,
    StateChange,
    StoredState,
    StoreLost,
    Wanted,
    WriterFenced,
)
from store.layout import shard_of
from tests.integration.store_model import Change, ModelRequest, ModelRun, ModelStore, Shopper
from tests.sameness.simulated_time import SimulatedTime

Epoch = tuple[int, int]


@dataclass
class Server:
    """One store: what it holds is lost or goes back as a whole."""

    users: Sequence[str]
    shards: int
    clock: SimulatedTime
    model: ModelStore = field(init=False)
    epochs: dict[tuple[int, Stage], Epoch] = field(default_factory=dict)
    lease_ends: dict[str, int] = field(default_factory=dict)
    last_claim: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Of requests, by run id; never go back, because a run id names one change."""
    numbers: Any = field(default_factory=count)
    """Tokens: like the random ones of the client, none comes twice, whatever the store forgets."""
    times_gone_back: int = 0

    def __post_init__(self) -> None:
        self.model = ModelStore({user: Shopper(shard_of(user, self.shards)) for user in self.users})

    def snapshot(self) -> tuple[Any, ...]:
        return copy.deepcopy((self.model, self.epochs, self.lease_ends, self.last_claim))

    def go_back(self, snapshot: tuple[Any, ...]) -> None:
        self.model, self.epochs, self.lease_ends, self.last_claim = copy.deepcopy(snapshot)
        self.times_gone_back += 1


class Faults:
    """What happens around each command; the quiet default is nothing."""

    def interrupt(self) -> None:
        """Others come in between, or the calling process dies (raises)."""

    def loses_answer(self) -> bool:
        return False

    def fired(self, user: str, run_id: str, blob: bytes) -> None:
        """A change is in the store."""

    def claimed(self, run_id: str, until_ms: int) -> None: ...

    def extended(self, run_id: str, until_ms: int) -> None: ...


class SimulatedStore:
    """What the job uses of ShopperStore."""

    def __init__(self, server: Server, faults: Faults):
        self._server, self._faults = server, faults
        self._epochs: dict[Stage, Epoch] = {}
        self._written: set[tuple[int, int]] = set()

    @property
    def shards(self) -> int:
        return self._server.shards

    @property
    def _model(self) -> ModelStore:
        return self._server.model

    def begin(self, stage: Stage, epoch: Epoch | None = None) -> Epoch:
        if epoch is None:
            held = [self._server.epochs.get((shard, stage), (0, 0))[0] for shard in range(self.shards)]
            epoch = (max(self._server.clock.now_ms, max(held) + 1), next(self._server.numbers))
        self._epochs[stage] = epoch
        for shard in range(self.shards):
            self._command(stage, shard, lambda shard=shard: self._server.epochs.update({(shard, stage): epoch}))
        return epoch

    def _command(self, stage: Stage | None, shard: int, run: Callable[[], Any]) -> tuple[Any, bool]:
        """One command of the server, and whether its answer came at the second try."""
        self._faults.interrupt()
        self._check_fence(stage, shard)
        value = run()
        if not self._faults.loses_answer():
            return value, False
        self._faults.interrupt()
        self._check_fence(stage, shard)
        return run(), True

    def _check_fence(self, stage: Stage | None, shard: int) -> None:
        if stage is not None and self._server.epochs.get((shard, stage), (0, 0)) > self._epochs[stage]:
            raise WriterFenced(f"a newer writer of stage {stage} has begun")

    # States

    def applied(self, partition: int) -> dict[int, Applied]:
        def run() -> dict[int, Applied]:
            held = self._model.applied
            return {s: Applied(*held[s, partition]) for s in range(self.shards) if (s, partition) in held}

        applied, _ = self._command(None, 0, run)
        self._written.update((shard, partition) for shard in applied)
        return applied

    def progress(self) -> dict[tuple[int, int], Applied]:
        return self._command(
            None, 0, lambda: {where: Applied(*held) for where, held in sorted(self._model.applied.items())}
        )[0]

    def load(self, shard: int, users: Sequence[str]) -> list[StoredState | None]:
        return self.load_many({shard: users})[shard]

    def load_many(self, users: Mapping[int, Sequence[str]]) -> dict[int, list[StoredState | None]]:
        def run(names: Sequence[str]) -> list[StoredState | None]:
            shoppers = [self._model.shoppers[name] for name in names]
            return [None if s.blob is None else StoredState(token_of(s.saves), s.blob) for s in shoppers]

        return {shard: self._command(None, shard, lambda names=names: run(names))[0] for shard, names in users.items()}

    def due_many(self, before_ms: Mapping[tuple[int, int], int], limit: int) -> dict[tuple[int, int], list[str]]:
        def run(shard: int, partition: int, before: int) -> list[str]:
            held = [(s.due.get(partition), user) for user, s in self._model.shoppers.items() if s.shard == shard]
            return [user for due, user in sorted(pair for pair in held if pair[0] is not None and pair[0] < before)]

        return {
            (shard, partition): self._command(None, shard, lambda s=shard, p=partition, b=before: run(s, p, b)[:limit])[
                0
            ]
            for (shard, partition), before in before_ms.items()
        }

    def save_many(self, saves: Sequence[ShardSave]) -> list[SaveResult]:
        return [self._save(save) for save in saves]

    def _save(self, save: ShardSave) -> SaveResult:
        changes, where = self._model_changes(save.changes), (save.shard, save.partition)

        def run() -> SaveResult:
            if where not in self._model.applied and (where in self._written or self._is_new("track", save.shard)):
                raise StoreLost(f"shard {save.shard} holds nothing of partition {save.partition}")
            status = self._model.save(*where, save.from_offset, save.to_offset, save.clock_ms, changes)
            applied = self._model.applied.get(where)
            return self._result("track", save.shard, status, changes, save.changes, applied and Applied(*applied))

        result, retried = self._command("track", save.shard, run)
        if result.status == "ahead" and retried and result.applied == Applied(save.to_offset, save.clock_ms):
            result = SaveResult("saved", result.applied)
        if result.status == "saved":
            self._written.add(where)
        return result

    def fire_many(
        self,
        changes: Mapping[tuple[int, int], Sequence[StateChange]],
        clocks: Mapping[tuple[int, int], int],
        stage: Stage = "generate",
    ) -> dict[tuple[int, int], SaveResult]:
        results = {}
        for (shard, partition), batch in changes.items():
            made = self._model_changes(batch)

            def run(s: int = shard, p: int = partition, made: list[Change] = made, batch: Any = batch) -> SaveResult:
                return self._result(stage, s, self._model.fire(p, made, clocks[s, p], s), made, batch, None)

            results[shard, partition], _ = self._command(stage, shard, run)
        return results

    def _is_new(self, stage: Stage, shard: int) -> bool:
        return self._server.epochs.get((shard, stage)) != self._epochs[stage]

    def _model_changes(self, changes: Sequence[StateChange]) -> list[Change]:
        return [
            Change(
                change.user,
                int.from_bytes(change.token, "big"),
                change.blob,
                change.due_ms,
                tuple((fired.run_id, fired.as_of_ms) for fired in change.fired),
                change.erased_ms,
                next(self._server.numbers) + 1,
            )
            for change in changes
        ]

    def _result(
        self,
        stage: Stage,
        shard: int,
        status: Any,
        made: list[Change],
        changes: Sequence[StateChange],
        applied: Applied | None,
    ) -> SaveResult:
        conflicts: tuple[int, ...] = ()
        if status == "saved":
            self._server.epochs[shard, stage] = self._epochs[stage]
            for change in changes:
                for fired in change.fired:
                    self._server.blobs.setdefault(fired.run_id, fired.blob)
                    self._faults.fired(change.user, fired.run_id, fired.blob)
        elif status == "conflict":
            held = [self._model.shoppers[change.user].saves for change in made]
            conflicts = tuple(
                at for at, (change, saves) in enumerate(zip(made, held, strict=True)) if change.expected != saves
            )
        return SaveResult(status, applied, conflicts)

    # Requests and lists

    def claim(self, room: int, lease_ms: int, low_room: int | None = None) -> list[Claim]:
        if room <= 0:
            return []
        server, number = self._server, next(self._server.numbers)

        def run() -> list[tuple[str, str, int]]:
            now_ms = server.clock.now_ms
            if server.last_claim == number:  # sent again: what it took, as far as that is still leased
                leased = [(user, s.leased) for user, s in self._model.shoppers.items() if s.leased]
                return [(user, r.run_id, r.attempt) for user, r in leased if r.run_id in taken]
            for user, shopper in self._model.shoppers.items():
                shopper.expired = server.lease_ends.get(user, 0) <= now_ms
            claims = self._model.claim(room, True, low_room)
            server.last_claim = number
            for user, run_id, _ in claims:
                taken.add(run_id)
                server.lease_ends[user] = now_ms + lease_ms
                self._faults.claimed(run_id, now_ms + lease_ms)
            return claims

        taken: set[str] = set()
        for shard in range(self.shards):
            self._check_fence("generate", shard)
        claims, _ = self._command("generate", 0, run)
        return [
            Claim(user, run_id, attempt, shard_of(user, self.shards), server.blobs[run_id])
            for user, run_id, attempt in claims
        ]

    def extend(self, claims: Sequence[Claim], lease_ms: int) -> int:
        def run(claim: Claim) -> int:
            until_ms = self._server.clock.now_ms + lease_ms
            held = self._model.extend(claim.user, claim.run_id)
            if held:
                self._server.lease_ends[claim.user] = until_ms
                self._faults.extended(claim.run_id, until_ms)
            return held

        return sum(self._command("generate", claim.shard, lambda claim=claim: run(claim))[0] for claim in claims)

    def publish_many(self, publications: Sequence[Publication], end_request: bool = True) -> list[PublishResult]:
        return [self._publish(publication, end_request) for publication in publications]

    def _publish(self, p: Publication, end_request: bool) -> PublishResult:
        def run() -> tuple[str, bytes | None]:
            run = ModelRun(p.as_of_ms, p.promotion, p.run_id, p.blob.decode("latin-1"))
            outcome = self._model.publish(p.user, run, p.model_version, end_request, p.replaces)
            stored = [held.text for held in self._model.shoppers[p.user].runs if held.run_id == p.run_id]
            return outcome, stored[0].encode("latin-1") if stored and outcome in ("published", "repeated") else None

        (outcome, stored), retried = self._command("generate", shard_of(p.user, self.shards), run)
        if outcome == "repeated" and retried and stored == p.blob:
            outcome = "published"
        return PublishResult(outcome, stored)

    def finish(self, user: str, run_id: str, outcome: str, stage: Stage = "generate") -> bool:
        shard = shard_of(user, self.shards)
        value, retried = self._command(stage, shard, lambda: self._model.finish(user, run_id, outcome))
        return value or retried

    def want(self, stage: Stage, wanted: Sequence[Wanted], low: bool) -> list[str]:
        def run(each: Wanted) -> str:
            self._server.blobs.setdefault(each.run_id, each.blob)
            return self._model.want(ModelRequest(each.run_id, each.as_of_ms, 0, low=low), each.user)

        return [
            self._command(stage, shard_of(each.user, self.shards), lambda each=each: run(each))[0] for each in wanted
        ]

    def depth(self) -> Depth:
        shoppers = self._model.shoppers.values()
        waiting = [s.waiting for s in shoppers if s.waiting]
        live = [request.as_of for request in waiting if not request.low]
        leased = sum(s.leased is not None for s in shoppers)
        return Depth(len(live), leased, min(live, default=None), len(waiting) - len(live))


def token_of(saves: int) -> bytes:
    return saves.to_bytes(8, "big") if saves else b""
