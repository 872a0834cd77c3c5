"""Missions as a judge: the bound is the true distribution of the next search, and appeal is what a hint is worth."""

from collections import Counter, defaultdict
from itertools import islice
from math import sqrt
from typing import NamedTuple

import pytest

from inference.output import normalise
from simulation.law import Step
from simulation.market_folder import START_MS
from simulation.missions import Missions
from simulation.missions.plans import COMPLEMENT, HOBBY, NEW, Purchase, Turn

SHOPPERS, COUNTED = 150, 30


class Page(NamedTuple):
    """A page at which a search by themselves followed, and no hint was clicked (on others, some were)."""

    user: int
    day: int
    likeliest: dict[str, float]
    next: str
    before: tuple[str, ...]


@pytest.fixture(scope="module")
def law() -> Missions:
    return Missions(11, 1.0, START_MS)


@pytest.fixture(scope="module")
def pages(law: Missions) -> list[Page]:
    found: list[Page] = []
    for number in range(SHOPPERS):
        life = law.life(number)
        said: list[str] = []
        for day in range(32):
            for visit in life.visits(day):
                while visit.next_page() is not None:
                    if said and number % 3 == 0 and len(said) % 7 == 3:
                        hint = visit.likeliest(5)[-1].query
                        said += [step.query for step in visit.follow(hint) if step.query]
                        said += [step.query for step in visit.steps() if step.query]
                        continue
                    bound = {row.query: row.probability for row in visit.likeliest(COUNTED)}
                    queries = [step.query for step in visit.steps() if step.query]
                    if queries:
                        found.append(Page(number, day, bound, queries[0], tuple(said)))
                    said += queries
    return found


def spread(probabilities: list[float]) -> float:
    """Of the number of hits that such independent chances give."""
    return sqrt(sum(p * (1 - p) for p in probabilities))


@pytest.mark.parametrize("count", [1, 3, 10, 30])
def test_hits_among_the_likeliest_are_as_many_as_their_probabilities_say(pages: list[Page], count: int):
    chances = [sum(islice(page.likeliest.values(), count)) for page in pages]
    hits = sum(page.next in list(page.likeliest)[:count] for page in pages)
    assert abs(hits - sum(chances)) < 3.5 * spread(chances)


@pytest.mark.parametrize(("least", "most"), [(0.0, 0.02), (0.02, 0.05), (0.05, 0.1), (0.1, 0.25), (0.25, 1.0)])
def test_a_query_said_to_have_a_probability_comes_that_often(pages: list[Page], least: float, most: float):
    chances = [(p, page.next == query) for page in pages for query, p in page.likeliest.items() if least <= p < most]
    expected = [p for p, _ in chances]
    assert len(chances) > 100
    assert abs(sum(came for _, came in chances) - sum(expected)) < 3.5 * spread(expected)


def test_the_likeliest_come_best_first_and_sum_to_at_most_one(pages: list[Page]):
    for page in pages:
        values = list(page.likeliest.values())
        assert len(values) == COUNTED
        assert values == sorted(values, reverse=True)
        assert sum(values) <= 1


def test_no_other_ranking_hits_more(pages: list[Page]):
    """Popularity, own repeats, what followed the last query, and the bound's own rows in another order."""
    popular = Counter(page.next for page in pages)
    follows: dict[str, Counter[str]] = defaultdict(Counter)
    for page in pages:  # rankings that have seen the answers, even
        if page.before:
            follows[page.before[-1]][page.next] += 1

    def after(page: Page) -> list[str]:
        rows = follows[page.before[-1]].copy() if page.before else Counter()
        rows[page.next] -= page.next in rows  # but not this one
        return [*(q for q, n in rows.most_common() if n > 0), *(q for q, _ in popular.most_common(20))]

    rankings = {
        "popular": lambda page: [query for query, _ in popular.most_common(10)],
        "own": lambda page: list(dict.fromkeys(reversed(page.before))),
        "follows": after,
        "next ten": lambda page: list(page.likeliest)[10:20],
    }
    bound = sum(page.next in list(page.likeliest)[:10] for page in pages)
    for name, ranking in rankings.items():
        hits = sum(page.next in list(dict.fromkeys(ranking(page)))[:10] for page in pages)
        assert bound > hits + 4 * sqrt(len(pages) / 4), name


