"""The rule and its second writing decide the same about thousands of random histories."""

import os
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interest import EMPTY, Arrival, State, TriggerPolicy, behaviours_of, expire, fold, interest_of
from schemas import Behaviour, BehaviourEvent, Change, Item
from tests.integration.oracle import Kept, Record, Rule, Shopper, fold_log, shares

T0 = 1_700_000_000_000
DAY_MS = 86_400_000
TEXTS = [
    "laptop", "USB hub", "tv 55", "red shoes", "the", "", "lego lego Lego", "phone case", "x", "Ünïcode çafé", "a1 b2 c3 d4 e5",
    "one two three four five six seven eight nine ten",
]  # fmt: skip
CATEGORIES = ["", "Laptops", "TV & Video", "Toys"]
STEPS_MS = [0, 1, 137, 500, 2_999, 3_000, 3_001, 9_000, 15_001, 31_000, 4_000_000, 43_200_000, 3 * DAY_MS]
LAGS_MS = [0, 0, 0, 1, 17, 5_000, 90_000_000, -400, -365 * DAY_MS, 365 * DAY_MS, 89 * DAY_MS]
EXAMPLES = int(os.environ.get("AIGQ_ORACLE_EXAMPLES", "300"))
"""5,000 and more before a change of the rule is believed; 300 keep the unit tests quick."""
KINDS: list[Literal["search", "click", "erase"]] = ["search", "click", "search", "click", "search", "click", "erase"]
POLICIES = [
    TriggerPolicy(),
    TriggerPolicy(behaviours_kept=6, interests_kept=4, terms_per_behaviour=3),
    TriggerPolicy(behaviours_kept=3, interests_kept=2, drift=0.05, evidence=0.3, cooldown_ms=0, horizon_ms=2 * DAY_MS),
    TriggerPolicy(half_life_ms=3_600_000, category_share=0.3, search_weight=0.7, settle_ms=1_000, max_wait_ms=1_000),
]


@st.composite
def events(draw: st.DrawFn, number: int, clock: int) -> BehaviourEvent:
    id = f"e{draw(st.integers(max(0, number - 4), number))}"  # some come again
    time = clock - draw(st.sampled_from(LAGS_MS))
    kind = draw(st.sampled_from(KINDS))
    text, profile = draw(st.sampled_from(TEXTS)), draw(st.sampled_from([{}, {}, {"gender": "F"}, {"age": "40"}]))
    if kind == "click":
        item = Item("i", text, draw(st.sampled_from(CATEGORIES)))
        return BehaviourEvent(id, "ann", "click", time, item=item, profile=profile)
    return BehaviourEvent(id, "ann", kind, time, query=text if kind == "search" else "", profile=profile)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, BehaviourEvent]]:
    """(partition, append time, event) of one shopper; append times may fall back, few records lie in another partition."""
    ingest, history = T0, []
    for number in range(draw(st.integers(1, 45))):
        ingest += draw(st.sampled_from(STEPS_MS))
        stamped = ingest - draw(st.sampled_from([0, 0, 0, 50]))
        partition = draw(st.sampled_from([0] * 30 + [1]))
        history.append((partition, stamped, draw(events(number, stamped))))
    return history


def rule_of(policy: TriggerPolicy) -> Rule:
    names = Rule.__dataclass_fields__.keys() - {"trigger_version"}
    return Rule(policy.version, **{name: getattr(policy, name) for name in names})


def by_product(
    history: list[tuple[int, int, BehaviourEvent]], policy: TriggerPolicy, end_ms: int
) -> tuple[State, list[Change], dict[str, int]]:
    state, changes, outcomes, clocks = EMPTY, [], dict[str, int](), dict[int, int]()
    order = sorted(range(len(history)), key=lambda offset: history[offset][0])
    for offset in order:
        partition, ingest, event = history[offset]
        clocks[partition] = max(clocks.get(partition, 0), ingest)
        if state.partition not in (-1, partition):
            outcomes["wrong_partition"] = outcomes.get("wrong_partition", 0) + 1
            continue
        step = fold(state, event, Arrival(partition, offset, clocks[partition]), policy)
        state, outcomes[step.outcome] = step.state, outcomes.get(step.outcome, 0) + 1
        changes += step.changes
    state, last = expire(state, "ann", end_ms, policy)
    return state, [*changes, *last], outcomes


def by_oracle(history: list[tuple[int, int, BehaviourEvent]], policy: TriggerPolicy, end_ms: int) -> Shopper:
    records = [
        Record(partition, offset, ingest, msgspec.json.encode(event))
        for offset, (partition, ingest, event) in enumerate(history)
    ]
    return fold_log(records, rule_of(policy), end_ms)["ann"]


def plain(behaviours: Any) -> list[tuple[Any, ...]]:
    return [(b.time_ms, b.id, b.kind, b.text, b.category) for b in behaviours]


def test_the_second_writing_has_the_same_defaults():
    assert rule_of(TriggerPolicy()) == Rule(TriggerPolicy().version)
    assert set(Kept.__dataclass_fields__) == set(Behaviour.__struct_fields__)


@given(histories(), st.sampled_from(POLICIES), st.sampled_from([0, 2_000, 10**9]))
@settings(max_examples=EXAMPLES)
def test_rule_and_oracle_agree(history, policy, later_ms):
    end_ms = max(ingest for _, ingest, _ in history) + later_ms
    state, changes, outcomes = by_product(history, policy, end_ms)
    expected = by_oracle(history, policy, end_ms)
    assume(not expected.close_calls)
    assert outcomes == expected.outcomes
    assert plain(behaviours_of(state)) == plain(expected.kept)
    assert state.offset == expected.offset
    assert [(c.run_id, c.as_of_ms, c.profile, plain(c.behaviours)) for c in changes] == [
        (r.run_id, r.as_of_ms, r.profile, plain(r.behaviours)) for r in expected.requests
    ]
    assert [c.drift for c in changes] == pytest.approx([r.drift for r in expected.requests], rel=1e-9)
    assert [c.evidence for c in changes] == pytest.approx([r.evidence for r in expected.requests], rel=1e-9)
    held = interest_of(state)
    assert seen({part: now for part, (_, now) in held.items()}) == pytest.approx(
        seen(shares(expected.weights)), rel=1e-9
    )
    assert seen({part: then for part, (then, _) in held.items()}) == pytest.approx(seen(expected.base), rel=1e-9)


def seen(shares: dict[str, float]) -> dict[str, float]:
    """Without what has faded to nothing."""
    return {part: share for part, share in shares.items() if share > 1e-12}
