"""Walking over a whole namespace: for operators' commands, never for the job. Each shopper comes once or more (SCAN)."""

from collections.abc import Iterator, Mapping, Sequence

from schemas import QueryRun
from store.codec import decode_runs
from store.reading import read_ended, read_request
from store.states import States
from store.values import Ended, Request, StoredState

AT_ONCE = 1_000
"""Keys asked for in one call: the server answers others in between."""


class Scanning(States):
    """See store.client.ShopperStore."""

    def scan_users(self) -> Iterator[list[str]]:
        """Shoppers that have a state, some hundreds at a time."""
        return self._scan("u")

    def scan_states(self) -> Iterator[tuple[str, StoredState]]:
        for users in self.scan_users():
            yield from self.states(users).items()

    def scan_runs(self) -> Iterator[tuple[str, list[QueryRun]]]:
        """Shoppers that have lists, with their lists, newest first."""
        for users in self._scan("r"):
            yield from self.runs_of(users).items()

    def scan_erased(self) -> Iterator[dict[str, int]]:
        """Shoppers that were erased, with the log clock of it, some hundreds at a time."""
        for users in self._scan("e"):
            replies = self.calls.many("erased", [("GET", self._shard_of(user).tombstone(user)) for user in users])
            yield {user: int(reply.value) for user, reply in zip(users, replies, strict=True) if reply.value}

    def states(self, users: Sequence[str]) -> dict[str, StoredState]:
        """States of any shoppers, in one round trip; who has none is left out."""
        by_shard: dict[int, list[str]] = {}
        for user in dict.fromkeys(users):
            by_shard.setdefault(self._shard_of(user).number, []).append(user)
        loaded = self.load_many(by_shard)
        return {
            user: state
            for shard, names in by_shard.items()
            for user, state in zip(names, loaded[shard], strict=True)
            if state is not None
        }

    def runs_of(self, users: Sequence[str]) -> dict[str, list[QueryRun]]:
        """Lists of several shoppers, newest first, in one round trip; who has none is left out."""
        commands = [("GET", self._shard_of(user).runs(user)) for user in users]
        replies = self.calls.many("runs", commands)
        return {user: decode_runs(reply.value) for user, reply in zip(users, replies, strict=True) if reply.value}

    def waiting(self) -> Iterator[tuple[str, Request]]:
        """Every request that waits, of low priority or not."""
        yield from self._requests("wait:req")

    def leased(self) -> Iterator[tuple[str, Request]]:
        """Every request that a worker holds."""
        yield from self._requests("lease:req")

    def _requests(self, key: str) -> Iterator[tuple[str, Request]]:
        for shard in self._shards:
            found = self.calls.one("requests", "HGETALL", shard.key(key))
            for user, value in found.items():
                request = read_request(value)
                assert request is not None
                yield user.decode(), request

    def forget_outcomes(self, before_ms: int) -> None:
        """Takes requests that ended before out of the list of ended ones. Counters stay."""
        self.calls.many("outcomes", [("XTRIM", shard.key("outcomes"), "MINID", before_ms) for shard in self._shards])

    def outcomes_after(self, seen: Mapping[int, str]) -> tuple[list[Ended], dict[int, str]]:
        """Requests that ended after a look that reached as far as `seen` (shard -> its own word; empty: all that are kept), and
        how far this look reaches. A shard keeps the newest ten thousand or so: look more often than that."""
        commands = []
        for shard in self._shards:
            begin = f"({seen[shard.number]}" if shard.number in seen else "-"
            commands.append(("XRANGE", shard.key("outcomes"), begin, "+"))
        ended: list[Ended] = []
        reached = dict(seen)
        for shard, reply in zip(self._shards, self.calls.many("outcomes", commands), strict=True):
            ended += (read_ended(id, fields) for id, fields in reply.value)
            if reply.value:
                reached[shard.number] = reply.value[-1][0].decode()
        return ended, reached

    def _scan(self, kind: str) -> Iterator[list[str]]:
        marker = f"}}:{kind}:".encode()
        for keys in self.calls.scan(f"{self.namespace}:{{s[0-9][0-9][0-9]}}:{kind}:*", AT_ONCE):
            if keys:
                yield [key.split(marker, 1)[1].decode() for key in keys]
