"""What a reader asks of the store: lists, a shopper's state and requests, counts. Writes nothing."""

import re
from collections.abc import Mapping

from schemas import QueryRun
from store.base import StoreBase
from store.codec import decode_runs, read_states
from store.values import Depth, Ended, Request, Requests, StoredState

OUTCOMES = ("published", "conflated", "expired", "malformed", "refused", "exhausted", "cancelled")
_REQUEST = re.compile(rb"(\d+)(\+?)(~?) (\d+) (\S+) ")


class Reading(StoreBase):
    """See store.client.ShopperStore."""

    def runs(self, user: str) -> list[QueryRun]:
        """The shopper's newest lists, newest first."""
        self._follow()
        value = self.calls.one("runs", "GET", self._shard_of(user).runs(user))
        return decode_runs(value) if value else []

    def state(self, user: str) -> StoredState | None:
        value = self.calls.one("state", "GET", self._shard_of(user).state(user))
        return read_states([value])[0]

    def request(self, user: str) -> Requests:
        """The shopper's requests that have not ended."""
        shard = self._shard_of(user)
        commands = [("HGET", shard.key(name), user) for name in ("wait:req", "lease:req")]
        waiting, leased = (read_request(reply.value) for reply in self.calls.many("request", commands))
        return Requests(waiting, leased)

    def counts(self) -> dict[str, int]:
        """Requests that have ended, by outcome."""
        counts = self._counts()
        return {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}

    def fired(self) -> int:
        """Requests that ever came to be: those that ended, that wait and that are in flight."""
        return self._counts().get("fired", 0)

    def _counts(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for reply in self.calls.many("counts", [("HGETALL", shard.key("counts")) for shard in self._shards]):
            for name, value in reply.value.items():
                total[name.decode()] = total.get(name.decode(), 0) + int(value)
        return total

    def outcomes(self, since_ms: int = 0) -> list[Ended]:
        """The newest ended requests, shard by shard, oldest first; of those kept, what ended from `since_ms` on."""
        commands = [("XRANGE", shard.key("outcomes"), since_ms, "+") for shard in self._shards]
        return [read_ended(id, fields) for reply in self.calls.many("outcomes", commands) for id, fields in reply.value]

    def revoked(self) -> frozenset[str]:
        """Model versions whose lists are refused."""
        replies = self.calls.many("revoked", [("SMEMBERS", shard.key("revoked")) for shard in self._shards])
        return frozenset(version.decode() for reply in replies for version in reply.value)

    def depth(self) -> Depth:
        """Of the queue: one round trip."""
        commands = []
        for shard in self._shards:
            commands += [("ZRANGE", shard.key(name), 0, 0, "WITHSCORES") for name in ("wait", "parked")]
            commands += [("HLEN", shard.key(name)) for name in ("wait:req", "lease:req")]
            commands.append(("ZCARD", shard.key("low")))
        replies = [reply.value for reply in self.calls.many("depth", commands)]
        oldest = [int(float(reply[1])) for reply in (*replies[0::5], *replies[1::5]) if reply]
        waiting, leased, low = (sum(replies[position::5]) for position in (2, 3, 4))
        return Depth(waiting - low, leased, min(oldest, default=None), low)


def read_request(value: bytes | None) -> Request | None:
    if value is None:
        return None
    header = _REQUEST.match(value)
    if not header:
        raise ValueError(f"a stored request cannot be read: {value[:60]!r}")
    attempt, listed, low, as_of, run_id = header.groups()
    return Request(run_id.decode(), int(as_of), int(attempt), value[header.end() :], bool(listed), bool(low))


def read_ended(id: bytes, fields: Mapping[bytes, bytes]) -> Ended:
    """An entry of the outcomes stream; its id begins with the store's clock."""
    run, user, outcome = (fields[name].decode() for name in (b"run", b"user", b"outcome"))
    return Ended(
        run, user, outcome, int(fields.get(b"as_of", 0)), int(id.split(b"-")[0]), fields.get(b"low", b"") == b"~"
    )
