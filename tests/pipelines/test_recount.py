"""The count that a rebuild is held to agrees with the fold, of which it shares no rule."""

from interest import EMPTY, Arrival, TriggerPolicy, fold
from pipelines.recount import Recount, count_of
from schemas import BehaviourEvent
from transforms.batches import EventBatch

T0 = 1_700_000_000_000


def search(number: int, time_ms: int) -> BehaviourEvent:
    return BehaviourEvent(f"e{number}", "ann", "search", time_ms, query=f"word{number}")


def test_the_count_forgets_what_an_erased_shopper_did_before():
    events = [
        search(0, T0),
        BehaviourEvent("x", "ann", "erase", T0),
        search(1, T0 + 4_000),
        search(2, T0),
        search(3, T0 + 1_000),
    ]
    clocks = [T0, T0 + 1_000, T0 + 5_000, T0 + 6_000, T0 + 7_000]
    state = EMPTY
    for offset, (event, clock) in enumerate(zip(events, clocks, strict=True)):
        state = fold(state, event, Arrival(0, offset, clock), TriggerPolicy()).state
    count = Recount(TriggerPolicy())
    count.add(EventBatch("behaviour", "id", 0, 0, [*range(5)], clocks, events, 5))
    assert count.counts() == {"ann": count_of(state)}
    assert count_of(state).behaviours == 1
