"""A hit counts only if the list lay ready before the search."""

import numpy as np

from bench.cost import READY_MS, Request, hits, play, ratio_of_sums
from interest import TriggerPolicy
from simulation.market import Market

LISTS = {"early": ("tv", "laptop"), "late": ("camera",)}


def request(as_of_ms: int, prompt: str) -> Request:
    return Request("u", as_of_ms, prompt)


def test_a_list_that_comes_after_the_search_is_no_hit() -> None:
    requests = [request(0, "early"), request(10_000, "late")]
    assert hits([(READY_MS - 1, "tv")], requests, LISTS) == 0
    assert hits([(READY_MS, "tv")], requests, LISTS) == 1
    assert hits([(10_000 + READY_MS, "tv"), (10_000 + READY_MS, "camera")], requests, LISTS) == 1


def test_a_malformed_list_leaves_the_last_good_one_in_place() -> None:
    assert hits([(60_000, "tv")], [request(0, "early"), request(10_000, "no list")], LISTS) == 1


def test_the_default_policy_asks_for_fewer_lists_than_events() -> None:
    shoppers = play(Market(3, shoppers=20), TriggerPolicy())
    events = sum(shopper.events for shopper in shoppers)
    assert sum(len(shopper.each) for shopper in shoppers) == events
    assert 0 < sum(len(shopper.due) for shopper in shoppers) < events / 2


def test_the_interval_holds_the_ratio() -> None:
    found = ratio_of_sums(np.array([1, 2, 3]), np.array([2, 4, 6]), seed=1)
    assert found == {"value": 0.5, "low": 0.5, "high": 0.5}
