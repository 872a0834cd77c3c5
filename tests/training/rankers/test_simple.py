"""Rules that count: each finds the structure that it is for, fills its list with popularity, and is fitted on the past alone."""

from functools import cache

import msgspec
import numpy as np
import pytest

from schemas import Behaviour, BehaviourEvent, Item
from tests.training.yardstick.small_market import DAY_MS, START_MS, events_and_pages
from training.log import Case, Log, Ranker, hidden
from training.log_files import log_of, search_cases
from training.rankers import CONTENDERS, SIMPLE, contenders
from training.rankers.bigrams import Bigrams, Setting
from training.rankers.newest import ByShopper, newest_in_cases, newest_in_log
from training.rankers.repeats import RepeatRates
from training.rankers.scores import Following, Window, shares

HOUR_MS = 3_600_000
CUT_MS = START_MS + 12 * DAY_MS


@cache
def whole() -> Log:
    return log_of(*events_and_pages(60, 14))


@cache
def longer() -> Log:
    """The same until the cut-off, and something else later."""
    events, pages = events_and_pages(60, 14)
    late = [search("late", START_MS + 13 * DAY_MS + i, "only later") for i in range(500)]
    return log_of([*events, *late], pages)


@cache
def fitted(name: str) -> Ranker:
    (ranker,) = contenders([name])
    ranker.fit(whole().before(CUT_MS))
    return ranker


@pytest.fixture
def log() -> Log:
    return whole()


def search(user: str, time_ms: int, query: str) -> BehaviourEvent:
    return BehaviourEvent(f"{user}{time_ms}", user, "search", time_ms, query=query)


def case(*seen: tuple[int, str], as_of_ms: int, category: str = "") -> Case:
    kind = "click" if category else "search"
    return Case(
        "new", as_of_ms, {}, tuple(Behaviour(t, i, kind, text, category) for i, (t, text) in enumerate(seen)), "", ()
    )


@pytest.mark.parametrize("name", SIMPLE)
def test_lists_are_distinct_and_full(name: str, log: Log):
    cases = search_cases(log, CUT_MS)[:200]
    cases.append(case((START_MS, "never heard of"), as_of_ms=START_MS + HOUR_MS))
    cases.append(Case("nobody", START_MS, {}, (), "", ()))
    lists = fitted(name).rank(cases, 10)
    assert fitted(name).name == name
    assert all(len(made) == len(set(made)) == 10 for made in lists)
    assert lists == [made[:10] for made in fitted(name).rank(cases, 30)]


@pytest.mark.parametrize("name", SIMPLE)
def test_the_truth_is_never_looked_at(name: str, log: Log):
    cases = search_cases(log, CUT_MS)[:100]
    assert fitted(name).rank(cases, 10) == fitted(name).rank([hidden(each) for each in cases], 10)


@pytest.mark.parametrize("name", SIMPLE)
def test_lists_are_the_same_again_whatever_came_after_the_cut_off(name: str, log: Log):
    cases = [hidden(each) for each in search_cases(log, CUT_MS)[:200]]
    (ranker,) = contenders([name])
    ranker.fit(longer().before(CUT_MS))
    made = ranker.rank(cases, 30)
    assert made == fitted(name).rank(cases, 30)
    assert not any("only later" in row for row in made)


def test_bigrams_find_what_follows_where_popularity_does_not(log: Log):
    cases = search_cases(log, CUT_MS)
    hits = {
        name: np.mean([c.next == made[0] for c, made in zip(cases, fitted(name).rank(cases, 10), strict=True)])
        for name in ("popularity", "repeats", "session-bigrams", "user-bigrams", "query-sessions", "item-sessions")
    }
    assert hits["popularity"] < 0.3
    assert hits["session-bigrams"] > 0.6
    assert hits["user-bigrams"] > 0.9  # what follows a day later is the first query again
    assert min(hits["query-sessions"], hits["item-sessions"]) > hits["popularity"] + 0.2


def test_popularity_of_a_window_forgets_what_is_older():
    old = [search(f"u{i}", START_MS + i, "old") for i in range(50)]
    new = [search(f"u{i}", START_MS + 20 * DAY_MS + i, "new") for i in range(5)]
    by_name = {ranker.name: ranker for ranker in contenders(["popularity-all", "popularity-7d"])}
    for ranker in by_name.values():
        ranker.fit(log_of([*old, *new]))
    anyone = [Case("x", START_MS, {}, (), "", ())]
    assert by_name["popularity-all"].rank(anyone, 2) == [("old", "new")]
    assert by_name["popularity-7d"].rank(anyone, 2) == [("new",)]


