"""What the model learns from: no sample knows its own future, and every label is a list that the parser accepts."""

from itertools import groupby
from random import Random

import pytest

from inference.output import QueryList, QueryRules, normalise, parse_list
from schemas import BehaviourEvent, Item
from simulation.market import Market
from training.baselines import baselines
from training.samples import LIST_LENGTH, QueryFacts, by_interest, cases, histories, next_list, query_facts, samples

LOG = histories(Market(3, shoppers=60).events(0, 40))


def test_nothing_at_or_after_the_moment_of_a_list_is_in_its_prompt():
    for history in LOG:
        for case in cases(history, 5, Random(1)):
            assert all(behaviour.time_ms < case.as_of_ms for behaviour in case.seen)
            later = [b for b in history.behaviours if b.time_ms > case.as_of_ms and b.kind == "search"]
            assert case.next == tuple(b.text for b in later)


def test_a_change_of_the_future_changes_no_prompt():
    events = list(Market(3, shoppers=1).events(0, 40))
    moment = next(cases(histories(events)[0], 1, Random(1)))
    future = [e for e in events if e.time_ms > moment.as_of_ms]
    past = [e for e in events if e.time_ms <= moment.as_of_ms]
    changed = [
        BehaviourEvent(e.id, e.user, "search", e.time_ms, query="something else", profile=e.profile) for e in future
    ]
    all_moments = cases(histories([*past, *changed])[0], 10_000, Random(1))
    assert moment.prompt() in {case.prompt() for case in all_moments if case.as_of_ms == moment.as_of_ms}


def test_moments_before_the_test_period_are_not_tested():
    assert all(case.as_of_ms > 10**9 for history in LOG for case in cases(history, 5, Random(1), from_ms=10**9))


def test_every_label_is_a_whole_list_in_the_parsers_eyes():
    made = list(samples(LOG, 3, seed=1))
    assert made
    for sample in made:
        parsed = parse_list(sample.answer, QueryRules())
        assert isinstance(parsed, QueryList)
        assert len(parsed.queries) == LIST_LENGTH
        assert not parsed.dropped


def test_a_label_holds_the_next_ten_queries_interest_by_interest_the_soonest_first():
    facts = query_facts(LOG)
    for history in LOG[:20]:
        for case in cases(history, 2, Random(1)):
            label = next_list(case, facts)
            if label:
                assert set(label) <= set(case.next)
                interests = [facts[normalise(query)].category for query in label]
                runs = [interest for interest, _ in groupby(interests)]
                assert len(runs) == len(set(runs))
                soonest = next(query for query in case.next if normalise(query) in facts)
                assert runs[0] == facts[normalise(soonest)].category


def test_within_an_interest_a_label_goes_from_what_many_search_to_what_few_do():
    facts = {"tv": QueryFacts(90, "TVs"), "sony tv": QueryFacts(20, "TVs"), "lamp": QueryFacts(50, "Lamps")}
    assert by_interest(["sony tv", "lamp", "tv"], facts) == ("tv", "sony tv", "lamp")


def test_a_querys_category_is_what_is_clicked_after_it():
    events = []
    for n in range(3):
        item = Item("1", "Sony Bravia", "TVs" if n else "Lamps")
        events.append(BehaviourEvent(f"{n}a", f"u{n}", "search", 1000 * n, query="Sony  TV"))
        events.append(BehaviourEvent(f"{n}b", f"u{n}", "click", 1000 * n + 1, item=item))
    assert query_facts(histories(events)) == {"sony tv": QueryFacts(3, "TVs")}


def test_what_only_one_shopper_typed_is_no_label():
    typed = {normalise(b.text) for b in LOG[0].behaviours if b.kind == "search"}
    others = {normalise(b.text) for history in LOG[1:] for b in history.behaviours if b.kind == "search"}
    assert not (typed - others) & query_facts(LOG).keys()


def test_the_same_seed_gives_the_same_samples():
    assert list(samples(LOG, 3, seed=1)) == list(samples(LOG, 3, seed=1))
    assert list(samples(LOG, 3, seed=1)) != list(samples(LOG, 3, seed=2))


@pytest.mark.parametrize("name", ["popularity", "popularity, last week", "own queries again", "bigram"])
def test_every_baseline_names_ten_different_queries(name: str):
    rule = baselines(LOG)[name]
    for case in cases(LOG[0], 5, Random(1)):
        assert len(set(rule(case))) == LIST_LENGTH
