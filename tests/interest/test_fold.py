"""The fold decides the same for the same records, however they are cut, delayed or repeated."""

import itertools
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interest import (
    EMPTY,
    Arrival,
    State,
    Step,
    TriggerPolicy,
    WrongPartition,
    behaviours_of,
    decode,
    due_ms,
    encode,
    expire,
    fold,
)
from interest.sessions import sessions
from interest.state import ROW_BYTES
from interest.weights import drift
from schemas import BehaviourEvent, Change, Item

T0 = 1_700_000_000_000
YEAR_MS = 365 * 86_400_000
POLICY = TriggerPolicy(drift=0.2, behaviours_kept=6, interests_kept=4)
WORDS = ["laptop", "usb hub", "tv 55", "red shoes", "lego", "phone case"]


def search(number: int, text: str, time_ms: int) -> BehaviourEvent:
    return BehaviourEvent(f"e{number}", "ann", "search", time_ms, query=text)


def click(number: int, text: str, time_ms: int) -> BehaviourEvent:
    return BehaviourEvent(f"e{number}", "ann", "click", time_ms, item=Item(f"i{text}", text, category=text[:3]))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, BehaviourEvent]]:
    """Up to 40 records of one shopper: log clock rising in steps around the policy's times, event times anywhere near."""
    clock, records = T0, []
    for number in range(draw(st.integers(1, 40))):
        clock += draw(st.sampled_from([0, 1, 500, 2_999, 3_000, 3_001, 9_000, 15_001, 31_000, 4_000_000]))
        make = draw(st.sampled_from([search, click]))
        event_id = draw(st.integers(0, number))  # some ids come again
        time = clock + draw(st.sampled_from([0, 0, -1, -5_000, -90_000_000, 400, YEAR_MS, -YEAR_MS]))
        records.append((clock, make(event_id, draw(st.sampled_from(WORDS)), time)))
    return records


def run(records: list[tuple[int, BehaviourEvent]], pause: dict[int, int] | None = None) -> tuple[State, list[Change]]:
    """Folds records by offset; before record n the state waits in the store and is expired `pause[n]` ms past its clock."""
    state, changes = EMPTY, []
    for offset, (clock, event) in enumerate(records):
        if pause is not None and offset in pause:
            state = decode(encode(state))
            before = records[offset - 1][0] if offset else T0
            state, fired = expire(state, "ann", min(before + pause[offset], clock), POLICY)
            changes += fired
        step = fold(state, event, Arrival(0, offset, clock), POLICY)
        state, changes = step.state, changes + list(step.changes)
    return state, changes


@given(histories(), st.dictionaries(st.integers(0, 39), st.sampled_from([0, 1, 3_000, 3_001, 20_000, 10**9])))
@settings(max_examples=400, deadline=None)
def test_any_batching_and_any_moment_of_expiry_give_the_same_requests(records, pause):
    assert run(records, pause) == run(records)


@given(histories())
@settings(max_examples=200, deadline=None)
def test_records_read_again_change_nothing(records):
    state, _ = run(records)
    for offset, (clock, event) in enumerate(records):
        assert fold(state, event, Arrival(0, offset, clock), POLICY) == Step(state, (), "duplicate")


@given(histories(), st.integers(0, 39))
@settings(max_examples=200, deadline=None)
def test_an_event_a_year_behind_changes_no_decision(records, at):
    at = min(at, len(records))
    clock = records[at - 1][0] if at else T0
    old = (clock, search(10_000, "from last year", clock - YEAR_MS))
    assert run([*records[:at], old, *records[at:]])[1] == run(records)[1]


@given(histories(), st.integers(0, 39))
@settings(max_examples=200, deadline=None)
def test_an_event_a_year_ahead_counts_as_one_of_now(records, at):
    at = min(at, len(records))
    clock = records[at - 1][0] if at else T0
    ahead, now = search(10_000, "laptop", clock + YEAR_MS), search(10_000, "laptop", clock)
    with_ahead, with_now = ([*records[:at], (clock, event), *records[at:]] for event in (ahead, now))
    assert run(with_ahead) == run(with_now)


@given(histories())
@settings(max_examples=200, deadline=None)
def test_behaviours_are_the_newest_each_once_in_order_of_time(records):
    state, changes = run(records)
    for change in changes:
        keys = [(b.time_ms, b.id) for b in change.behaviours]
        assert keys == sorted(keys)
        assert len({id for _, id in keys}) == len(keys) <= POLICY.behaviours_kept
        assert change.newest_ms <= change.as_of_ms
        assert all(b.time_ms <= change.as_of_ms for b in change.behaviours)
    as_ofs = [change.as_of_ms for change in changes]
    assert all(later - earlier >= POLICY.cooldown_ms for earlier, later in itertools.pairwise(as_ofs))
    assert len(list(behaviours_of(state))) * ROW_BYTES == len(state.rows)


