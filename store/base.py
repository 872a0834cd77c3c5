"""What all parts of the client stand on: the connection, what the namespace is pinned to, and this writer's epoch."""

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from typing import Any

from store.calls import Calls, Command
from store.errors import NamespaceMismatch, StoreError, WriterFenced
from store.layout import NAMESPACES, POINTERS, Shard, namespace_key, shard_of
from store.values import NamespaceMeta, Stage

DAY_S = 86_400
DEFAULT_SHARDS = 16
ADOPTABLE = ("fold_version", "policy_digest", "policy")
"""What may change under a namespace's states. With another topic their offsets, with other partitions or shards their places would
mean something else: no adoption, only a new fold of the log."""


class StoreBase:
    """See store.client.ShopperStore."""

    def __init__(
        self,
        url: str,
        namespace: str = "live",
        shards: int | None = None,
        *,
        ttl_s: float = 120 * DAY_S,
        runs_ttl_s: float = 30 * DAY_S,
        tombstone_ttl_s: float = 400 * DAY_S,
        runs_kept: int = 3,
        outcomes_kept: int = 10_000,
        compress_states: bool = False,
        deadline_s: float = 60.0,
        cluster: bool = False,
        follow_s: float = 1.0,
        literal: bool = False,
        on_retry: Callable[[str], None] = lambda call: None,
    ) -> None:
        """
        url: redis://, rediss:// or unix://; of any node where `cluster` is set.
        shards: of shoppers. None takes what the namespace is pinned to.
        ttl_s: after that long an untouched state is garbage. Longer than the fold's own forgetting.
        runs_ttl_s: the same for lists, from the newest on.
        tombstone_ttl_s: how long an erasure refuses late lists. Longer than the topic's retention.
        outcomes_kept: ended requests that each shard lists one by one (about).
        compress_states: a quarter less memory a shopper for about 10 us more a load and save (docs/store.md). May change any
            time: each state says how it is kept.
        deadline_s: seconds that one call is retried.
        follow_s: seconds after which a reader of lists looks where the name points now: one small call in so long. A writer does not:
            it stays in the namespace that it began in, and is fenced when the name moves.
        literal: `namespace` is one, also where a name like it points elsewhere.
        """
        self.name = namespace
        """As given: a namespace, or a name that points to one."""
        self._follow_s, self._followed_at = follow_s, time.monotonic()
        self._literal = literal
        self._given_shards = shards
        self._ttl_ms, self._runs_ttl_ms = int(ttl_s * 1000), int(runs_ttl_s * 1000)
        self._tombstone_ttl_ms = int(tombstone_ttl_s * 1000)
        self._runs_kept, self._outcomes_kept = runs_kept, outcomes_kept
        self._compress_states = compress_states
        self._epochs: dict[Stage, str] = {}
        self._topic_id: str | None = None
        self._written: set[tuple[int, int]] = set()
        """(shard, partition) that this process has seen written: found unwritten later, the shard was lost."""
        self.calls = Calls(url, cluster, deadline_s, on_retry)

    @cached_property
    def namespace(self) -> str:
        """The namespace that the name points to; the name itself where it points nowhere."""
        return self.name if self._literal else self._pointed_to()

    def _pointed_to(self) -> str:
        pointer = self.calls.one("pointer", "HGET", POINTERS, self.name)
        return pointer.decode() if pointer else self.name

    def _follow(self) -> None:
        if self._literal or self._epochs or time.monotonic() - self._followed_at < self._follow_s:
            return
        self._followed_at = time.monotonic()
        namespace = self._pointed_to()
        if namespace != self.namespace:
            options = {"cluster": self.calls.cluster, "deadline_s": self.calls.deadline_s, "literal": True}
            now = type(self)(self.calls.url, namespace, **options)
            self.__dict__ |= {"namespace": namespace, "shards": now.shards, "_shards": now._shards, "_topic_id": None}

    @cached_property
    def shards(self) -> int:
        if self._given_shards is not None:
            return self._given_shards
        pinned = self.pinned()
        return pinned.shards if pinned else DEFAULT_SHARDS

    @cached_property
    def _shards(self) -> tuple[Shard, ...]:
        return tuple(Shard(self.namespace, number) for number in range(self.shards))

    def _shard_of(self, user: str) -> Shard:
        shards = self._shards  # once: a reader may be moved to another namespace meanwhile
        return shards[shard_of(user, len(shards))]

    def pinned(self) -> NamespaceMeta | None:
        """What the namespace is pinned to; None if nothing ever opened it."""
        value = self.calls.one("meta", "GET", namespace_key(self.namespace))
        return NamespaceMeta(**json.loads(value)) if value else None

    def open(self, meta: NamespaceMeta, adopt: bool = False) -> None:
        """Installs the functions and pins the namespace to `meta`, or checks that it is pinned to the same.

        adopt: pin it to another fold version or policy, by an operator's decision. Raises NamespaceMismatch.
        """
        self._given_shards = self._given_shards or meta.shards
        if meta.shards != self.shards:
            raise ValueError(f"the store was made for {self.shards} shards, the metadata says {meta.shards}")
        self.calls.install()
        key, value = namespace_key(self.namespace), json.dumps(asdict(meta))
        self.calls.one("open", "SET", key, value, "NX")
        self.calls.one("open", "SADD", NAMESPACES, self.namespace)
        pinned = self.pinned() or meta
        if pinned != meta:
            self._check_adoption(pinned, meta, adopt)
            self.calls.one("open", "SET", key, value)
        self._topic_id = meta.topic_id

    def _check_adoption(self, pinned: NamespaceMeta, meta: NamespaceMeta, adopt: bool) -> None:
        now = asdict(meta)
        changed = {name: old for name, old in asdict(pinned).items() if now[name] != old}
        what = "; ".join(f"{name} is {now[name]!r}, the namespace has {old!r}" for name, old in changed.items())
        where = f"namespace {self.namespace!r} at {self.calls.where}: {what}. "
        if not changed.keys() <= set(ADOPTABLE):
            raise NamespaceMismatch(
                f"{where}Its states would mean something else: go back to the old value, or fold the log anew into a fresh "
                f"namespace with `aigq rebuild` (another number of shards alone: `aigq adopt --shards=N`)"
            )
        if not adopt:
            raise NamespaceMismatch(
                f"{where}If that change is meant: `aigq adopt --execute` with the job's options, and start the job again (or start it once with --adopt)"
            )

    def begin(self, stage: Stage, epoch: str | None = None) -> str:
        """Makes this writer the newest of its stage in every shard; older ones get WriterFenced from then on.

        Workers of one job share one epoch: the first takes it (None) and hands what is returned to the others.
        Raises WriterFenced if `epoch` is no longer the newest.
        """
        if epoch is None:
            field = f"epoch:{stage}"
            held = self.calls.many("begin", [("HGET", shard.key("meta"), field) for shard in self._shards])
            # The clock of this machine may be behind that of the writer before: what begins later is newer all the same.
            newest = max((int(reply.value.split(b"-")[0]) for reply in held if reply.value), default=0)
            epoch = f"{max(int(time.time() * 1000), newest + 1)}-{secrets.token_hex(4)}"
        self._epochs[stage] = epoch
        commands = [self._function("begin", stage, shard) for shard in self._shards]
        for shard, reply in zip(self._shards, self.calls.many("begin", commands), strict=True):
            self._check_fence(stage, shard.number, reply.value)
        return epoch

    def _function(self, name: str, stage: Stage, shard: Shard, keys: tuple[bytes, ...] = (), *args: Any) -> Command:
        """A call of one of our functions: the shard's keys and `keys`; stage, epoch and `args`."""
        return (
            "FCALL",
            f"aigq_v1_{name}",
            len(shard.keys) + len(keys),
            *shard.keys,
            *keys,
            stage,
            self._epoch(stage),
            *args,
        )

    def _epoch(self, stage: Stage) -> str:
        try:
            return self._epochs[stage]
        except KeyError:
            raise StoreError(f"a writer of stage {stage!r} calls begin({stage!r}) before it writes") from None

    def _check_fence(self, stage: Stage, shard: int, reply: list[Any]) -> None:
        if reply[0] == b"fenced":
            ours, newer = self._epochs[stage], reply[1].decode()
            raise WriterFenced(
                f"namespace {self.namespace!r} at {self.calls.where}: a newer writer of stage {stage!r} has begun (epoch "
                f"{newer}, ours {ours}, seen in shard {shard}). This one has stopped writing. Two jobs must not run one "
                f"stage: stop the one that is not wanted; if it is the newer one, start this one again after that"
            )

    def _log(self, partition: int) -> str:
        """Name of a partition in a shard's metadata: offsets of a topic that was recreated are another log's."""
        if self._topic_id is None:
            pinned = self.pinned()
            if pinned is None:
                raise StoreError(f"namespace {self.namespace!r} at {self.calls.where} was never opened by a job")
            self._topic_id = pinned.topic_id
        return f"{self._topic_id}:{partition}"
