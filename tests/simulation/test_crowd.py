"""Shoppers of a law as a stream of events, in its own time and in quick motion."""

import time
from itertools import islice, pairwise

import pytest

from interest import EMPTY, Arrival, TriggerPolicy, fold
from simulation.crowd import Crowd
from simulation.law import DAY_MS
from simulation.market_folder import START_MS


@pytest.mark.parametrize("law", ["missions", "habits"])
def test_events_come_by_time_within_the_span_with_ids_of_their_own(law: str):
    events = list(Crowd(7, shoppers=30, law=law).events(START_MS, 10))
    assert all(a.time_ms <= b.time_ms for a, b in pairwise(events))
    assert events[0].time_ms >= START_MS and events[-1].time_ms < START_MS + 10 * DAY_MS  # noqa: PT018
    assert len({event.id for event in events}) == len(events)
    assert {event.kind for event in events} == {"search", "click"}
    assert all((event.kind == "search") == bool(event.query) == (event.item is None) for event in events)


def test_a_shopper_lives_the_same_life_whoever_else_is_there():
    alone = list(Crowd(7, shoppers=1).events(START_MS, 20))
    assert alone
    assert alone == [e for e in Crowd(7, shoppers=20).events(START_MS, 20) if e.user == alone[0].user]
    assert list(islice(Crowd(8, shoppers=1).events(START_MS, 20), 5)) != alone[:5]


def test_in_a_minute_of_quick_motion_dozens_of_shoppers_change_their_interest():
    policy, states, changed = TriggerPolicy(), {}, set()
    for offset, event in enumerate(Crowd(7).bursts(0, rate_per_s=20, seconds=60)):
        step = fold(states.get(event.user, EMPTY), event, Arrival(0, offset, event.time_ms), policy)
        states[event.user] = step.state
        changed |= {event.user for _ in step.changes}
    assert len(changed) >= 24


def test_bursts_keep_their_rate_and_some_shoppers_come_back():
    events = list(Crowd(7).bursts(0, rate_per_s=30, seconds=60))
    assert 0.7 * 30 * 60 < len(events) < 1.3 * 30 * 60
    gaps = {}
    for event in events:
        gaps.setdefault(event.user, []).append(event.time_ms)
    back = [user for user, times in gaps.items() if any(b - a > 10_000 for a, b in pairwise(times))]
    assert len(back) > 20


def test_too_few_shoppers_are_said():
    with pytest.raises(ValueError, match="too few for 500 events/s"):
        list(Crowd(7, shoppers=3).bursts(0, rate_per_s=500, seconds=20))


def test_live_events_carry_the_time_at_which_they_are_handed_out():
    for event in Crowd(7).live(rate_per_s=100, seconds=1):
        assert event.time_ms <= time.time() * 1000
