"""What the law of habits tells judges: how welcome a hint is, and the likeliest next searches; against what its shoppers then do."""

from collections import Counter, defaultdict
from math import sqrt
from statistics import mean
from typing import NamedTuple

import pytest

from inference.output import normalise
from simulation.habits import Habits
from simulation.habits.visit import HabitsVisit
from simulation.law import Chance

START_MS = 1_764_547_200_000
TOP = 10
FROM_DAY = 27


class Case(NamedTuple):
    chances: list[Chance]
    next: str
    last: str
    """The shopper's search before; empty at their first."""
    own: list[str]
    """All of their searches, the latest first."""


@pytest.fixture(scope="module")
def law() -> Habits:
    return Habits(seed=3, drift=1.0, start_ms=START_MS)


@pytest.fixture(scope="module")
def cases(law: Habits) -> list[Case]:
    """From pages without hints."""
    found = []
    for number in range(800):
        life, own = law.life(number), []
        for day in range(32):
            for visit in life.visits(day):
                while visit.next_page() is not None:
                    chances = visit.likeliest(30) if day >= FROM_DAY else []
                    queries = [normalise(step.query) for step in visit.steps() if step.query]
                    if chances:
                        found.append(Case(chances, queries[0], own[-1] if own else "", own[::-1]))
                    own += queries
    return found


def hits(case: Case, count: int) -> bool:
    return case.next in {normalise(chance.query) for chance in case.chances[:count]}


@pytest.mark.parametrize("count", [1, 3, 10, 30])
def test_the_told_probabilities_are_the_shares_of_hits(cases: list[Case], count: int) -> None:
    told = [sum(chance.probability for chance in case.chances[:count]) for case in cases]
    noise = sqrt(sum(mass * (1 - mass) for mass in told)) / len(told)
    assert len(cases) > 1000
    assert abs(mean(told) - mean(hits(case, count) for case in cases)) < 3.5 * noise


