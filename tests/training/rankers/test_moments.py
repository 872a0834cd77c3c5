"""Moments out of a log: what was seen ends before the search that followed, and both ways to look at it agree."""

import numpy as np

from tests.training.rankers.small_market import small
from training.rankers.moments import cases, compact, known_queries, moments, newest_of, seen_of

LOG = compact(small().log)


def test_nothing_at_or_after_the_moment_is_seen():
    chosen = moments(LOG)
    there = chosen.seen >= 0
    seen_ms = LOG.time_ms[np.maximum(chosen.seen, 0)]
    assert there.any()
    assert (seen_ms < LOG.time_ms[chosen.row][:, None])[there].all()
    assert (LOG.user[np.maximum(chosen.seen, 0)] == LOG.user[chosen.row][:, None])[there].all()


def test_a_moment_for_every_search_and_the_newest_behaviours_first():
    chosen = moments(LOG, kept=3)
    assert len(chosen.row) == (LOG.is_search & LOG.by_themselves).sum()
    for row, seen in list(zip(chosen.row, chosen.seen, strict=True))[:: len(chosen.row) // 50]:
        earlier = np.flatnonzero((LOG.user == LOG.user[row]) & (LOG.time_ms < LOG.time_ms[row]))
        assert [i for i in seen if i >= 0] == earlier[::-1][:3].tolist()


def test_a_drawn_part_is_the_same_every_time():
    first, again, other = (moments(LOG, most=100, seed=seed).row for seed in (1, 1, 2))
    assert len(first) == 100
    assert (first == again).all()
    assert not (first == other).all()


def test_cases_and_columns_tell_the_same():
    chosen = moments(LOG, most=300)
    by_columns = seen_of(LOG, chosen)
    by_cases, new_texts = newest_of(LOG, cases(LOG, chosen))
    assert new_texts == ()
    for one, other in zip(by_columns, by_cases, strict=True):
        np.testing.assert_array_equal(one, other)


def test_texts_that_a_log_does_not_know_come_behind_its_own():
    seen, new_texts = newest_of(LOG, small().cases)
    assert new_texts
    assert seen.text.max() == len(LOG.texts) + len(new_texts) - 1


def test_known_queries_have_enough_shoppers():
    known = known_queries(LOG, 3)
    assert len(known.text)
    for text in known.text[:: len(known.text) // 20]:
        rows = (LOG.text == text) & LOG.is_search
        assert len(np.unique(LOG.user[rows])) >= 3
    assert (known.of_text[known.text] == np.arange(len(known.text))).all()


def test_a_compact_log_says_the_same_and_names_nothing_later():
    log = small().log
    assert len(LOG.texts) < len(log.texts)
    for i in range(0, len(log), 997):
        assert LOG.texts[LOG.text[i]] == log.texts[log.text[i]]
        assert LOG.users[LOG.user[i]] == log.users[log.user[i]]
        assert LOG.categories[LOG.category[i]] == log.categories[log.category[i]]
