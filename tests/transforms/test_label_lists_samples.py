"""What is in a sample's list, and its order: the formula of transforms/label_lists.py."""

from hypothesis import given
from hypothesis import strategies as st

from inference.output import near_duplicates, normalise
from transforms.label_lists import Candidate, concat, label_list, system_prior

QUERIES = st.lists(st.text("abc ", min_size=1, max_size=8), max_size=6)


def everything(candidate: Candidate) -> bool:
    return True


def test_feedback_decides_first_and_the_ranker_within_a_level() -> None:
    ranked = ("garden hose", "usb hub", "office chair", "red shoes")
    made = label_list(
        concat(["red shoes"], ["office chair", "night lamp"], ranked, ["tea pot"]),
        system_prior(ranked, (4.0, 3.0, 2.0, 1.0)),
        everything,
        10,
    )
    assert made.labels == ("red shoes", "office chair", "night lamp", "garden hose", "usb hub", "tea pot")
    assert made.label_from == ("click", "search", "search", "ranked", "ranked", "generated")
    assert made.label_scores == (2 + 0.25 / 2, 1 + 0.5 / 2, 1.0, 0.5, 0.75 / 2, 0.0)
    assert made.labels_plain == ("red shoes", "office chair", "night lamp", "garden hose", "usb hub", "tea pot")


def test_what_shares_words_with_a_click_moves_up_in_the_rankers_part() -> None:
    ranked = ("garden hose", "green shoes", "usb hub")
    made = label_list(concat(["red shoes"], (), ranked), system_prior(ranked, (3, 2, 1)), everything, 10)
    # Jaccard {red, shoes}, {green, shoes} = 1/3: (2/3 + 1/3) / 2 equals garden hose's (1 + 0) / 2, and the ranker had that first.
    assert made.labels == ("red shoes", "garden hose", "green shoes", "usb hub")
    closer = label_list(
        concat(["red shoes women"], (), ("garden hose", "red shoes", "usb hub")),
        system_prior(("garden hose", "red shoes", "usb hub"), ()),
        everything,
        10,
    )
    assert closer.labels == ("red shoes women", "red shoes", "garden hose", "usb hub")
    assert closer.labels_plain == ("red shoes women", "garden hose", "red shoes", "usb hub")


def test_a_query_stands_once_where_its_best_source_put_it() -> None:
    made = label_list(concat(["USB hub"], ["hub usb"], ["usb  HUB", "lamp"]), {}, everything, 10)
    assert made.labels_plain == ("USB hub", "lamp")
    assert set(zip(made.labels, made.label_from, strict=True)) == {("USB hub", "click"), ("lamp", "ranked")}


@given(QUERIES, QUERIES, QUERIES, st.integers(1, 6), st.sets(st.sampled_from(["a", "b", "c", "a b"])))
def test_both_orders_hold_the_same_admitted_distinct_labels(clicked, searched, ranked, most, refused) -> None:
    candidates = concat(clicked, searched, ranked)
    made = label_list(candidates, system_prior(ranked, ()), lambda each: normalise(each.query) not in refused, most)
    assert sorted(made.labels) == sorted(made.labels_plain)
    assert len(made.labels) == len(made.label_from) == len(made.label_scores) <= most
    assert list(made.label_scores) == sorted(made.label_scores, reverse=True)
    words = [frozenset(normalise(label).split()) for label in made.labels]
    assert not any(near_duplicates(a, b) for i, a in enumerate(words) for b in words[:i])
    assert not {normalise(label) for label in made.labels} & refused
    levels = {"click": 2, "search": 1, "ranked": 0}
    order = [levels[each] for each in made.label_from]
    assert order == sorted(order, reverse=True)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_the_system_prior_rises_with_the_score_and_is_never_the_0_of_an_unranked_query(scores) -> None:
    queries = [f"q{n}" for n in range(len(scores))]
    prior = system_prior(queries, scores)
    assert all(0 < 1 / len(scores) - 1e-9 < each <= 1 for each in prior.values())
    for a, of_a in zip(queries, scores, strict=True):
        for b, of_b in zip(queries, scores, strict=True):
            assert not (of_a > of_b and prior[a] < prior[b])


def test_without_scores_the_ranker_counts_by_place() -> None:
    assert system_prior(("a", "b"), ()) == {"a": 1.0, "b": 0.5} == system_prior(("a", "b"), (3.0, 3.0))
    assert system_prior(("a", "b"), (float("nan"), 1.0)) == {"a": 1.0, "b": 0.5}
    assert system_prior((), ()) == {}
