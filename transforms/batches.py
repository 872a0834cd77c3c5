"""The elements of the track branch: Beam's price is per element, so an element is a batch of one partition."""

from dataclasses import dataclass

from schemas import BehaviourEvent


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one partition in offset order, as the broker holds them."""

    topic: str
    topic_id: str
    """The broker's id of the topic (a recreated topic has another), or its name where the broker has none."""
    partition: int
    start_offset: int
    """Where the batch before this one ended (its `next_offset`): what lets a gap be told from a hole in the log."""
    offsets: list[int]
    ingest_ms: list[int]
    """Append time of each record by the broker's clock."""
    values: list[bytes | None]
    next_offset: int
    """The first offset not in this batch. A batch without records is a tick: it carries progress and the heartbeat."""
    idle_ms: int | None = None
    """Wall clock at which the broker was asked, where its answer proved that `next_offset` is the partition's end."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """What of a record batch could be read. The other records are dead letters already acknowledged by the broker."""

    topic: str
    topic_id: str
    partition: int
    start_offset: int
    offsets: list[int]
    ingest_ms: list[int]
    """Log clock input of each event: append time, or the event's own `ingest_ms` where the job trusts it."""
    events: list[BehaviourEvent]
    next_offset: int
    idle_ms: int | None = None
