from collections import Counter
from random import Random

import numpy as np
import pytest

from simulation.law import DAY_MS
from simulation.logging_ranker import FEATURES, RANKED, History, LoggingRanker, draw
from simulation.ranker_training import (
    BY_POPULARITY,
    FEWEST_USER_DAYS,
    LoggedClick,
    LoggedPage,
    LoggedSearch,
    ShopLog,
    fit_logistic,
)

NO_EXAMPLES = np.zeros((0, len(FEATURES) + 1), np.float32)


def searches(query: str, shoppers: int, first: int = 0) -> list[LoggedSearch]:
    return [LoggedSearch(first + n, query, True) for n in range(shoppers)]


def ranker_after(*days: list) -> LoggingRanker:
    log = ShopLog(["televisions", "laptops", "phones"])
    for day in days:
        log.add_day(day, NO_EXAMPLES)
    return LoggingRanker(log.statistics())


def test_propensities_are_how_often_a_hint_stands_at_its_place():
    scores, rng = (1.0, 0.4, 0.1, -0.5, -2.0), Random(1)
    stood: Counter[tuple[int, int]] = Counter()
    told: dict[tuple[int, int], float] = {}
    draws = 40_000
    for _ in range(draws):
        places, propensities = draw(scores, 3, rng)
        for place, (shown, propensity) in enumerate(zip(places, propensities, strict=True)):
            stood[shown, place] += 1
            told[shown, place] = propensity
    assert len(told) == 15
    for place in range(3):
        assert sum(told[shown, place] for shown in range(5)) == pytest.approx(1, abs=1e-12)
    for key, propensity in told.items():
        interval = 4 * (propensity * (1 - propensity) / draws) ** 0.5
        assert stood[key] / draws == pytest.approx(propensity, abs=interval)


def test_propensities_stay_exact_where_one_score_outweighs_the_others():
    scores = (30.0, 1.0, 0.0, 0.0)
    told = {}
    rng = Random(1)
    for _ in range(300):
        places, propensities = draw(scores, 3, rng)
        told |= {(shown, 1): p for shown, p in zip(places[1:2], propensities[1:2], strict=True)}
    assert sum(p for (_, place), p in told.items() if place == 1) == pytest.approx(1, abs=1e-6)


def test_a_shop_without_a_log_shows_what_it_sells():
    page = ranker_after().page(History(), 0, Random(1))
    assert sorted(page.hints) == ["laptops", "phones", "televisions"]


def test_popularity_counts_a_shopper_once_a_day_and_no_search_that_a_hint_began():
    spam = [LoggedSearch(1, "spam", True)] * 50
    hinted = [LoggedSearch(n, "hinted", False) for n in range(50)]
    page = ranker_after([*spam, *hinted, *searches("tv", 3), *searches("phone", 2, 10)]).page(History(), 0, Random(1))
    assert page.ranked == ("tv", "phone")


def test_what_one_shopper_searched_once_is_shown_to_nobody_else():
    assert FEWEST_USER_DAYS == 2
    page = ranker_after([*searches("tv", 5), *searches("my own secret", 1)]).page(History(), 0, Random(1))
    assert "my own secret" not in page.features


def test_candidates_come_from_own_repeats_followers_and_the_category_of_the_last_click():
    popular = [each for n in range(60) for each in searches(f"popular {n:02d}", 9)]
    pairs = [LoggedSearch(n, query, True) for n in range(3) for query in ("camera", "tripod")]
    clicked = [each for n in range(4, 7) for each in (LoggedSearch(n, "lens", True), LoggedClick(n, "Lenses"))]
    history = History()
    history.add_search(1000, "odd thing")
    history.add_search(2000, "camera")
    history.add_click("Lenses")
    features = ranker_after([*popular, *pairs, *clicked]).page(history, 3000, Random(1)).features
    assert {"odd thing", "camera", "tripod", "lens"} <= set(features)
    assert features["tripod"] == {FEATURES.index("follows the last query"): 1.0}
    assert features["lens"] == {FEATURES.index("category of the last click"): 1.0}
    assert features["odd thing"][FEATURES.index("searched in this session")] == 1.0


def test_a_hint_that_was_shown_and_not_clicked_is_known_to_be():
    history = History()
    history.add_page(("tv", "phone"), 1)
    features = ranker_after([*searches("tv", 5), *searches("phone", 4)]).page(history, 0, Random(1)).features
    assert features["tv"] == {FEATURES.index("shown lately without a click"): 1.0}
    assert features["phone"] == {}


def test_scores_fall_and_no_more_than_the_best_are_logged():
    popular = [each for n in range(60) for each in searches(f"query {n}", 2 + n)]
    page = ranker_after(popular).page(History(), 0, Random(1))
    assert len(page.ranked) == len(page.scores) == RANKED
    assert list(page.scores) == sorted(page.scores, reverse=True)
    assert page.ranked[0] == "query 59"


def test_seven_days_later_a_query_is_forgotten():
    old, quiet = searches("old", 9), [searches("new", 3)] * 6
    assert "old" in ranker_after(old, *quiet).page(History(), 0, Random(1)).features
    assert "old" not in ranker_after(old, *quiet, searches("new", 3)).page(History(), 0, Random(1)).features


def test_popularity_ranks_until_there_are_two_days_of_examples():
    rows = np.zeros((200, len(FEATURES) + 1), np.float32)
    rows[:, 1] = 1
    rows[:100, 0] = rows[:100, 5] = 1  # who searched it before clicks it
    log = ShopLog([])
    log.add_day([*searches("tv", 3), LoggedPage(("tv",), 0)], rows)
    assert log.statistics().weights == BY_POPULARITY
    log.add_day(searches("tv", 3), rows)
    assert log.statistics().weights[4] > 2


def test_the_logistic_model_finds_the_weights_that_made_the_labels():
    rng = np.random.default_rng(1)
    features = np.c_[np.ones(20_000), rng.normal(size=(20_000, 2))]
    chance = 1 / (1 + np.exp(-(features @ [-1.0, 2.0, 0.0])))
    found = fit_logistic(features, (rng.random(20_000) < chance).astype(float))
    assert found == pytest.approx((-1, 2, 0), abs=0.1)


def test_freshness_of_an_own_search_falls_with_its_age():
    history = History()
    history.add_search(0, "tv")
    ranker, at = ranker_after([]), FEATURES.index("freshness of the own search")
    fresh, old = (ranker.page(history, days * DAY_MS, Random(1)).features["tv"][at] for days in (0, 9))
    assert (fresh, old) == (1.0, 0.1)
