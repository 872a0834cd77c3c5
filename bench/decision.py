"""The same decoder and decision for every framework: a record's value and a shopper's stored bytes in, the next bytes out.

Depends on `interest` and `schemas` alone, so the peers' own environment runs it without Beam or torch.
"""

from dataclasses import dataclass, field

from interest import EMPTY, Arrival, State, TriggerPolicy, decode, encode, fold
from schemas import BehaviourEvent
from schemas.codec import decoder_for

DECODER = decoder_for("json")
"""The job's own: msgspec's JSON, then the checks that an event must pass."""


@dataclass
class Decision:
    """Folds records, with one log clock a partition, and counts what was decided."""

    policy: TriggerPolicy = field(default_factory=TriggerPolicy)
    clocks: dict[int, int] = field(default_factory=dict)
    events: int = 0
    changes: int = 0

    def arrive(self, value: bytes, partition: int, offset: int) -> tuple[BehaviourEvent, Arrival]:
        """The event and its log clock. To be called in offset order, which a keyed step need not keep across shoppers."""
        (event,) = DECODER.decode([value])
        assert isinstance(event, BehaviourEvent), event
        assert event.ingest_ms is not None, "the benchmark's events carry their log clock"
        clock = self.clocks[partition] = max(self.clocks.get(partition, 0), event.ingest_ms)
        return event, Arrival(partition, offset, clock)

    def next_bytes(self, stored: bytes | None, event: BehaviourEvent, arrival: Arrival) -> bytes:
        """The shopper's next state, encoded, as a store that outlives the process would keep it."""
        return encode(self.next_state(decode(stored) if stored else EMPTY, event, arrival))

    def next_state(self, state: State, event: BehaviourEvent, arrival: Arrival) -> State:
        step = fold(state, event, arrival, self.policy)
        self.events += 1
        self.changes += len(step.changes)
        return step.state
