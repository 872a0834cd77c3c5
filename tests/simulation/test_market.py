"""The simulated market: one world per seed on any machine, and shoppers who behave like shoppers."""

import os
import subprocess
import sys
import time
from collections import Counter
from hashlib import blake2b
from itertools import islice, pairwise

import msgspec

from interest import EMPTY, Arrival, TriggerPolicy, fold
from schemas import BehaviourEvent
from simulation.catalogue import catalogue
from simulation.market import DAY_MS, Market

WORLD = "0c661012f8c503df"
"""Of the first 1,000 events of seed 7. It changes only with the law of the market, never with machine or Python version;
whoever changes the law measures the calibration in docs/simulation.md again and writes the new digest here."""


def digest(events) -> str:
    return blake2b(b"".join(map(msgspec.json.encode, events)), digest_size=8).hexdigest()


def first_events() -> list[BehaviourEvent]:
    return list(islice(Market(7, shoppers=50).events(0, 30), 1000))


def test_a_seed_gives_the_same_world_anywhere():
    assert digest(first_events()) == WORLD


def test_the_world_does_not_depend_on_hash_randomisation():
    code = "from tests.simulation.test_market import *; print(digest(first_events()))"
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == WORLD


def test_another_seed_gives_other_shoppers():
    assert digest(islice(Market(8, shoppers=50).events(0, 30), 1000)) != WORLD


def test_a_shoppers_life_does_not_depend_on_how_many_others_there_are():
    alone = list(Market(7, shoppers=1).events(0, 30))
    assert alone == [event for event in Market(7, shoppers=20).events(0, 30) if event.user == alone[0].user]


def test_events_come_in_order_of_time_within_the_span_with_ids_of_their_own():
    events = list(Market(7, shoppers=50).events(1_000_000, 10))
    assert all(a.time_ms <= b.time_ms for a, b in pairwise(events))
    assert all(1_000_000 <= event.time_ms < 1_000_000 + 10 * DAY_MS for event in events)
    assert len({event.id for event in events}) == len(events)


def test_every_event_is_whole():
    for event in first_events():
        assert set(event.profile) == {"gender", "age", "location"}
        if event.kind == "search":
            assert event.query
            assert event.item is None
        else:
            assert event.item
            assert event.item.title
            assert event.item.category in {category.name for category in catalogue().categories}


def test_the_shop_sells_a_few_hundred_categories_with_brands_features_and_companions():
    shop = catalogue()
    assert 200 <= len(shop.categories) <= 400
    assert len({category.term for category in shop.categories}) == len(shop.categories)
    for n, category in enumerate(shop.categories):
        assert category.brands
        assert category.features
        assert category.companions
        assert n not in category.companions


def test_queries_are_noisy_but_mostly_known():
    queries = [e.query for e in Market(7, shoppers=400).events(0, 40) if e.kind == "search"]
    before, after = Counter(queries[: len(queries) * 3 // 4]), queries[len(queries) * 3 // 4 :]
    known = sum(query in before for query in after) / len(after)
    assert 0.75 < known < 0.97


def test_interests_change_in_mid_life():
    """Of what a shopper looks for in the last third of the span, little was looked for in the first."""
    kept = []
    events = list(Market(7, shoppers=100).events(0, 90))
    for user in {event.user for event in events}:
        clicked = [(e.time_ms, e.item.category) for e in events if e.user == user and e.item]
        early = {category for time_ms, category in clicked if time_ms < 30 * DAY_MS}
        late = {category for time_ms, category in clicked if time_ms >= 60 * DAY_MS}
        if early and late:
            kept.append(len(early & late) / len(late))
    assert sum(kept) / len(kept) < 0.5


def test_in_a_minute_of_the_demo_dozens_of_shoppers_change_their_interest():
    policy, states, changed = TriggerPolicy(), {}, set()
    for offset, event in enumerate(Market(7, shoppers=1_000).bursts(0, rate_per_s=20, seconds=60)):
        step = fold(states.get(event.user, EMPTY), event, Arrival(0, offset, event.time_ms), policy)
        states[event.user] = step.state
        changed |= {event.user for _ in step.changes}
    assert len(changed) >= 24


def test_bursts_keep_their_rate():
    events = list(Market(7, shoppers=2_000).bursts(0, rate_per_s=30, seconds=60))
    assert 0.75 * 30 * 60 < len(events) < 1.25 * 30 * 60


def test_live_events_carry_the_time_at_which_they_are_handed_out():
    for event in Market(7, shoppers=500).live(rate_per_s=100, seconds=1):
        assert event.time_ms <= time.time() * 1000
