"""What all frameworks of the event path share: the events and the decision."""

from itertools import islice

import msgspec

from bench.decision import Decision
from bench.events import Stream, shopper_events


def test_a_seed_makes_the_same_events_anywhere() -> None:
    once, again, other = (list(islice(shopper_events(Stream(500, 50, seed)), 500)) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_order_across_shoppers_decides_nothing_once_clocks_are_set() -> None:
    """A keyed step may take shopper by shopper; it decides the same, because the log clock was set in offset order."""
    events = [
        (msgspec.json.encode(event), offset) for offset, event in enumerate(shopper_events(Stream(3_000, 60, per_s=20)))
    ]

    def decided(by_shopper: bool) -> tuple[int, dict[str, bytes]]:
        decision, states = Decision(), {}
        arrived = [decision.arrive(value, 0, offset) for value, offset in events]
        if by_shopper:
            arrived.sort(key=lambda pair: pair[0].user)
        for event, arrival in arrived:
            states[event.user] = decision.next_bytes(states.get(event.user), event, arrival)
        return decision.changes, states

    assert decided(by_shopper=False) == decided(by_shopper=True)
    assert decided(by_shopper=False)[0] > 100
