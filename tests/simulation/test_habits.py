"""The law of habits as a shop sees it: what its shoppers do, when, and that they do it again."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from random import Random
from statistics import mean
from typing import NamedTuple

import pytest

from inference.output import normalise
from simulation.habits import Habits
from simulation.habits.interests import Cycle
from simulation.habits.mind import CYCLES, THREADS
from simulation.law import DAY_MS, Law, Step

START_MS = 1_764_547_200_000
DAYS = 32
SHOPPERS = 800


class Seen(NamedTuple):
    number: int
    day: int
    visit: int
    page_ms: int
    step: Step


def lived(law: Law, numbers: range, days: int = DAYS) -> Iterator[Seen]:
    """Everything that happens where no hint is shown."""
    visit_number = 0
    for number in numbers:
        life = law.life(number)
        for day in range(days):
            for visit in life.visits(day):
                visit_number += 1
                while (page_ms := visit.next_page()) is not None:
                    for step in visit.steps():
                        yield Seen(number, day, visit_number, page_ms, step)


@pytest.fixture(scope="module")
def law() -> Habits:
    return Habits(seed=1, drift=1.0, start_ms=START_MS)


@pytest.fixture(scope="module")
def seen(law: Habits) -> list[Seen]:
    return list(lived(law, range(SHOPPERS)))


def test_a_seed_gives_the_same_steps_on_every_machine() -> None:
    steps = [one.step for one in islice(lived(Habits(7, 1.0, START_MS), range(1000)), 1000)]
    told = "\n".join(f"{step.time_ms} {step.query} {step.item} {step.bought}" for step in steps)
    assert sha256(told.encode()).hexdigest() == "b15fcde1611c45fb107eafd1dcd432835e45b13596409b6201a163bf48caac27"


def test_a_shopper_lives_the_same_life_whoever_else_is_there(law: Habits, seen: list[Seen]) -> None:
    alone = [one.step for one in lived(Habits(1, 1.0, START_MS), range(41, 42))]
    assert alone == [one.step for one in seen if one.number == 41]
    assert alone


def test_another_seed_is_another_world(law: Habits) -> None:
    other = Habits(2, 1.0, START_MS)
    assert {item.title for item in law.items()}.isdisjoint(item.title for item in other.items())


def test_a_shopper_goes_forward_in_time_and_ends_before_the_next_day_is_half_over(seen: list[Seen]) -> None:
    last: dict[int, int] = {}
    for one in seen:
        assert last.get(one.number, 0) < one.step.time_ms
        assert (
            START_MS + one.day * DAY_MS
            <= one.page_ms
            < one.step.time_ms
            < START_MS + one.day * DAY_MS + 3 * DAY_MS // 2
        )
        last[one.number] = one.step.time_ms


def test_a_step_is_a_search_or_a_click_on_something_that_is_sold_and_only_clicks_buy(
    law: Habits, seen: list[Seen]
) -> None:
    sold = {item.id: item for item in law.items()}
    for one in seen:
        step = one.step
        assert bool(step.query) != (step.item is not None)
        assert step.item is None or sold[step.item.id] is step.item
        assert step.item is not None or not step.bought
    assert len(sold) == len(list(law.items()))
    assert all(
        item.title and item.category and set(item.attributes) == {"brand", "features", "price"}
        for item in sold.values()
    )
    assert 0.03 < mean(one.step.bought for one in seen if one.step.item) < 0.2


def test_a_click_follows_its_search_within_five_minutes_and_lies_in_its_category(law: Habits, seen: list[Seen]) -> None:
    query_ms, category = 0, ""
    for one in seen:
        if one.step.query:
            query_ms, category = one.step.time_ms, law.category(one.step.query)
        elif one.step.item:
            assert one.step.time_ms - query_ms <= 300_000
            assert one.step.item.category == category or not category


def test_every_query_asks_for_a_category_though_a_hand_slipped(law: Habits, seen: list[Seen]) -> None:
    queries = [normalise(one.step.query) for one in seen if one.step.query]
    assert mean(query in law.world.wants for query in queries) < 0.99
    assert mean(bool(law.category(query)) for query in queries) > 0.995
    assert law.category("a query that nobody means") == ""


def test_a_longer_or_misspelt_wording_asks_for_what_the_plain_one_asks(law: Habits) -> None:
    plain = law.world.categories[0].wants[0].wordings[0]
    assert law.category(plain) == law.world.categories[0].name
    assert law.category(f"{plain} for camping with timer") == law.category(plain)
    assert law.category(plain[:2] + plain[3:]) == law.category(plain)


def test_shoppers_come_about_once_in_four_days_and_most_of_them_seldom(seen: list[Seen]) -> None:
    visits = defaultdict(set)
    for one in seen:
        visits[one.number].add(one.visit)
    counts = sorted(len(visits[number]) for number in range(SHOPPERS))
    assert 0.22 < sum(counts) / SHOPPERS / DAYS < 0.31
    assert counts[SHOPPERS // 10] <= 2
    assert counts[SHOPPERS // 2] <= 6
    assert counts[-SHOPPERS // 100] >= 25
    assert 3 < len(seen) / sum(counts) < 6
    assert 1.2 < len({(one.visit, one.page_ms) for one in seen}) / sum(counts) < 1.8


def test_the_log_resembles_a_real_one(seen: list[Seen]) -> None:
    """Shares as in a retailer's log: the thirty most popular queries, targets seen before, repeats of an own search."""
    searches = sorted(
        (one.step.time_ms, one.number, one.day, normalise(one.step.query)) for one in seen if one.step.query
    )
    popular = Counter(query for *_, query in searches).most_common(30)
    assert 0.2 <= sum(count for _, count in popular) / len(searches) <= 0.5
    before, own, known, again = set(), defaultdict(set), [], []
    for _, number, day, query in searches:
        if day >= DAYS - 2:
            known.append(query in before)
            if own[number]:
                again.append(query in own[number])
        before.add(query)
        own[number].add(query)
    # It grows with the market: .94 where there are 20,000 shoppers.
    assert 0.74 <= mean(known) <= 0.94
    assert 0.07 <= mean(again) <= 0.17


