"""The trained blend and the untrained fusion of other contenders."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.training.rankers.small_market import (  # fmt: skip
    START_MS,
    check_lists,
    check_no_peeking_and_again,
    hit_rate,
    popularity_hit_rate,
    small,
)
from training.log import Case, Log, Ranker
from training.rankers import BLENDED, contenders
from training.rankers.blend import Blend
from training.rankers.features import feature_names, pairs_of
from training.rankers.fitted import once
from training.rankers.fusion import Fusion
from training.rankers.moments import DAY_MS, compact
from training.rankers.statistics import Statistics
from training.rankers.template import Template
from training.rankers.tfidf import Tfidf, Weights


def sources() -> list[Ranker]:
    return [Tfidf(weights=Weights(popularity=0.2)), Template()]


def make() -> Blend:
    return Blend(sources(), sources(), small().profiles, most=1_500)


@pytest.fixture(scope="module")
def fitted() -> Blend:
    blend = make()
    blend.fit(small().log)
    return blend


class Fixed:
    """A source that remembers the end of every log it was fitted on."""

    def __init__(self, queries: Sequence[str], name: str = "fixed") -> None:
        self.name = name
        self.queries = tuple(queries)
        self.ends_ms: list[int] = []

    def fit(self, log: Log) -> None:
        self.ends_ms.append(int(log.time_ms[-1]))

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        return [self.queries[:count] for _ in cases]


def test_it_beats_popularity_and_each_of_its_sources(fitted: Blend):
    check_lists(fitted, small().cases[:50])
    blended = hit_rate(fitted, small().cases)
    assert blended > 2 * popularity_hit_rate()
    for source in fitted.sources:
        assert blended >= hit_rate(source, small().cases), source.name


def test_a_case_has_a_hundred_candidates(fitted: Blend):
    cases = small().cases[:100]
    pairs = pairs_of(fitted.statistics, fitted.sources, cases)
    assert np.bincount(pairs.of_case, minlength=len(cases)).min() >= 100
    assert pairs.values.shape == (len(pairs.queries), len(feature_names(fitted.sources)))


def test_its_trees_learn_from_sources_that_never_saw_the_days_they_are_judged_on():
    early, source = Fixed(["laptop"]), Fixed(["laptop"])
    log = small().log
    Blend([source], [early], most=300, learned_days=3).fit(log)
    end_ms = int(log.time_ms[-1])
    assert len(early.ends_ms) == 1
    assert early.ends_ms[0] <= end_ms - 3 * DAY_MS
    assert source.ends_ms == [end_ms]


def test_statistics_are_fresh_at_every_fit_and_trees_by_the_week():
    early, source = Fixed(["laptop"]), Fixed(["laptop"])
    whole = small().log
    blend = Blend([source], [early], most=300, retrain_days=7)
    ends_ms = [START_MS + day * DAY_MS for day in (14, 15, 22)]
    trees = []
    for end_ms in ends_ms:
        blend.fit(whole.before(end_ms))
        trees.append(blend.trees)
    assert trees[0] is trees[1] is not trees[2]
    assert (len(early.ends_ms), len(source.ends_ms)) == (2, 3)


def test_a_query_that_only_one_source_knows_can_be_offered(fitted: Blend):
    cases = small().cases[:5]
    pairs = pairs_of(fitted.statistics, [Fixed(["words of a model"])], cases)
    assert pairs.queries.count("words of a model") == len(cases)


def test_one_more_source_that_knows_the_answer_is_believed():
    class Knowing(Fixed):
        def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
            return [(case.next or "laptop",) for case in cases]

    blend = Blend([Knowing([])], [Knowing([])], most=600)
    blend.fit(small().log)
    made = blend.rank(small().cases[:100], 1)
    assert np.mean([case.next == row[0] for case, row in zip(small().cases[:100], made, strict=True)]) > 0.9


def test_a_source_of_the_registry_that_stands_alone_too_is_fitted_once():
    tfidf, blend = contenders(["tfidf", "blend"])
    assert isinstance(blend, Blend)
    assert tfidf in blend.sources
    assert tfidf not in blend.early


def test_a_second_fit_on_the_very_same_log_does_nothing_and_one_on_another_log_does():
    class Counting(Fixed):
        fit = once(Fixed.fit)

    source = Counting([])
    log = small().log
    for each in (log, log, log.before(START_MS + DAY_MS), log):
        source.fit(each)
    assert len(source.ends_ms) == 3


def test_a_log_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="longer log"):
        Blend([], []).fit(small().log.before(START_MS + DAY_MS))


def test_features_look_at_nothing_that_came_after(fitted: Blend):
    cases = small().cases[:20]
    statistics = Statistics.of(compact(small().log), small().profiles, 2)
    shown = pairs_of(statistics, fitted.sources, cases)
    blank = pairs_of(statistics, fitted.sources, [Case(c.user, c.as_of_ms, c.profile, c.seen, "", ()) for c in cases])
    assert shown.queries == blank.queries
    np.testing.assert_array_equal(shown.values, blank.values)


def test_the_future_and_a_second_fit_change_nothing(fitted: Blend):
    check_no_peeking_and_again(make, fitted, small().cases[:100])


def test_fusion_is_no_worse_than_the_weaker_source_and_keeps_the_order_of_one(fitted: Blend):
    fusion = Fusion(fitted.sources)
    assert hit_rate(fusion, small().cases) > min(hit_rate(source, small().cases) for source in fitted.sources)
    alone = Fusion(fitted.sources[:1])
    assert alone.rank(small().cases[:20], 10) == fitted.sources[0].rank(small().cases[:20], 10)
    with pytest.raises(ValueError, match="one a source"):
        Fusion(fitted.sources, [1.0])


def test_the_blend_of_the_registry_has_its_sources_and_profiles():
    (blend,) = contenders(["blend"], profiles=small().profiles)
    assert isinstance(blend, Blend)
    assert [source.name for source in blend.sources] == BLENDED
    assert blend.profiles == small().profiles
