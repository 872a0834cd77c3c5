"""Char-n-gram TF-IDF: near in writing to what was done last."""

import pytest

from schemas import Behaviour
from tests.training.rankers.small_market import (
    check_lists,
    check_no_peeking_and_again,
    hit_rate,
    popularity_hit_rate,
    small,
)
from training.log import Case
from training.rankers.tfidf import Tfidf, Weights


@pytest.fixture(scope="module")
def fitted() -> Tfidf:
    ranker = Tfidf()
    ranker.fit(small().log)
    return ranker


def test_it_beats_popularity_clearly(fitted: Tfidf):
    check_lists(fitted, small().cases[:50])
    assert hit_rate(fitted, small().cases) > 1.5 * popularity_hit_rate()


def test_its_weights_were_chosen_on_the_log_and_are_not_worse_than_none(fitted: Tfidf):
    assert fitted.weights != Weights()
    plain = Tfidf(weights=Weights())
    plain.fit(small().log)
    assert hit_rate(fitted, small().cases) >= hit_rate(plain, small().cases) - 0.03


def test_a_title_that_nobody_clicked_before_finds_its_query(fitted: Tfidf):
    title = "HP - Refurbished Laptops - L999 new edition"
    case = Case("u", 1_000, {}, (Behaviour(1, 1, "click", title, "Laptops"),), "", ())
    assert any("laptop" in query for query in fitted.rank([case], 10)[0])


def test_a_shopper_without_a_past_gets_what_is_popular(fitted: Tfidf):
    (row,) = fitted.rank([Case("u", 1_000, {}, (), "", ())], 10)
    assert row == tuple(fitted.queries[:10])


def test_the_future_and_a_second_fit_change_nothing(fitted: Tfidf):
    check_no_peeking_and_again(Tfidf, fitted, small().cases[:100])
