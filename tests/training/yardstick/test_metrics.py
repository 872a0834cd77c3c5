"""Every figure against a second, slow way to count it; and fairness: equal places, no look at the truth."""

import math
from random import Random

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from training.log import Case, Log
from training.yardstick.groups import groups
from training.yardstick.lists import PLACES, Queries, Truths, UnfairLists, added, asked
from training.yardstick.metrics import category_metrics, hit_metrics, only_comparable, similarity_metrics

WORDS = [f"q{i}" for i in range(60)]


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Case], list[tuple[str, ...]]]:
    rng = Random(3)
    cases, lists = [], []
    for n in range(300):
        later = tuple(rng.sample(WORDS, rng.randint(1, 14)))
        clicked = tuple(rng.sample(WORDS, rng.randint(0, 2)))
        cases.append(Case(f"u{rng.randrange(80)}", n, {}, (), later[0], later, clicked))
        lists.append(tuple(rng.sample(WORDS, rng.choice((0, 4, 10, 30)))))
    return cases, lists


def measured(cases: list[Case], lists: list[tuple[str, ...]]) -> tuple[np.ndarray, Truths, Queries]:
    queries = Queries()
    return queries.rows(lists, PLACES), Truths.of(cases, queries), queries


def test_hits_ranks_and_recall_are_what_they_are_said_to_be(drawn):
    cases, lists = drawn
    values = hit_metrics(*measured(cases, lists)[:2])
    for i, (case, made) in enumerate(zip(cases, lists, strict=True)):
        for k in (1, 3, 10, 30):
            assert values[f"HR@{k}"][i] == (case.next in made[:k])
        assert values["MRR"][i] == (1 / (made.index(case.next) + 1) if case.next in made else 0)
        assert values["recall@10"][i] == pytest.approx(len(set(made[:10]) & set(case.later)) / len(case.later))
        assert values["recall@30"][i] == pytest.approx(len(set(made) & set(case.later)) / len(case.later))
        assert values["candidates"][i] == len(made)
        if case.clicked:
            assert values["clicked hints HR@10"][i] == bool(set(case.clicked) & set(made[:10]))
        else:
            assert math.isnan(values["clicked hints HR@10"][i])


def test_ndcg_is_scikit_learns(drawn):
    cases, lists = drawn
    values = hit_metrics(*measured(cases, lists)[:2])
    for i, (case, made) in enumerate(zip(cases, lists, strict=True)):
        relevance = np.array([[word in case.later for word in WORDS]], dtype=float)
        score = np.array([[1 + PLACES - made.index(word) if word in made[:10] else 0.0 for word in WORDS]])
        # What is not listed gains nothing: scikit-learn would share it among ties.
        unlisted = np.array([[word not in made[:10] for word in WORDS]])
        gain = np.where(unlisted, 0.0, relevance)
        ideal = sum(1 / math.log2(k + 2) for k in range(min(10, len(case.later))))
        best_of_listed = sum(1 / math.log2(k + 2) for k in range(int(gain.sum())))
        expected = ndcg_score(gain, score, k=10) * best_of_listed / ideal if gain.any() else 0.0
        assert values["NDCG@10"][i] == pytest.approx(expected)


def test_categories_are_counted_as_sets(drawn):
    cases, lists = drawn
    ranked, truths, queries = measured(cases, lists)
    category = np.array([int(word[1:]) % 5 for word in queries.numbers])
    values = category_metrics(ranked, truths, category, "rule")
    for i, (case, made) in enumerate(zip(cases, lists, strict=True)):
        wanted, of_list = int(case.next[1:]) % 5, [int(word[1:]) % 5 for word in made]
        assert values["unique categories@10 (rule)"][i] == len(set(of_list[:10]) - {0})
        for k in (10, 30):
            value = values[f"category HR@{k} (rule)"][i]
            assert math.isnan(value) if wanted == 0 else value == (wanted in of_list[:k])


def test_similarity_is_the_mean_and_the_nearest_cosine(drawn):
    cases, lists = drawn
    ranked, truths, queries = measured(cases, lists)
    vectors = np.random.default_rng(0).normal(size=(len(queries), 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = similarity_metrics(ranked, truths, vectors)
    for i, (case, made) in enumerate(zip(cases, lists, strict=True)):
        cosines = [vectors[queries.number(w)] @ vectors[queries.number(case.next)] for w in made[:10]]
        assert values["similarity@10"][i] == pytest.approx(np.mean(cosines) if made else 0)
        assert values["similarity nearest@10"][i] == pytest.approx(max(cosines) if made else 0)


class Peeking:
    """Would be right every time, if it could."""

    name = "peeking"

    def fit(self, log: Log) -> None: ...

    def rank(self, cases, count):
        return [tuple(dict.fromkeys([case.next, *case.later, *case.clicked, "tv"])) for case in cases]


class Greedy(Peeking):
    name = "greedy"

    def __init__(self, lists):
        self.lists = lists

    def rank(self, cases, count):
        return self.lists


def test_a_contender_cannot_peek(drawn):
    cases, _ = drawn
    lists = asked(Peeking(), cases)
    assert lists == [("", "tv")] * len(cases)
    assert hit_metrics(*measured(cases, lists)[:2])["HR@10"].sum() == 0


def test_more_places_than_given_are_refused(drawn):
    cases, _ = drawn
    with pytest.raises(UnfairLists, match="greedy took 31 places of 30 for u"):
        asked(Greedy([tuple(WORDS[:31])] * len(cases)), cases)
    with pytest.raises(UnfairLists, match="a query twice"):
        asked(Greedy([("tv", "tv")] * len(cases)), cases)
    with pytest.raises(UnfairLists, match="1 lists for 300 cases"):
        asked(Greedy([()]), cases)


def test_ten_candidates_are_not_compared_with_thirty(drawn):
    cases, _ = drawn
    ranked = {name: measured(cases, [tuple(WORDS[:n])] * len(cases)) for name, n in (("ten", 10), ("thirty", 30))}
    values = only_comparable({name: hit_metrics(*each[:2]) for name, each in ranked.items()})
    assert np.isnan(values["ten"]["HR@30"]).all()
    assert not np.isnan(values["ten"]["HR@10"]).any()
    assert values["thirty"]["HR@30"].mean() > values["thirty"]["HR@10"].mean()


def test_a_channel_takes_places_and_adds_none():
    base = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])
    channel = np.array([[7, 1, 8, 9, -1], [1, 0, -1, -1, -1]])
    assert added(base, channel, 2).tolist() == [[0, 1, 2, 7, 8], [0, 1, 2, 3, 4]]
    assert added(base, channel, 0).tolist() == base.tolist()


def test_every_case_is_warm_tail_or_cold():
    from schemas import Behaviour, BehaviourEvent
    from training.log_files import log_of

    log = log_of(
        [
            BehaviourEvent(f"{u}{q}", f"u{u}", "search", u, query=q)
            for u in range(10)
            for q in ("tv", "rare")[: 2 if u < 9 else 1]
        ]
    )
    seen = tuple(Behaviour(i, i, "search", "x") for i in range(3))
    cases = [Case("u", 9, {}, s, q, (q,)) for s in (seen, seen[:2]) for q in ("tv", "rare", "never")]
    found = {name: mask.tolist() for name, mask in groups(cases, log).items()}
    assert found["cold"] == [False] * 3 + [True] * 3
    assert found["tail"] == [False, True, True, False, False, False]
    assert found["warm"] == [True, False, False, False, False, False]
