"""Shoppers' states: load, save, and what comes due."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from store.base import StoreBase
from store.calls import Command, Reply
from store.codec import read_states, state_packer
from store.errors import StoreLost
from store.values import TOKEN_BYTES, Applied, SaveResult, ShardSave, Stage, StateChange, StoredState

GONE_MS = 1
"""Time to live of a state that is to go: `save` sets it with the compare-and-set, and knows no deletion."""


class States(StoreBase):
    """See store.client.ShopperStore."""

    def applied(self, partition: int) -> dict[int, Applied]:
        """How far the partition is folded into each shard. A shard that is missing never was written."""
        log = self._log(partition)
        commands = [("HMGET", s.key("meta"), f"offset:{log}", f"clock:{log}") for s in self._shards]
        replies = self.calls.many("applied", commands)
        applied = {
            shard.number: Applied(int(reply.value[0]), int(reply.value[1]))
            for shard, reply in zip(self._shards, replies, strict=True)
            if reply.value[0] is not None
        }
        self._written.update((shard, partition) for shard in applied)
        return applied

    def progress(self) -> dict[tuple[int, int], Applied]:
        """(shard, partition) -> how far it is, for every partition that was ever written."""
        noted = self._noted("progress")
        return {where: Applied(of_log["offset"], of_log["clock"]) for where, of_log in noted.items()}

    def clamped(self) -> dict[tuple[int, int], int]:
        """(shard, partition) -> records that came after their time since the namespace began; only where there were any."""
        noted = self._noted("clamped")
        return {where: of_log["clamped"] for where, of_log in noted.items() if "clamped" in of_log}

    def _noted(self, call: str) -> dict[tuple[int, int], dict[str, int]]:
        """(shard, partition) -> what the shard's metadata holds of this log, by the field's first word."""
        log_of = self._log(0)[:-1]
        noted: dict[tuple[int, int], dict[str, int]] = {}
        replies = self.calls.many(call, [("HGETALL", shard.key("meta")) for shard in self._shards])
        for shard, reply in zip(self._shards, replies, strict=True):
            for field, value in reply.value.items():
                name, _, log = field.decode().partition(":")
                if log.startswith(log_of):
                    noted.setdefault((shard.number, int(log.removeprefix(log_of))), {})[name] = int(value)
        return noted

    def load(self, shard: int, users: Sequence[str]) -> list[StoredState | None]:
        """States of shoppers of one shard, in their order."""
        return self.load_many({shard: users})[shard]

    def load_many(self, users: Mapping[int, Sequence[str]]) -> dict[int, list[StoredState | None]]:
        """The same of several shards, in one round trip."""
        asked = {shard: names for shard, names in users.items() if names}
        commands: list[Command] = []
        for shard, names in asked.items():
            prefix = self._shards[shard].state_prefix
            commands.append(("MGET", *[prefix + user.encode() for user in names]))
        replies = self.calls.many("load", commands)
        loaded: dict[int, list[StoredState | None]] = {shard: [] for shard in users}
        for shard, reply in zip(asked, replies, strict=True):
            loaded[shard] = read_states(reply.value)
        return loaded

    def save(
        self,
        shard: int,
        partition: int,
        from_offset: int,
        to_offset: int,
        clock_ms: int,
        changes: Sequence[StateChange] = (),
    ) -> SaveResult:
        """Changes of one shard's states, made by the records from `from_offset` up to (not with) `to_offset`. All or nothing.

        Raises WriterFenced, StoreLost.
        """
        return self.save_many([ShardSave(shard, partition, from_offset, to_offset, clock_ms, list(changes))])[0]

    def save_many(self, saves: Sequence[ShardSave]) -> list[SaveResult]:
        """Several shards in one round trip; each by itself all or nothing. Results in the order of `saves`."""
        commands = [
            self._save_command(
                "track",
                save.shard,
                save.partition,
                (self._log(save.partition), save.from_offset, save.to_offset, save.clock_ms),
                save.changes,
                self._ttl_ms,
                save.clamped,
            )
            for save in saves
        ]
        replies = self.calls.many("save", commands)
        results = []
        for save, reply in zip(saves, replies, strict=True):
            result = self._save_result("track", save.shard, reply)
            if result.status == "ahead" and reply.retried and result.applied == Applied(save.to_offset, save.clock_ms):
                # The try before had been executed and its answer was lost: this writer is not fenced, so nobody else saved.
                result = SaveResult("saved", result.applied)
            if result.status == "saved":
                self._written.add((save.shard, save.partition))
            results.append(result)
        return results

    def due(self, shard: int, partition: int, before_ms: int, limit: int) -> list[str]:
        """Shoppers whose change comes due before `before_ms`, earliest first."""
        return self.due_many({(shard, partition): before_ms}, limit)[shard, partition]

    def due_many(self, before_ms: Mapping[tuple[int, int], int], limit: int) -> dict[tuple[int, int], list[str]]:
        """(shard, partition) -> at most `limit` shoppers each, in one round trip."""
        commands = [
            ("ZRANGEBYSCORE", self._shards[shard].due(partition), "-inf", f"({before}", "LIMIT", 0, limit)
            for (shard, partition), before in before_ms.items()
        ]
        replies = self.calls.many("due", commands)
        return {where: [user.decode() for user in reply.value] for where, reply in zip(before_ms, replies, strict=True)}

    def fire(self, shard: int, partition: int, changes: Sequence[StateChange], clock_ms: int = 0) -> SaveResult:
        """Changes that come from the passing of time, not from records: compare-and-set on the tokens.

        clock_ms: the progress by which they were decided. `behind` where the shard knows of less: it was rolled back since, and
        the records that it lost come before these changes.
        """
        return self.fire_many({(shard, partition): changes}, {(shard, partition): clock_ms})[shard, partition]

    def fire_many(
        self,
        changes: Mapping[tuple[int, int], Sequence[StateChange]],
        clocks: Mapping[tuple[int, int], int],
        stage: Stage = "generate",
        forget: bool = False,
    ) -> dict[tuple[int, int], SaveResult]:
        """(shard, partition) -> its changes, in one round trip; each with its clock.

        forget: the states go, whatever the changes hold.
        """
        ttl_ms = GONE_MS if forget else self._ttl_ms
        commands = [
            self._save_command(
                stage, shard, partition, (self._log(partition), "", "", clocks[shard, partition]), batch, ttl_ms
            )
            for (shard, partition), batch in changes.items()
        ]
        replies = self.calls.many("fire", commands)
        return {where: self._save_result(stage, where[0], reply) for where, reply in zip(changes, replies, strict=True)}

    def _save_command(
        self,
        stage: Stage,
        number: int,
        partition: int,
        log: tuple[Any, ...],
        changes: Sequence[StateChange],
        ttl_ms: int,
        clamped: int = 0,
    ) -> Command:
        shard, packed = self._shards[number], state_packer(self._compress_states)
        prefix, count = shard.state_prefix, len(changes)
        tokens = os.urandom(TOKEN_BYTES * count)
        states: list[bytes] = []
        values: list[bytes] = []
        due: list[bytes | int] = []
        undue: list[bytes] = []
        fired: list[bytes | str | int] = []
        erased: list[bytes | int] = []
        erased_keys: list[bytes] = []
        at = 0
        for user, token, blob, due_ms, firings, erased_ms in changes:
            name = user.encode()
            states.append(prefix + name)
            values += (token, tokens[at : at + TOKEN_BYTES] + packed(blob))
            at += TOKEN_BYTES
            if due_ms is None:
                undue.append(name)
            else:
                due += (due_ms, name)
            for firing in firings:
                fired += (name, firing.run_id, firing.as_of_ms, firing.blob)
            if erased_ms is not None:
                erased += (name, erased_ms)
                erased_keys += (shard.tombstone(user), shard.runs(user))
        if len(set(states)) != count:
            raise ValueError(f"shard {number}: two changes of one shopper in one save; fold them into one")
        known = int((number, partition) in self._written)
        limits = (ttl_ms, self._tombstone_ttl_ms, self._outcomes_kept)
        counts = (count, len(due) // 2, len(undue), len(fired) // 4, len(erased) // 2, known)
        arguments = (*log, *limits, *counts, *values, *due, *undue, *fired, *erased, *([clamped] if clamped else ()))
        return self._function("save", stage, shard, (shard.due(partition), *states, *erased_keys), *arguments)

    def _save_result(self, stage: Stage, shard: int, reply: Reply) -> SaveResult:
        self._check_fence(stage, shard, reply.value)
        status, offset, clock_ms, conflated, *conflicts = reply.value
        if status == b"lost":
            raise StoreLost(
                f"namespace {self.namespace!r} at {self.calls.where}: shard {shard} has lost everything that this job wrote to "
                f"it (an emptied node, or a backup from before). Make it anew from the log and the archive: `aigq rebuild`"
            )
        applied = Applied(offset, clock_ms) if offset >= 0 else None
        return SaveResult(status.decode(), applied, tuple(conflicts), conflated)