def test_an_event_at_exactly_due_belongs_to_the_list():
    first = search(0, "laptop", T0)
    due = T0 + POLICY.settle_ms
    _, changes = run(
        [(T0, first), (due, search(1, "usb hub", due)), (due + POLICY.max_wait_ms, search(2, "lego", due))]
    )
    assert [b.text for b in changes[0].behaviours] == ["laptop", "usb hub"]


def test_a_list_is_due_after_quiet_at_the_latest_after_max_wait_never_within_cooldown():
    steady = [(T0 + 1_000 * n, search(n, f"word{n}", T0 + 1_000 * n)) for n in range(60)]
    _, changes = run(steady)
    assert [change.as_of_ms - T0 for change in changes] == [POLICY.max_wait_ms, POLICY.max_wait_ms + POLICY.cooldown_ms]


def test_more_of_the_same_makes_no_new_list():
    same = [(T0 + 60_000 * n, search(n, "laptop 15 inch", T0 + 60_000 * n)) for n in range(30)]
    assert len(run(same)[1]) == 1


def test_a_stray_click_makes_no_list_and_two_do():
    state, _ = run([(T0, click(0, "lego", T0))])
    assert due_ms(state, POLICY) is None
    state, _ = run([(T0, click(0, "lego", T0)), (T0, click(1, "lego", T0))])
    assert due_ms(state, POLICY) == T0 + POLICY.settle_ms


def test_a_change_that_is_taken_back_before_it_is_due_dissolves():
    settled = [(T0 + 60_000 * n, search(n, "laptop", T0 + 60_000 * n)) for n in range(5)]
    at = settled[-1][0] + 60_000
    astray = [(at, search(10, "red shoes", at)), (at + 1, search(11, "red shoes", at))]
    back = [(at + 2 + n, search(20 + n, "laptop", at)) for n in range(12)]
    assert due_ms(run(settled + astray)[0], POLICY) is not None
    assert due_ms(run(settled + astray + back)[0], POLICY) is None


def test_an_erased_shopper_starts_from_nothing():
    state, _ = run([(T0, search(0, "laptop", T0)), (T0 + 1, BehaviourEvent("x", "ann", "erase", T0))])
    assert state == State(partition=0, offset=1, erased_ms=T0 + 1)


@pytest.mark.parametrize("time_ms", [T0, T0 + 1_000])
def test_what_an_erased_shopper_did_before_does_not_come_back(time_ms):
    erased = [(T0, search(0, "laptop", T0)), (T0 + 1_000, BehaviourEvent("x", "ann", "erase", T0))]
    forgotten, _ = run(erased)
    step = fold(forgotten, search(9, "laptop", time_ms), Arrival(0, 7, T0 + 60_000), POLICY)
    assert step == (State(partition=0, offset=7, erased_ms=T0 + 1_000), (), "before_erasure")
    step = fold(step.state, search(10, "lego", T0 + 1_001), Arrival(0, 8, T0 + 60_000), POLICY)
    assert (step.outcome, [b.text for b in behaviours_of(step.state)]) == ("folded", ["lego"])


def test_events_of_one_shopper_in_two_partitions_are_refused():
    state = fold(EMPTY, search(0, "laptop", T0), Arrival(0, 5, T0), POLICY).state
    with pytest.raises(WrongPartition, match="at home in partition 0"):
        fold(state, search(1, "laptop", T0), Arrival(1, 9, T0), POLICY)


def test_the_reasons_name_what_grew():
    _, changes = run(
        [(T0, click(0, "lego castle", T0)), (T0, click(1, "lego", T0)), (T0 + 10_000, search(2, "tv", T0))]
    )
    assert changes[0].reasons[0].startswith("#leg +0.50")
    assert changes[0].drift == 1.0


@pytest.mark.parametrize(
    ("weights", "base", "moved"),
    [
        ([1.0], [], 1),
        ([2.0], [1.0], 0),
        ([1.0, 1.0], [1.0], 0.5),
        ([0.0, 3.0], [1.0], 1),
        ([], [], 0),
    ],
)
def test_drift_is_the_share_of_the_interest_that_moved(weights, base, moved):
    assert drift(array("d", weights), array("d", base)) == pytest.approx(moved)


def test_sessions_end_with_a_pause():
    gap = POLICY.session_gap_ms
    state, _ = run([(T0 + t, search(n, f"w{n}", T0 + t)) for n, t in enumerate([0, 1_000, gap + 1_001, gap + 2_000])])
    assert [[b.text for b in session] for session in sessions(behaviours_of(state), gap)] == [
        ["w0", "w1"],
        ["w2", "w3"],
    ]


def test_wrong_settings_are_all_named_at_once():
    wrong = TriggerPolicy(drift=0, max_wait_ms=1, half_life_ms=0).errors()
    assert [message.split()[0] for message in wrong] == ["drift", "max_wait_ms", "half_life_ms"]
    assert not TriggerPolicy().errors()
