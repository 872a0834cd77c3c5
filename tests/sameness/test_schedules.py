"""One log, any schedule: live in pieces, replayed in one pass, stopped and gone on, or begun in the middle decides the same."""

import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from inference.prompt import build_prompt
from interest import EMPTY, Arrival, State, TriggerPolicy, decode, due_ms, encode, expire, fold
from schemas import BehaviourEvent, Change
from tests.interest.test_oracle_agrees import POLICIES, histories

# As in test_oracle_agrees: thousands before a change of the rule is believed.
EXAMPLES = int(os.environ.get("AIGQ_ORACLE_EXAMPLES", "60"))


class Record(NamedTuple):
    offset: int
    clock_ms: int
    """The partition's log clock at this record."""
    event: BehaviourEvent


Log = dict[int, list[Record]]
"""Partition -> its records. A shopper's lie in one partition."""


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Three shoppers in two partitions: append times fall back, ids come twice, events lie ahead and years behind, erasures."""
    stamped: dict[int, list[tuple[int, BehaviourEvent]]] = defaultdict(list)
    for number, user in enumerate(("ann", "bob", "cy")):
        for _, ingest_ms, event in draw(histories()):
            stamped[number % 2].append((ingest_ms, replace(event, user=user)))
    log: Log = {}
    for partition, records in stamped.items():
        records.sort(
            key=lambda pair: pair[0] // 1_000
        )  # roughly: within a second they keep the order they were drawn in
        clock, log[partition] = 0, []
        for offset, (ingest_ms, event) in enumerate(records):
            clock = max(clock, ingest_ms)
            log[partition].append(Record(offset, clock, event))
    return log


@dataclass
class Run:
    """States, and everything that fired."""

    policy: TriggerPolicy
    states: dict[str, State] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def take(self, partition: int, record: Record) -> None:
        state = self.states.get(record.event.user, EMPTY)
        step = fold(state, record.event, Arrival(partition, record.offset, record.clock_ms), self.policy)
        self.states[record.event.user] = step.state
        self.changes += step.changes

    def expire(self, users: list[str], clock_ms: int) -> None:
        for user in users:
            self.states[user], changes = expire(self.states[user], user, clock_ms, self.policy)
            self.changes += changes

    def at_home_in(self, partition: int) -> list[str]:
        return sorted(user for user, state in self.states.items() if state.partition == partition)

    def stop_and_go_on(self) -> None:
        """All that is left of a process: the bytes in the store."""
        self.states = {user: decode(encode(state)) for user, state in self.states.items()}

    def decided(self) -> tuple[dict[str, bytes], list[Change], dict[str, str]]:
        """States as bytes, changes, and the prompt of each run."""
        prompts = {c.run_id: build_prompt(c.profile, c.behaviours, c.as_of_ms) for c in self.changes}
        assert len(prompts) == len(self.changes), "a run id names two changes"
        order = sorted(self.changes, key=lambda change: (change.user, change.as_of_ms))
        return {user: encode(state) for user, state in sorted(self.states.items())}, order, prompts


def replayed(log: Log, policy: TriggerPolicy, end_ms: int) -> Run:
    """Each partition in one pass; time passes at its end only."""
    run = Run(policy)
    for partition, records in log.items():
        for record in records:
            run.take(partition, record)
    run.expire(sorted(run.states), end_ms)
    return run


def end_of(log: Log, later_ms: int) -> int:
    return max(records[-1].clock_ms for records in log.values()) + later_ms


logs_and_policies = given(
    logs(), st.sampled_from(POLICIES), st.sampled_from([0, 1, 3_000, 10**9]), st.randoms(use_true_random=False)
)


@logs_and_policies
@settings(max_examples=EXAMPLES)
def test_a_live_run_in_any_pieces_decides_what_a_replay_decides(log, policy, later_ms, rng):
    """Partitions take turns, time passes between records for some shoppers, records are read again, the process stops."""
    run, at = Run(policy), dict.fromkeys(log, 0)
    while left := sorted(partition for partition, records in log.items() if at[partition] < len(records)):
        partition = rng.choice(left)
        records, here = log[partition], at[partition]
        if here and rng.random() < 0.5:
            first, last = records[here - 1].clock_ms, records[here].clock_ms
            users = run.at_home_in(partition)
            dues = [due for user in users if (due := due_ms(run.states[user], policy)) and first <= due <= last]
            clock = rng.choice([rng.randint(first, last), first, last, *dues])
            run.expire(rng.sample(users, rng.randint(0, len(users))), clock)
        if rng.random() < 0.2:
            run.stop_and_go_on()
        if here and rng.random() < 0.2:
            for record in records[rng.randrange(here) : here]:
                run.take(partition, record)
        run.take(partition, records[here])
        at[partition] += 1
    end_ms = end_of(log, later_ms)
    for clock in sorted(rng.randint(end_ms - later_ms, end_ms) for _ in range(3)):
        run.expire(sorted(run.states), clock)
    run.expire(sorted(run.states), end_ms)
    assert run.decided() == replayed(log, policy, end_ms).decided()


@logs_and_policies
@settings(max_examples=EXAMPLES)
def test_a_window_decides_what_the_whole_run_decided_in_it(log, policy, later_ms, rng):
    """The state as of T0 first, its requests dropped; then [T0, T1) makes the requests that the whole run made in it."""
    clocks = sorted(record.clock_ms for records in log.values() for record in records)
    begin_ms = rng.choice(clocks) + rng.choice([-1, 0, 0, 1, policy.settle_ms])
    end_ms = rng.choice([clock for clock in clocks if clock >= begin_ms] or [begin_ms]) + later_ms
    window = Run(policy)
    for since_ms, until_ms in ((0, begin_ms), (begin_ms, end_ms)):
        window.changes.clear()
        for partition, records in log.items():
            for record in records:
                if since_ms <= record.clock_ms < until_ms:
                    window.take(partition, record)
        window.expire(sorted(window.states), until_ms)
    before_end = {p: [record for record in records if record.clock_ms < end_ms] for p, records in log.items()}
    whole = replayed(before_end, policy, end_ms)
    whole.changes = [change for change in whole.changes if begin_ms <= change.as_of_ms < end_ms]
    assert window.decided() == whole.decided()