def test_asking_changes_nothing(law: Missions):
    def told(ask: bool) -> list[Step]:
        steps: list[Step] = []
        for number in range(10):
            life = law.life(number)
            for day in range(20):
                for visit in life.visits(day):
                    while visit.next_page() is not None:
                        if ask:
                            assert visit.likeliest(10) == visit.likeliest(10)
                            assert 0 <= visit.appeal("smart tv") == visit.appeal("smart tv") <= 1
                        steps += visit.steps()
        return steps

    assert told(True) == told(False)


def test_open_words_are_a_distribution(law: Missions):
    """Of each kind of open turn: something new, a hobby, a complement."""
    plans, day = law.life(3).plans, law.trends.day(3)
    category = law.shop.categories[0]
    bought = Purchase(category, category.products[0][0], 0, 2, 0)
    for turn in (Turn(1.0, NEW), Turn(1.0, HOBBY), Turn(1.0, COMPLEMENT, bought)):
        shares = plans.categories(turn, law.shop, day)
        assert sum(share for _, share in shares) == pytest.approx(1)
        for wanted, _ in islice(shares, 5):
            assert sum(p for _, p in plans.open_words(turn, wanted, day, False)) == pytest.approx(1)


def test_a_hint_that_the_bound_ranks_high_is_more_welcome_than_a_popular_one(law: Missions, pages: list[Page]):
    popular = [query for query, _ in Counter(page.next for page in pages).most_common(3)]
    likely, common, nothing = [], [], []
    for number in range(60):
        life = law.life(number)
        for day in range(20):
            for visit in life.visits(day):
                while visit.next_page() is not None:
                    likely += [visit.appeal(row.query) for row in visit.likeliest(3)]
                    common += [visit.appeal(query) for query in popular]
                    nothing.append(visit.appeal("20110801 gow3"))
                    list(visit.steps())
    assert not any(nothing)
    assert sum(likely) / len(likely) > 1.5 * sum(common) / len(common)
    assert max(likely) <= 1


def test_a_log_does_not_tell_appeal(law: Missions):
    """The same shopper, the same words, the same want: moods of the visit move it by half."""
    values = []
    for number in range(150):
        life = law.life(number)
        visit = next((visit for day in range(20) for visit in life.visits(day)), None)
        if visit is not None and visit.next_page() is not None:
            values.append(visit.openness)
    assert max(values) > 1.8 * min(values)


def test_a_clicked_hint_is_searched_as_it_stands_and_taken_up(law: Missions):
    """What is clicked afterwards is of its category, and the shopper stays with it more than by chance."""
    category, stayed, followed = law.category("smart tv"), 0, 0
    for number in range(150):
        life = law.life(number)
        for day in range(6):
            for visit in life.visits(day):
                page_ms = visit.next_page()
                assert page_ms is not None
                first, *rest = visit.follow("smart tv")
                assert first.query == "smart tv"
                assert page_ms < first.time_ms <= page_ms + 60_000
                assert all(step.item and step.item.category == category for step in rest)
                after = [law.category(normalise(step.query)) for step in visit.steps() if step.query]
                followed += bool(after)
                stayed += bool(after) and after[0] == category
    assert followed > 30
    assert stayed > 0.3 * followed


def test_a_hint_that_means_nothing_is_searched_and_forgotten(law: Missions):
    life = law.life(1)
    visit = next(visit for day in range(32) for visit in life.visits(day))
    visit.next_page()
    assert [step.query for step in visit.follow("20110801 gow3")] == ["20110801 gow3"]
    assert not life.plans.missions


def test_a_purchase_leads_to_its_complements(law: Missions):
    """After a purchase the next searches ask for a complement of it far more often than searches in general do."""
    terms = {category.name: category for category in law.shop.categories}
    came, general, total = 0, 0, 0
    for number in range(400):
        life, wanted = law.life(number), set()
        for day in range(32):
            for visit in life.visits(day):
                while visit.next_page() is not None:
                    for step in visit.steps():
                        if step.bought and step.item:
                            wanted = {law.shop.categories[k].name for k in terms[step.item.category].complements}
                        elif step.query and wanted:
                            total += 1
                            came += law.category(normalise(step.query)) in wanted
                            general += law.category(normalise(step.query)) in other_five(law, wanted)
    assert total > 300
    assert came > 3 * general


def other_five(law: Missions, wanted: set[str]) -> set[str]:
    """As many categories, about as popular: the next ones in the shop's order."""
    numbers = [category.number for category in law.shop.categories if category.name in wanted]
    return {law.shop.categories[(number + 1) % len(law.shop.categories)].name for number in numbers} - wanted
