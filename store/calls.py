"""Calls to the server, each retried with backoff until it is answered or its deadline is over.

The runner fails a whole job at the first exception (Prism), so what passes by itself (a restart, a failover, a slot on its
way to another node, a node without our functions) is waited for here. Every function can be repeated: see the caller for
what it makes of a reply that it got at the second try.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import AuthenticationError, AuthorizationError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry

from store.errors import StoreRefused, StoreUnavailable

LOG = logging.getLogger(__name__)

FUNCTIONS = "\n".join(
    Path(__file__).with_name(f"functions{part}.lua").read_text()
    for part in ("", "_queue", "_lists", "_requests", "_save")
)
"""One library: later files use what earlier ones define."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.02, 2.0
TRY_TIMEOUT_S = 5.0
"""A try that takes longer is given up and repeated: a save of 300 shoppers takes 2 ms."""
PASSING = (
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "LOADING",
    "READONLY",
    "NOREPLICAS",
    "BUSY",
    "OOM",
    "MISCONF",
    "UNBLOCKED",
)
"""Answers that change without our doing: resharding, failover, restart, a full or read-only server."""

Command = Sequence[bytes | str | int]


@dataclass(frozen=True, slots=True)
class Reply:
    value: Any
    retried: bool
    """The command was sent before, and that try may have been executed."""


@dataclass(frozen=True)
class Calls:
    """One client, its retries, and the functions it needs on the server. Threads may share it."""

    url: str
    cluster: bool
    deadline_s: float
    on_retry: Callable[[str], None]
    """Called with the call's name at each retry."""
    where: str = field(init=False)
    """The URL as messages show it: without the password."""
    client: "Redis | RedisCluster" = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", re.sub(r"//[^@/]*@", "//***@", self.url))
        # RESP2: the same reply shapes from every server. No retries inside the client: they know nothing of our deadline.
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": min(TRY_TIMEOUT_S, self.deadline_s),
            "socket_connect_timeout": min(TRY_TIMEOUT_S, self.deadline_s),
        }
        if self.cluster:
            object.__setattr__(
                self, "client", self._retried("connect", lambda _: RedisCluster.from_url(self.url, **options))
            )
        else:
            object.__setattr__(self, "client", Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), **options))

    def one(self, call: str, *command: bytes | str | int) -> Any:
        return self.many(call, [command])[0].value

    def many(self, call: str, commands: Sequence[Command]) -> list[Reply]:
        """All commands in one round trip; replies in their order. What failed in passing is sent again, alone.

        Raises StoreUnavailable, StoreRefused.
        """
        replies: list[Reply | None] = [None] * len(commands)
        pending = list(range(len(commands)))

        def send(retried: bool) -> None:
            nonlocal pending
            pipeline = self.client.pipeline(transaction=False)
            for position in pending:
                pipeline.execute_command(*commands[position])
            failed: RedisError | None = None
            left = []
            for position, value in zip(pending, pipeline.execute(raise_on_error=False), strict=True):
                if isinstance(value, RedisError):
                    left.append(position)
                    failed = value if failed is None or passes(failed) else failed
                else:
                    replies[position] = Reply(value, retried)
            pending = left
            if failed is not None:
                raise failed

        if commands:
            self._retried(call, send)
        return [reply for reply in replies if reply is not None]

    def scan(self, pattern: str, at_once: int) -> Iterator[list[bytes]]:
        """Keys that match, of all nodes; a key may come twice, one that was there all the time comes."""
        if isinstance(self.client, RedisCluster):
            keys = self.client.scan_iter(match=pattern, count=at_once)
            while batch := list(islice(keys, at_once)):
                yield batch
            return
        cursor = None
        while cursor != b"0":
            cursor, found = self.one("scan", "SCAN", cursor or 0, "MATCH", pattern, "COUNT", at_once)
            cursor = cursor if isinstance(cursor, bytes) else str(cursor).encode()
            yield found

    def install(self) -> None:
        """Puts our functions on the server, on each primary of a cluster."""
        self._retried("install", lambda _: self._load())

    def _load(self) -> None:
        if isinstance(self.client, RedisCluster):
            self.client.function_load(FUNCTIONS, replace=True)  # the client sends it to all primaries
        else:
            self.client.execute_command("FUNCTION LOAD", "REPLACE", FUNCTIONS)

    def _retried(self, call: str, attempt: Callable[[bool], Any]) -> Any:
        begun, wait_s, retried = time.monotonic(), FIRST_WAIT_S, False
        while True:
            try:
                return attempt(retried)
            except (RedisError, RedisClusterException) as error:
                if not passes(error):
                    raise StoreRefused(f"store at {self.where}: {call}: {error}") from error
                spent_s = time.monotonic() - begun
                if spent_s + wait_s > self.deadline_s:
                    raise StoreUnavailable(
                        f"store at {self.where}: {call} got no answer in {spent_s:.1f} s of retries (last: {error!r}). "
                        f"Is the server up and reachable from here? `valkey-cli -u {self.where} ping` tells; a longer "
                        f"outage is waited for with --store_deadline_s (now {self.deadline_s:g})"
                    ) from error
                LOG.warning("store: %s failed, again in %.2f s: %r", call, wait_s, error)
                self.on_retry(call)
                if missing_function(error):
                    self._load_quietly()
                else:
                    time.sleep(wait_s * random.uniform(0.5, 1.0))
                    wait_s = min(wait_s * 2, LONGEST_WAIT_S)
                retried = True

    def _load_quietly(self) -> None:
        try:
            self._load()
        except RedisError as error:
            LOG.warning("store: functions could not be loaded yet: %r", error)  # the next try says what is wrong
            time.sleep(FIRST_WAIT_S)


def missing_function(error: Exception) -> bool:
    """A new node, or one that was emptied."""
    return isinstance(error, ResponseError) and "function not found" in str(error).lower()


def passes(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return False
    if isinstance(error, (NoConnection, NoAnswer)) or missing_function(error):
        return True
    if isinstance(error, RedisClusterException):
        return True  # no node reachable, or a slot that nobody covers at the moment
    names = (type(error).__name__, str(error).split(" ", 1)[0])
    return names[1] in PASSING or names[0] in (
        "TryAgainError",
        "ClusterDownError",
        "MasterDownError",
        "ReadOnlyError",
        "BusyLoadingError",
        "OutOfMemoryError",
        "ClusterError",
        "MovedError",
        "AskError",
    )