def test_sure_cases_hit_more_often_and_as_often_as_told(cases: list[Case]) -> None:
    by_mass = sorted(cases, key=lambda case: sum(chance.probability for chance in case.chances[:TOP]))
    for fifth in range(5):
        part = by_mass[fifth * len(cases) // 5 : (fifth + 1) * len(cases) // 5]
        told = [sum(chance.probability for chance in case.chances[:TOP]) for case in part]
        noise = sqrt(sum(mass * (1 - mass) for mass in told)) / len(told)
        assert abs(mean(told) - mean(hits(case, TOP) for case in part)) < 4 * noise


def test_chances_fall_and_name_each_query_once(cases: list[Case]) -> None:
    for case in cases[:500]:
        chances = [chance.probability for chance in case.chances]
        assert chances == sorted(chances, reverse=True)
        assert chances[-1] > 0
        assert sum(chances) <= 1
        assert len({normalise(chance.query) for chance in case.chances}) == len(case.chances) == 30


def test_fewer_chances_are_the_first_of_more(law: Habits) -> None:
    """A category that cannot add to the best is left out, which must not show."""
    for number in range(25):
        life = law.life(number)
        for visit in life.visits(0):
            visit.next_page()
            few, many = visit.likeliest(10), visit.likeliest(5000)
            assert [chance.query for chance in few] == [chance.query for chance in many[:10]]
            assert 0.8 < sum(chance.probability for chance in many) < 1


def test_no_ranking_from_the_log_comes_near_the_law(cases: list[Case]) -> None:
    """Even rankings that know the very searches on which they are judged."""
    popular = [query for query, _ in Counter(case.next for case in cases).most_common(TOP)]
    after = defaultdict(Counter)
    for case in cases:
        after[case.last][case.next] += 1
    rankings = {
        "popularity": lambda case: popular,
        "own searches, then popularity": lambda case: list(dict.fromkeys(case.own[:5] + popular))[:TOP],
        "what follows what they wanted, ten at random": lambda case: [chance.query for chance in case.chances[10:20]],
    }
    best = mean(hits(case, TOP) for case in cases)
    for name, ranking in rankings.items():
        share = mean(case.next in ranking(case) for case in cases)
        assert best > share + 0.1, name


def test_history_tells_more_than_popularity_and_more_than_the_last_search(law: Habits) -> None:
    """Of the next search's category, learned on the first half of the shoppers and judged on the others: a ranking by what followed each of the
    last eight searches is better than one by what followed the last, and that is better than popularity."""
    paths = [path for number in range(2000, 3000) if len(path := categories(law, number)) > 8]
    half = len(paths) // 2
    after, popular = defaultdict(Counter), Counter()
    for path in paths[:half]:
        popular.update(path)
        for place, category in enumerate(path):
            for past in path[max(0, place - 8) : place]:
                after[past][category] += 1

    def ranking(past: list[str], reach: int) -> list[str]:
        scores = {category: count / popular.total() for category, count in popular.items()}
        for age, category in enumerate(past[::-1][:reach]):
            for follower, count in after[category].items():
                scores[follower] += count / (after[category].total() + 20) / (1 + age)
        return sorted(scores, key=lambda category: -scores[category])[:5]

    shares = {}
    for reach in (0, 1, 8):
        found = [
            path[place] in ranking(path[:place], reach) for path in paths[half:] for place in range(8, len(path), 3)
        ]
        shares[reach] = mean(found)
    assert shares[8] > shares[1] + 0.01
    assert shares[1] > shares[0] + 0.01


def categories(law: Habits, number: int) -> list[str]:
    """Of a shopper's searches, those whose category is that of the one before left out."""
    life, path = law.life(number), [""]
    for day in range(32):
        for visit in life.visits(day):
            while visit.next_page() is not None:
                found = [law.category(step.query) for step in visit.steps() if step.query]
                path += [category for category in found[:1] if category and category != path[-1]]
    return path[1:]


def visits(law: Habits, numbers: range, day: int) -> list[HabitsVisit]:
    found = []
    for number in numbers:
        life = law.life(number)
        for past in range(day):
            for visit in life.visits(past):
                while visit.next_page() is not None:
                    list(visit.steps())
        for visit in life.visits(day):
            visit.next_page()
            found.append(visit)
    return found


def test_a_hint_is_the_more_welcome_the_likelier_its_search(law: Habits) -> None:
    first, tenth, other = [], [], []
    for visit in visits(law, range(300), 12):
        chances = visit.likeliest(TOP)
        first.append(visit.appeal(chances[0].query))
        tenth.append(visit.appeal(chances[-1].query))
        other.append(visit.appeal(law.world.categories[150].wants[0].wordings[0]))
    assert mean(first) > mean(tenth) > mean(other) + 0.05
    assert all(0 <= appeal <= 1 for appeal in first + tenth + other)


def test_a_hint_that_asks_for_nothing_sold_here_is_not_welcome(law: Habits) -> None:
    assert visits(law, range(10), 5)[0].appeal("quarterly tax return") == 0


def test_asking_judges_changes_nothing(law: Habits) -> None:
    def steps(ask: bool) -> list:
        found = []
        for day in range(32):
            for visit in life.visits(day):
                while visit.next_page() is not None:
                    if ask:
                        assert visit.likeliest(30)
                        assert visit.appeal("coffee pods") >= 0
                    found += visit.steps()
        return found

    life = law.life(17)
    silent = steps(ask=False)
    life = law.life(17)
    assert steps(ask=True) == silent
    assert silent


def test_a_followed_hint_is_searched_as_it_stands_within_a_minute_and_moves_what_they_want(law: Habits) -> None:
    hint = law.world.categories[80].wants[1].wordings[0]
    before, after = [], []
    for visit in visits(law, range(200), 6):
        page_ms = visit.next_page() or visit.now_ms
        before.append(visit.appeal(hint))
        first, *rest = visit.follow(hint)
        assert first.query == hint
        assert 0 < first.time_ms - page_ms < 60_000
        assert all(step.item and step.item.category == law.world.categories[80].name for step in rest)
        list(visit.steps())
        if visit.next_page():
            after.append(visit.appeal(hint))
    assert mean(after) > mean(before) + 0.1


def test_after_a_hint_some_search_on_by_themselves_and_some_do_not(law: Habits) -> None:
    searched = []
    for visit in visits(law, range(150), 9):
        list(visit.follow(law.world.categories[80].wants[0].wordings[0]))
        searched.append(bool(list(visit.steps())))
    assert 0.3 < mean(searched) < 0.7


def test_a_visit_without_a_page_says_so(law: Habits) -> None:
    visit = next(visit for number in range(100) for visit in law.life(number).visits(0))
    with pytest.raises(RuntimeError, match="next_page"):
        visit.likeliest(10)