def test_hints_searches_are_context_and_never_what_is_foretold():
    events = [search("u", START_MS + i * 60_000, q) for i, q in enumerate(("a", "b", "c"))]
    log = log_of(events)
    hinted = Log(
        **{f: getattr(log, f) for f in log.__dataclass_fields__} | {"by_themselves": np.array([True, False, True])}
    )
    by_shopper = ByShopper.of(hinted)
    assert shares(by_shopper, 3, Window()).tolist() == [0.5, 0, 0.5]
    learned = Bigrams("session").learn(hinted, by_shopper, Window())
    last = learned.steps[1]
    assert [(int(i) // 2, last.share[i].indices.tolist()) for i in np.flatnonzero(last.seen)] == [(1, [2])]


def test_back_off_is_interpolated_as_witten_and_bell_wrote():
    rows = [("x", "a"), ("x", "a"), ("x", "b"), ("y", "c")]
    events = [
        search(f"u{i}", START_MS + i * DAY_MS + k * 60_000, q)
        for i, pair in enumerate(rows)
        for k, q in enumerate(pair)
    ]
    log = log_of(events)
    by_shopper, texts = ByShopper.of(log), len(log.texts)
    rule = Bigrams("session")
    moments = newest_in_cases(
        [case((START_MS, "x"), as_of_ms=START_MS + 1)], log.categories, {t: i for i, t in enumerate(log.texts)}
    )
    scores = rule.scores(rule.learn(log, by_shopper, Window()), moments, Setting(1.0, 0.0), texts)
    whole = scores.found.toarray()[0] + scores.rest[0] * shares(by_shopper, texts, Window())
    # Three followers, two of them distinct: P(a | x) = (2 + 2 P(a)) / (3 + 2).
    popular = dict(zip(log.texts, shares(by_shopper, texts, Window()), strict=True))
    assert whole[log.texts.index("a")] == pytest.approx((2 + 2 * popular["a"]) / 5)
    assert whole.sum() == pytest.approx(1)


def test_what_a_log_shows_before_a_moment_is_what_a_case_shows(log: Log):
    by_shopper = ByShopper.of(log)
    places = np.flatnonzero(by_shopper.by_themselves)[::7][:150]
    of_log = newest_in_log(by_shopper, places)
    wanted = {(log.users[by_shopper.user[p]], int(by_shopper.time_ms[p])): i for i, p in enumerate(places)}
    cases = [c for c in search_cases(log, 0) if (c.user, c.as_of_ms) in wanted]
    of_cases = newest_in_cases(cases, log.categories, {text: i for i, text in enumerate(log.texts)})
    rows = [wanted[c.user, c.as_of_ms] for c in cases]
    assert len(cases) == len(places)
    for field in of_log.__dataclass_fields__:
        there, here = getattr(of_log, field)[rows], getattr(of_cases, field)
        if field in ("texts", "searches"):
            assert (there == here).all()
        assert (there == here).all(), field


def test_the_rate_of_repeats_is_the_logs():
    """Every shopper searches one query four times, a day apart: the last one always comes again, an older one never."""
    events = [search(f"u{i}", START_MS + k * DAY_MS, f"q{i}") for i in range(400) for k in range(4)]
    log = log_of(events)
    rates = RepeatRates.of(ByShopper.of(log), len(log.texts))
    moments = newest_in_cases(
        [case((START_MS, "q1"), as_of_ms=START_MS + DAY_MS)], log.categories, {t: i for i, t in enumerate(log.texts)}
    )
    row = rates.scores(moments, len(log.texts)).toarray()[0]
    assert row[log.texts.index("q1")] > 0.95
    assert np.count_nonzero(row) == 1


def test_a_query_that_only_the_shopper_knows_may_be_repeated(log: Log):
    (ranker,) = contenders(["repeats"])
    ranker.fit(log)
    asked = case((START_MS + 14 * DAY_MS, "My own  Words!"), as_of_ms=START_MS + 15 * DAY_MS)
    assert "my own words" in ranker.rank([asked], 10)[0]


def test_followers_are_shares_of_all_followers():
    following = Following.of(np.array([0, 0, 0, 2]), np.array([1, 1, 0, 1]), 3, 2, np.ones(4))
    assert following.share.toarray().tolist() == [[pytest.approx(1 / 3), pytest.approx(2 / 3)], [0, 0], [0, 1]]
    assert following.seen.tolist() == [3, 0, 1]
    assert following.distinct.tolist() == [2, 0, 1]


def test_category_of_the_last_click_leads_where_the_query_is_unknown():
    events = []
    for i in range(30):
        events.append(BehaviourEvent(f"c{i}", f"u{i}", "click", START_MS, item=Item("i", f"title {i}", "Tents")))
        events.append(search(f"u{i}", START_MS + 60_000, "sleeping bag"))
        events += [search(f"v{i}{k}", START_MS + 60_000, "tv") for k in range(4)]
    log = log_of(events)
    (ranker,) = contenders(["session-bigrams"])
    ranker.fit(log)
    assert ranker.rank([case((START_MS, "unseen tent"), as_of_ms=START_MS + 9, category="Tents")], 2) == [
        ("sleeping bag", "tv")
    ]


def test_unknown_contenders_are_named():
    with pytest.raises(ValueError, match="no contender oracle; there are popularity-all"):
        contenders(["popularity", "oracle"])
    assert set(SIMPLE) < set(CONTENDERS)


def test_ranking_before_fitting_says_so():
    (ranker,) = contenders(["repeats"])
    with pytest.raises(RuntimeError, match="call fit"):
        ranker.rank([], 10)
    assert msgspec.structs.asdict(hidden(case(as_of_ms=1)))["next"] == ""


def test_a_half_life_halves():
    weights = Window(half_life_days=2).weights(np.array([0, 2, 4]) * DAY_MS, 4 * DAY_MS)
    assert weights.tolist() == [0.25, 0.5, 1]
    assert Window(days=3).weights(np.array([0, 2, 4]) * DAY_MS, 4 * DAY_MS).tolist() == [0, 1, 1]


def test_settings_are_chosen_on_the_last_days_of_the_log_and_not_later():
    """Fashion changed three days before the end: a short memory is right, and a popularity of the whole log is wrong."""
    events = [search(f"u{i}", START_MS + i * HOUR_MS, f"old {i % 12}") for i in range(20 * 24)]
    events += [search(f"v{i}", START_MS + 20 * DAY_MS + i * HOUR_MS // 4, f"new {i % 12}") for i in range(4 * 96)]
    (ranker,) = contenders(["popularity"])
    ranker.fit(log_of(events))
    assert str(ranker.window) != "whole log"  # pyright: ignore[reportAttributeAccessIssue]
    assert all(query.startswith("new") for query in ranker.rank([Case("x", START_MS, {}, (), "", ())], 10)[0])
