"""What goes into the store's calls and comes out of them. All times are Unix milliseconds; blobs are opaque here."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from store.layout import SHARD_HASH

Stage = Literal["track", "generate", "backfill", "regenerate", "redrive", "rebuild", "replay", "adopt"]
"""Of a writer: the two of the job, and an operator's commands. Of each the newest writes and older ones are fenced."""
Outcome = Literal["published", "malformed", "expired", "exhausted", "refused", "cancelled"]
"""What `finish` may end a request in. `conflated`, the sixth outcome, is the store's own decision."""
TOKEN_BYTES = 8


@dataclass(frozen=True)
class NamespaceMeta:
    """What a namespace is pinned to: with any of it different, states or offsets would mean something else."""

    topic: str
    topic_id: str
    """The broker's id of the topic: a recreated topic has the same name and other records."""
    partitions: int
    partitioner: str
    shards: int
    fold_version: int
    policy_digest: str
    policy: str = ""
    """The trigger policy's values as JSON, for readers; opaque to the store."""
    shard_hash: str = SHARD_HASH


class StoredState(NamedTuple):
    """A named tuple: hundreds are made a load, and a frozen dataclass takes four times as long."""

    token: bytes
    """8 random bytes, other ones with every save."""
    blob: bytes


@dataclass(frozen=True, slots=True)
class Fired:
    """A change that came due: a request for a list."""

    run_id: str
    as_of_ms: int
    blob: bytes


class StateChange(NamedTuple):
    """The next state of one shopper."""

    user: str
    token: bytes
    """Of the state it was made from; b"" if there was none."""
    blob: bytes
    due_ms: int | None
    """When the forming change comes due, None without one."""
    fired: tuple[Fired, ...] = ()
    """Oldest first. All but the newest are conflated at once."""
    erased_ms: int | None = None
    """Log clock at which the shopper asked to be forgotten: runs and requests up to then go, later publications too."""


@dataclass(frozen=True, slots=True)
class Applied:
    """How far a partition has been folded into a shard."""

    next_offset: int
    """The first offset that is not applied yet."""
    clock_ms: int


@dataclass(frozen=True, slots=True)
class ShardSave:
    """A save of one shard; without changes a heartbeat."""

    shard: int
    partition: int
    from_offset: int
    to_offset: int
    clock_ms: int
    changes: list[StateChange]
    clamped: int = 0
    """Of its records, those that came after their time: progress had passed them already (docs/sameness.md)."""


@dataclass(frozen=True, slots=True)
class SaveResult:
    """`saved`, or why nothing was written.

    behind: the shard's applied offset is below `from_offset`, so it was rolled back and its records are to be read again.
    ahead: it is above. conflict: states have other tokens than the changes expect.
    """

    status: Literal["saved", "behind", "ahead", "conflict"]
    applied: Applied | None
    """What the shard holds now; None where the call had no offsets (fire)."""
    conflicts: tuple[int, ...] = ()
    """Positions in the changes."""
    conflated: int = 0
    """Requests that newer ones took the place of."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that is ours until its lease ends."""

    user: str
    run_id: str
    attempt: int
    """1 at the first claim."""
    shard: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class Publication:
    """A list to store. `blob` is the QueryRun in msgpack; the store compresses it."""

    user: str
    run_id: str
    as_of_ms: int
    promotion: int
    model_version: str
    blob: bytes
    replaces: tuple[str, ...] = ()
    """Runs whose lists go when this one is stored."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that a person asks for: not fired by the fold."""

    user: str
    run_id: str
    as_of_ms: int
    blob: bytes


WantedAnswer = Literal["requested", "waits", "listed", "refused"]
"""waits: a request of this shopper is on its way already. listed: a list of this run, or one as new, is stored. refused: erased."""


@dataclass(frozen=True, slots=True)
class PublishResult:
    """published: stored. repeated: this run (or the same request under a newer promotion) was stored before.
    older: newer lists leave no room for it; counted as conflated. refused: the shopper was erased or the model revoked.
    unknown: its request has ended already; nothing was written.
    """

    outcome: Literal["published", "repeated", "older", "refused", "unknown"]
    stored: bytes | None = None
    """The blob that the store holds for this run: after published and repeated."""


@dataclass(frozen=True, slots=True)
class Request:
    """A fired change that has not ended yet."""

    run_id: str
    as_of_ms: int
    attempt: int
    """Times it was claimed."""
    blob: bytes
    listed: bool = False
    """Its list is stored: it will end as published."""
    low: bool = False
    """Taken only where no other request waits."""


class Requests(NamedTuple):
    """Of one shopper: at most one waits and one is in flight."""

    waiting: Request | None
    leased: Request | None


class Depth(NamedTuple):
    """Of the queue, all shards together."""

    waiting: int
    leased: int
    oldest_as_of_ms: int | None
    """Of the requests that wait."""
    low: int = 0
    """Requests of low priority that wait; not among `waiting`."""


class Ended(NamedTuple):
    """A request and the outcome it ended in."""

    run_id: str
    user: str
    outcome: str
    as_of_ms: int
    """0 where it ended under a version that did not note it."""
    ended_ms: int
    """By the store's clock."""
    low: bool = False
    """Of low priority: an operator's, whose as-of is when the command began."""
