"""The bootstrap against what can be computed by hand."""

import numpy as np
import pytest

from training.yardstick.bootstrap import Estimate, Resamples, over_draws


def test_one_case_each_gives_the_normal_interval():
    rng = np.random.default_rng(1)
    hits = (rng.random(4_000) < 0.3).astype(float)
    means = Resamples(np.arange(4_000), draws=2_000).means(hits[:, None])
    value, low, high = means.estimate(0)
    error = np.sqrt(value * (1 - value) / 4_000)
    assert value == hits.mean()
    assert low == pytest.approx(value - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(value + 1.96 * error, abs=0.15 * error)


def test_cases_of_one_shopper_are_drawn_together():
    """Ten equal cases a shopper tell as much as one."""
    hits = (np.random.default_rng(2).random(400) < 0.3).astype(float)
    once = Resamples(np.arange(400)).means(hits[:, None]).estimate(0)
    tenfold = Resamples(np.repeat(np.arange(400), 10)).means(np.repeat(hits, 10)[:, None]).estimate(0)
    assert tenfold == pytest.approx(once)


def test_differences_are_paired():
    """One contender is another plus a hit in twenty cases: the difference is known far better than either."""
    rng = np.random.default_rng(3)
    hits = (rng.random(2_000) < 0.5).astype(float)
    better = hits.copy()
    better[np.flatnonzero(hits == 0)[:20]] = 1
    means = Resamples(np.arange(2_000)).means(np.stack([better, hits], axis=1))
    value, low, high = means.difference(0, means, 1)
    assert value == pytest.approx(0.01)
    assert 0.005 < low < value < high < 0.016
    assert means.estimate(0).high - means.estimate(0).low > 3 * (high - low)


def test_cases_without_a_value_do_not_count():
    values = np.array([[1.0, np.nan], [0.0, np.nan], [np.nan, np.nan]])
    means = Resamples(np.array([0, 1, 2])).means(values)
    assert means.estimate(0).value == 0.5
    assert not means.estimate(1).known


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(5).random((100, 3))
    first, again = (Resamples(np.arange(100) % 40).means(values).drawn for _ in range(2))
    assert (first == again).all()


def test_means_of_resamples_are_means_over_drawn_cases():
    shopper, values = np.array([0, 0, 1, 2]), np.array([1.0, 0.0, 1.0, 0.0])
    means = Resamples(shopper, draws=500).means(values[:, None])
    possible = {
        round(sum(values[shopper == s].sum() for s in drawn) / sum((shopper == s).sum() for s in drawn), 6)
        for drawn in np.ndindex(3, 3, 3)
    }
    assert {round(float(mean), 6) for mean in means.drawn[:, 0]} <= possible


def test_several_markets_have_the_wider_of_two_intervals():
    alike = over_draws([Estimate(0.5, 0.48, 0.52)] * 4)
    assert (alike.low, alike.high) == (pytest.approx(0.49), pytest.approx(0.51))
    apart = over_draws([Estimate(v, v - 0.001, v + 0.001) for v in (0.4, 0.5, 0.6)])
    assert apart.low == pytest.approx(0.5 - 4.30 * 0.1 / np.sqrt(3))
    assert {type(each) for each in apart} == {float}, "a page's JSON takes no other"