def test_a_profile_tells_something_of_the_taste(law: Habits) -> None:
    lives = [law.life(number) for number in range(1500)]
    women = [life.taste.communities[0][0] for life in lives if life.profile.get("gender") == "female"]
    men = [life.taste.communities[0][0] for life in lives if life.profile.get("gender") == "male"]
    share = {group: women.count(group) / (women.count(group) + men.count(group)) for group in set(women) & set(men)}
    assert max(share.values()) - min(share.values()) > 0.25
    assert any(not life.profile for life in lives)


def test_what_is_popular_moves_only_where_there_is_drift() -> None:
    still, moving = Habits(1, 0.0, START_MS), Habits(1, 1.0, START_MS)
    for day in (0, 10, 31):
        assert still.fashion.popularity(day, 3) == still.fashion.popularity(0, 3)
        assert not any(still.fashion.crazes(day, community) for community in range(12))
    assert moving.fashion.popularity(20, 3) != moving.fashion.popularity(0, 3)
    catching = [dict(moving.fashion.crazes(20, community)) for community in range(12)]
    assert len({want for crazes in catching for want in crazes}) < sum(map(len, catching)), (
        "no craze reached a second community"
    )


def test_what_is_used_up_is_wanted_again_when_it_is_due_rather_than_before(law: Habits) -> None:
    mind, day = law.life(3)._mind, 20
    number = next(i for i, category in enumerate(law.world.categories) if category.consumed)
    want = law.world.categories[number].wants[0]
    due_ms = START_MS + day * DAY_MS
    mind.cycles = [Cycle(want, want.wordings[0], 7 * DAY_MS, due_ms)]

    def share(now_ms: int) -> float:
        rng, mix = Random("draws"), mind.mix(now_ms, day)
        return mean(mind.draw(rng, mix)[0].category == number for _ in range(400))

    before, due, long_after = (share(due_ms + days * DAY_MS) for days in (-6, 0, 20))
    assert due > before + 0.3
    assert due > long_after + 0.3


def test_a_shopper_keeps_only_a_few_interests(law: Habits) -> None:
    life = law.life(3)
    for day in range(DAYS):
        for visit in life.visits(day):
            while visit.next_page() is not None:
                list(visit.steps())
    assert len(life._mind.threads) <= THREADS
    assert len(life._mind.cycles) <= CYCLES


def test_a_drift_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"drift must be 0 or above, is -0\.5"):
        Habits(1, -0.5, START_MS)
