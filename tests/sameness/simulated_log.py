"""The records of a run: partitions with append times, and what one pass over them comes to."""

from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import msgspec

from bench.faults.load import events
from inference.prompt import build_prompt
from interest import EMPTY, Arrival, TriggerPolicy, encode, expire, fold
from schemas import BehaviourEvent, Change
from transforms.track_interest import encode_change

T0 = 1_780_000_000_000
GRID_MS = 50
"""Times are multiples of it, so that a record often lies exactly at a deadline."""
POLICY = TriggerPolicy(
    drift=0.2, settle_ms=300, max_wait_ms=1_500, cooldown_ms=1_000, behaviours_kept=12, interests_kept=6
)
FOR_EVER_MS = 1 << 50


class Record(NamedTuple):
    append_ms: int
    visible_ms: int
    """When a reader gets it, and the end of the log counts it: appends take up to the job's grace."""
    event: BehaviourEvent | None
    """None: a dead letter."""


@dataclass
class Log:
    partitions: list[list[Record]]

    def visible(self, partition: int, now_ms: int) -> int:
        """The end of the partition."""
        return sum(record.visible_ms <= now_ms for record in self.partitions[partition])

    @property
    def last_ms(self) -> int:
        return max(record.visible_ms for records in self.partitions for record in records)


def a_log(rng: Random, shoppers: int = 7, partitions: int = 2, records: int = 110) -> Log:
    """Late events, ids that come twice, erasures, dead letters, append times that fall back."""
    log, now, earlier = Log([[] for _ in range(partitions)]), T0, list[dict[str, Any]]()
    source = events(rng.randrange(1 << 30), shoppers, lambda r, _: -r.choice((0, 0, 0, 40, 900, 60_000, -5_000)))
    for _ in range(records):
        now += rng.choice((0, 0, 0, 50, 100, 150, 300, 600))
        event = next(source)
        event["time_ms"] = now + int(str(event["time_ms"]))
        if earlier and rng.random() < 0.06:
            event = rng.choice(earlier[-6:])
        elif rng.random() < 0.03:
            event = {"id": event["id"], "user": event["user"], "kind": "erase", "time_ms": now}
        earlier.append(event)
        log_of = log.partitions[sum(str(event["user"]).encode()) % partitions]
        append = now - rng.choice((0, 0, 0, 50))
        visible = max([append + rng.choice((0, 0, 50, 100)), now, *(record.visible_ms for record in log_of[-1:])])
        dead = rng.random() < 0.03
        log_of.append(Record(append, visible, None if dead else msgspec.convert(event, BehaviourEvent)))
    return log


@dataclass
class OnePass:
    """Every state, change and erasure, of one fold in offset order."""

    states: dict[str, bytes] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)
    """By run id."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)
    """Clock of the shopper's last erasure."""


def one_pass(log: Log, policy: TriggerPolicy = POLICY) -> OnePass:
    result, states = OnePass(), {}
    fired: list[Change] = []
    for partition, records in enumerate(log.partitions):
        clock = 0
        for offset, record in enumerate(records):
            if record.event is None:
                continue
            clock = max(clock, record.append_ms)
            user = record.event.user
            arrival = Arrival(partition, offset, clock)
            states[user], changes, outcome = fold(states.get(user, EMPTY), record.event, arrival, policy)
            fired += changes
            if outcome == "erased":
                result.erased[user] = clock
    for user, state in states.items():
        after, changes = expire(state, user, FOR_EVER_MS, policy)
        result.states[user] = encode(after)
        fired += changes
    for change in fired:
        result.changes[change.run_id] = change
        result.blobs[change.run_id] = encode_change(change)
        result.prompts[change.run_id] = build_prompt(change.profile, change.behaviours, change.as_of_ms)
    return result
