"""The elements of the track branch: Beam's price is per element, so an element is a batch of one partition."""

from bisect import bisect_left
from dataclasses import dataclass, replace

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
    progress_ms: int | None = None
    """Log clock that is proven to have passed at `next_offset`: no record behind it has an earlier one. None where nothing is."""
    closing: bool = False
    """The last batch of a partition in a bounded read: whoever keeps progress notes it now."""
    lost: bool = False
    """Without records: those up to `next_offset` were deleted before they were read, and are skipped by choice."""

    def from_offset(self, offset: int) -> "RecordBatch":
        """The part of it that lies at `offset` and beyond."""
        if offset <= self.start_offset:
            return self
        first = bisect_left(self.offsets, offset)
        return replace(
            self,
            start_offset=offset,
            offsets=self.offsets[first:],
            ingest_ms=self.ingest_ms[first:],
            values=self.values[first:],
        )


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
    progress_ms: int | None = None
    closing: bool = False
