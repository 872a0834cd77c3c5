"""The queue of fired requests and the lists that end them."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from secrets import token_hex
from typing import Any, get_args

from schemas import QueryRun
from store.base import StoreBase
from store.calls import Command, Reply
from store.codec import compress, encode_run, expand
from store.layout import Shard
from store.values import Claim, Outcome, Publication, PublishResult, Stage, Wanted, WantedAnswer

STAGE: Stage = "generate"


class RequestQueue(StoreBase):
    """See store.client.ShopperStore."""

    def claim(self, room: int, lease_ms: int, low_room: int | None = None) -> list[Claim]:
        """Takes up to `room` requests, the newest of all shards first; each is ours for `lease_ms`.

        low_room: most of them that may be of low priority, which come after all others; None for as many as there is room.

        Leases that have run out are given up first: such a request waits again, or is conflated where a newer one waits.
        A shopper with a request in flight has no other one claimed. A claim whose answer was lost is answered at the next try
        with what it took, unless another worker has claimed in that shard meanwhile: then it comes back when its lease runs out.
        """
        if room <= 0:
            return []
        waiting: list[tuple[float, Shard]] = []
        shards = self._shards
        replies = self.calls.many("claim", [self._claim(shard, lease_ms, 0, room) for shard in shards])
        for shard, reply in zip(shards, replies, strict=True):
            self._check_fence(STAGE, shard.number, reply.value)
            waiting += ((float(as_of), shard) for as_of in reply.value[1:])
        waiting.sort(key=lambda pair: -pair[0])
        live = sum(as_of >= 0 for as_of, _ in waiting)
        room = min(room, live + low_room) if low_room is not None else room
        chosen = sorted((shard for _, shard in waiting[:room]), key=lambda shard: shard.number)
        takes = [(shard, len(list(group))) for shard, group in groupby(chosen)]
        replies = self.calls.many("claim", [self._claim(shard, lease_ms, take, 0) for shard, take in takes])
        claims: list[Claim] = []
        for (shard, _), reply in zip(takes, replies, strict=True):
            self._check_fence(STAGE, shard.number, reply.value)
            taken = iter(reply.value[1:])
            for user, run_id, attempt, blob in zip(taken, taken, taken, taken, strict=True):
                claims.append(Claim(user.decode(), run_id.decode(), int(attempt), shard.number, blob))
        return claims

    def _claim(self, shard: Shard, lease_ms: int, take: int, show: int) -> Command:
        return self._function("claim", STAGE, shard, (), self._outcomes_kept, lease_ms, take, show, token_hex(8))

    def extend(self, claims: Sequence[Claim], lease_ms: int) -> int:
        """Renews the leases of requests that are still in flight. Returns how many were still ours."""
        ordered = sorted(claims, key=lambda claim: claim.shard)
        commands, shards = [], []
        for number, group in groupby(ordered, key=lambda claim: claim.shard):
            pairs = [part for claim in group for part in (claim.user, claim.run_id)]
            commands.append(self._function("extend", STAGE, self._shards[number], (), lease_ms, *pairs))
            shards.append(number)
        held = 0
        for number, reply in zip(shards, self.calls.many("extend", commands), strict=True):
            self._check_fence(STAGE, number, reply.value)
            held += reply.value[1]
        return held

    def publish(self, publication: Publication, end_request: bool = True) -> PublishResult:
        """Stores a list, unless a newer one, an erasure or a revoked model stands against it. Repeating it changes nothing.

        end_request: False leaves the request of a stored list (published, repeated) leased, for a caller that has more to do
            before `finish(..., "published")`. From then on it ends as published, whatever ends it.
        """
        return self.publish_many([publication], end_request)[0]

    def publish_many(self, publications: Sequence[Publication], end_request: bool = True) -> list[PublishResult]:
        """Several lists in one round trip. Results in their order."""
        values = [compress(publication.blob) for publication in publications]
        commands = [
            self._publish(publication, value, end_request)
            for publication, value in zip(publications, values, strict=True)
        ]
        replies = self.calls.many("publish", commands)
        return [
            self._published(publication, value, reply)
            for publication, value, reply in zip(publications, values, replies, strict=True)
        ]

    def _publish(self, p: Publication, value: bytes, end_request: bool) -> Command:
        shard = self._shard_of(p.user)
        identity = (p.user, p.run_id, p.as_of_ms, p.promotion, p.model_version)
        return self._function(
            "publish",
            STAGE,
            shard,
            (shard.runs(p.user), shard.tombstone(p.user)),
            *(self._outcomes_kept, *identity, value, self._runs_kept, self._runs_ttl_ms, int(end_request), *p.replaces),
        )

    def _published(self, publication: Publication, value: bytes, reply: Reply) -> PublishResult:
        self._check_fence(STAGE, self._shard_of(publication.user).number, reply.value)
        outcome, stored = reply.value[0].decode(), reply.value[1:]
        if outcome == "repeated" and reply.retried and stored == [value]:
            outcome = "published"  # by the try before, whose answer was lost
        return PublishResult(outcome, expand(stored[0]) if stored and stored[0] else None)

    def want(self, stage: Stage, wanted: Sequence[Wanted], low: bool) -> list[WantedAnswer]:
        """Offers requests that the fold has not fired, in one round trip; answers in their order. Repeating it changes nothing.

        low: taken only where no other request waits. A change that comes due takes the place of one that waits.
        """
        by_shard: dict[Shard, list[int]] = {}
        for position, each in enumerate(wanted):
            by_shard.setdefault(self._shard_of(each.user), []).append(position)
        commands = []
        for shard, positions in by_shard.items():
            users = [wanted[position].user for position in positions]
            if len(set(users)) != len(users):
                raise ValueError("two requests of one shopper in one call")
            keys = tuple(key for user in users for key in (shard.runs(user), shard.tombstone(user)))
            parts = [
                part
                for p in positions
                for part in (wanted[p].user, wanted[p].run_id, wanted[p].as_of_ms, wanted[p].blob)
            ]
            commands.append(self._function("want", stage, shard, keys, self._outcomes_kept, int(low), *parts))
        answers: dict[int, WantedAnswer] = {}
        for (shard, positions), reply in zip(by_shard.items(), self.calls.many("want", commands), strict=True):
            self._check_fence(stage, shard.number, reply.value)
            found = [answer.decode() for answer in reply.value[1:]]
            answers |= zip(positions, found, strict=True)
        return [answers[position] for position in range(len(wanted))]

    def restore(
        self,
        stage: Stage,
        runs: Mapping[str, Sequence[QueryRun]],
        replaced: Mapping[str, Collection[str]] | None = None,
    ) -> int:
        """Puts lists made before (in another namespace, or archived) in their places, by shopper: never over a newer one, none
        from before an erasure. A waiting request that they answer ends. Returns how many lists were stored.

        replaced: runs whose lists go and do not come back, by shopper.
        """
        commands, shards, replaced = [], [], replaced or {}
        for user in {**runs, **replaced}:
            shard, lists = self._shard_of(user), runs.get(user, ())
            parts = [
                part for run in lists for part in (run.as_of_ms, run.promotion, run.run_id, compress(encode_run(run)))
            ]
            limits = (self._outcomes_kept, user, self._runs_kept, self._runs_ttl_ms)
            keys = (shard.runs(user), shard.tombstone(user))
            gone = replaced.get(user, ())
            commands.append(self._function("restore", stage, shard, keys, *limits, len(lists), *parts, *gone))
            shards.append(shard.number)
        restored = 0
        for number, reply in zip(shards, self.calls.many("restore", commands), strict=True):
            self._check_fence(stage, number, reply.value)
            restored += reply.value[1]
        return restored

    def erase(self, stage: Stage, erased: Mapping[str, int]) -> None:
        """Erasures that another namespace knows of (shopper -> log clock) hold here too: lists and requests from before go."""
        commands, shards = [], []
        for user, at_ms in erased.items():
            shard = self._shard_of(user)
            arguments = (self._outcomes_kept, user, at_ms, self._tombstone_ttl_ms, self._runs_ttl_ms)
            keys = (shard.tombstone(user), shard.runs(user))
            commands.append(self._function("erase", stage, shard, keys, *arguments))
            shards.append(shard.number)
        for number, reply in zip(shards, self.calls.many("erase", commands), strict=True):
            self._check_fence(stage, number, reply.value)

    def finish(self, user: str, run_id: str, outcome: Outcome, stage: Stage = STAGE) -> bool:
        """Ends a request without a list (or, after `publish(..., end_request=False)`, with one). Counted once.

        Returns whether it did: not where the request is gone, and as `published` only where its list is stored.
        """
        if outcome not in get_args(Outcome):
            raise ValueError(f"a request cannot be finished as {outcome!r}; one of {', '.join(get_args(Outcome))}")
        shard = self._shard_of(user)
        arguments: tuple[Any, ...] = (self._outcomes_kept, user, run_id, outcome)
        reply = self.calls.many("finish", [self._function("finish", stage, shard, (), *arguments)])[0]
        self._check_fence(stage, shard.number, reply.value)
        return bool(reply.value[1]) or reply.retried

    def revoke(self, model_version: str) -> None:
        """From now on no list of this version is stored."""
        self.calls.many("revoke", [("SADD", shard.key("revoked"), model_version) for shard in self._shards])
