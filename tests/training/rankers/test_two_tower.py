"""Embedding-based retrieval, on few rounds."""

import numpy as np
import pytest

from tests.training.rankers.small_market import (
    check_lists,
    check_no_peeking_and_again,
    hit_rate,
    popularity_hit_rate,
    small,
)
from training.log import Case
from training.rankers.net import TextPieces
from training.rankers.two_tower import Recipe, TwoTower

RECIPE = Recipe(width=32, batch=256, negatives=256, rounds=3, last_rounds=1)


def make() -> TwoTower:
    return TwoTower(RECIPE, small().profiles)


@pytest.fixture(scope="module")
def fitted() -> TwoTower:
    ranker = make()
    ranker.fit(small().log)
    return ranker


def test_it_beats_popularity_clearly(fitted: TwoTower):
    check_lists(fitted, small().cases[:50])
    assert hit_rate(fitted, small().cases) > 1.5 * popularity_hit_rate()


def test_it_stops_by_the_last_days_of_the_log(fitted: TwoTower):
    assert 1 <= len(fitted.validated) <= RECIPE.rounds
    assert len(fitted.validated) - 1 - np.argmax(fitted.validated) <= RECIPE.patience


def test_scores_of_pairs_are_those_of_the_lists(fitted: TwoTower):
    cases = small().cases[:20]
    lists = fitted.rank(cases, 5)
    of_case = np.repeat(np.arange(20), 5)
    scores = fitted.pair_scores(cases, of_case, [query for row in lists for query in row]).reshape(20, 5)
    assert (np.diff(scores, axis=1) <= 1e-5).all()
    assert (scores < 0).all()
    assert np.isnan(fitted.pair_scores(cases, np.array([0]), ["never searched by anybody"])).all()


def test_a_text_is_the_words_and_letters_that_two_texts_have():
    pieces = TextPieces(["hp laptop", "hp mouse", "unicorn"])
    rows = pieces.rows(["HP  Laptop", "hp laptop", "unicorn", ""]).toarray()
    assert set(pieces.counter.vocabulary_) == {"=hp", " hp", "hp "}
    np.testing.assert_array_equal(rows[0], rows[1])
    assert (rows[0] ** 2).sum() == pytest.approx(1)
    assert not rows[2:].any()
    assert TextPieces([]).rows([]).shape[0] == 0


def test_a_shopper_without_a_past_gets_a_list(fitted: TwoTower):
    assert len(fitted.rank([Case("u", 1_000, {}, (), "", ())], 10)[0]) == 10


def test_the_future_and_a_second_fit_change_nothing(fitted: TwoTower):
    check_no_peeking_and_again(make, fitted, small().cases[:100])
