"""Samples of one shopper: nothing of the future is in a prompt, nothing of the test days in a train sample, nobody's rare words in a
label."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from inference.output import normalise
from inference.prompt import build_prompt
from interest import EMPTY, Arrival, TriggerPolicy, behaviours_of, fold
from schemas import BehaviourEvent, Exposure, Item
from transforms.make_samples import Made, SampleRules, make_samples
from transforms.make_samples_facts import FactsCounter, MergeFacts, QueryFacts
from transforms.make_samples_life import DAY_MS, Life, Records, by_themselves, life_of

T0 = 1_764_547_200_000
"""2025-12-01T00:00Z"""
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
RULES = SampleRules(test_from_ms=T0 + 3 * DAY_MS)
WORDS = ("red shoes", "usb hub", "office chair", "red office chair", "lamp")
KNOWN = QueryFacts(dict.fromkeys(WORDS, ""))


def search(id: str, time_ms: int, query: str, user: str = "ann") -> BehaviourEvent:
    return BehaviourEvent(id, user, "search", time_ms, query=query)


def click(id: str, time_ms: int, title: str, category: str = "", user: str = "ann") -> BehaviourEvent:
    return BehaviourEvent(id, user, "click", time_ms, item=Item("i", title, category))


def records(
    events: Sequence[tuple[int, BehaviourEvent]] | Sequence[BehaviourEvent], pages: Sequence[Exposure] = ()
) -> Records:
    """Events in log order, alone or with the log clock at which they arrived."""
    timed = [each if isinstance(each, tuple) else (each.time_ms, each) for each in events]
    arrived = [(Arrival(0, n, clock), event) for n, (clock, event) in enumerate(timed)]
    return Records("ann", arrived, list(pages))


def life(*arguments) -> Life:
    return life_of(records(*arguments))


def page(id: str, time_ms: int, hints: Sequence[str] = (), clicked: Sequence[int] = (), **more) -> Exposure:
    return Exposure(id, "ann", time_ms, tuple(hints), tuple(clicked), **more)


@st.composite
def shoppers(draw) -> Records:
    """Events that arrive up to 300 s after their time, in the order of arrival, and pages between them."""
    clock, logged = T0, []
    for number in range(draw(st.integers(1, 25))):
        clock += draw(st.sampled_from([0, 1, 1_000, 40_000, 200_000, HOUR_MS, 9 * HOUR_MS]))
        time_ms = clock - draw(st.sampled_from([0, 0, 1, 5_000, 299_000, 300_000]))
        text = draw(st.sampled_from(WORDS))
        make = search if draw(st.booleans()) else click
        logged.append((clock, make(f"e{number}", time_ms, text)))
    times = [clock for clock, _ in logged] + [event.time_ms for _, event in logged]
    pages = [
        page(f"x{n}", draw(st.sampled_from(times)) + draw(st.sampled_from([-1, 0, 1, 30_000])), WORDS[:3], draw(st.sampled_from([(), (0,), (2, 1)])), ranked=WORDS)
        for n in range(draw(st.integers(0, 8)))
    ]  # fmt: skip
    return records(logged, pages)


def prompts(made: Made) -> list[tuple[int, str, tuple]]:
    samples = [*made.direct["train"], *made.direct["test"], *made.think["train"], *made.think["test"]]
    of_cases = [(c.as_of_ms, build_prompt(c.profile, c.seen, c.as_of_ms), c.seen) for c in (r.case for r in made.cases)]
    return [(s.as_of_ms, s.prompt, s.behaviours) for s in samples] + of_cases


@given(shoppers(), st.sampled_from(["paper", "with_searches"]), st.sampled_from(["exposures", "searches"]))
def test_nothing_that_happened_or_arrived_at_the_targets_time_or_later_is_in_a_prompt(shopper, labels, cases) -> None:
    rules = replace(RULES, test_from_ms=T0 + DAY_MS, direct_labels=labels, cases=cases)
    made = make_samples(life_of(shopper), rules, KNOWN)
    for as_of_ms, prompt, behaviours in prompts(made):
        earlier = [(arrival, event) for arrival, event in shopper.events if arrival.clock_ms < as_of_ms]
        state = EMPTY
        for arrival, event in earlier:
            state = fold(state, event, arrival, TriggerPolicy()).state
        assert behaviours == tuple(behaviours_of(state))
        assert all(behaviour.time_ms < as_of_ms for behaviour in behaviours)
        assert prompt == build_prompt(state.profile, behaviours, as_of_ms)
    for case in (row.case for row in made.cases):
        assert case.next == case.later[0]
        assert case.next in {normalise(e.query) for _, e in shopper.events if e.time_ms >= case.as_of_ms}


@given(shoppers(), st.sampled_from(["paper", "with_searches"]))
def test_train_samples_are_the_same_whatever_happens_on_the_test_days(shopper, labels) -> None:
    rules = replace(RULES, test_from_ms=T0 + DAY_MS, direct_labels=labels, search_ms=20 * HOUR_MS)
    before = Records(
        "ann",
        [(arrival, event) for arrival, event in shopper.events if event.time_ms < rules.test_from_ms],
        [page for page in shopper.pages if page.time_ms < rules.test_from_ms],
    )
    facts = [facts_of([each], rules.test_from_ms, fewest=1) for each in (shopper, before)]
    assert facts[0] == facts[1]
    made = [make_samples(life_of(each), rules, facts[0]) for each in (shopper, before)]
    assert made[0].direct["train"] == made[1].direct["train"]
    assert made[0].think["train"] == made[1].think["train"]
    days = [{sample.as_of_ms // DAY_MS for sample in made[0].think[split]} for split in ("train", "test")]
    assert not days[0] & days[1]


def facts_of(shoppers: Sequence[Records], test_from_ms: int, fewest: int) -> QueryFacts:
    """As the job counts them: in parts that are merged."""
    merge = MergeFacts(fewest)
    parts = []
    for each in shoppers:
        counter = FactsCounter(test_from_ms)
        counter.add(life_of(each))
        parts.append(merge.add_input(merge.create_accumulator(), counter.found))
    return merge.extract_output(merge.merge_accumulators(parts))


def test_a_direct_sample_is_a_clicked_page_with_the_click_and_the_rankers_list() -> None:
    shown = page("x1", T0 + HOUR_MS, ["usb hub", "lamp"], [1], ranked=("office chair", "usb hub"), scores=(2.0, 1.0))
    made = make_samples(life([search("e0", T0, "red shoes")], [shown, page("x2", T0 + 2 * HOUR_MS, ["lamp"])]), RULES, KNOWN)  # fmt: skip
    (sample,) = made.direct["train"]
    assert (sample.exposure_id, sample.as_of_ms) == ("x1", T0 + HOUR_MS)
    assert sample.labels == ("lamp", "office chair", "usb hub")
    assert sample.label_from == ("click", "ranked", "ranked")
    assert [b.text for b in sample.behaviours] == ["red shoes"]
    assert made.dropped["direct no_feedback"] == 1


def test_with_searches_a_page_is_also_answered_by_what_was_then_searched() -> None:
    events = [
        search("e0", T0, "red shoes"),
        search("e1", T0 + HOUR_MS, "Office chair"),
        search("e2", T0 + 3 * HOUR_MS, "usb hub"),
    ]
    one = life(events, [page("x1", T0 + MINUTE_MS, ["lamp"], [], ranked=("lamp",))])
    assert not make_samples(one, RULES, KNOWN).direct["train"]
    rules = replace(RULES, direct_labels="with_searches")
    (sample,) = make_samples(one, rules, KNOWN).direct["train"]
    assert list(zip(sample.labels, sample.label_from, strict=True)) == [("Office chair", "search"), ("lamp", "ranked")]
    split_before_it = replace(rules, test_from_ms=T0 + HOUR_MS)
    assert not make_samples(one, split_before_it, KNOWN).direct["train"], (
        "a test day's search is no label of a train sample"
    )


def test_a_hints_search_is_not_by_themselves_and_a_later_one_is() -> None:
    clicked = page("x1", T0 + HOUR_MS, ["USB-Hub", "lamp"], [0])
    events = [
        search("e0", T0, "red shoes"),
        search("e1", T0 + HOUR_MS + 2_000, "usb hub"),
        search("e2", T0 + HOUR_MS + 3_000, "lamp"),
        search("e3", T0 + HOUR_MS + 61_000, "usb hub"),
    ]
    own = life(events, [clicked]).searches
    assert [(each.time_ms - T0, each.normal) for each in own] == [
        (0, "red shoes"),
        (HOUR_MS + 3_000, "lamp"),
        (HOUR_MS + 61_000, "usb hub"),
    ]
    assert by_themselves(own, [page("x", T0 - 1, ["red shoes"], [7])]) == list(own), (
        "a place that the page does not have"
    )


def test_a_case_is_a_test_days_page_with_a_search_by_themselves_after_it_on_that_day() -> None:
    day = RULES.test_from_ms
    events = [
        search("e0", T0, "red shoes"),
        search("e1", day + HOUR_MS + 1, "Lamp"),
        search("e2", day + 2 * HOUR_MS, "usb hub"),
        search("e3", day + 3 * HOUR_MS, "LAMP"),
    ]
    pages = [
        page("x0", T0 + 1, ["lamp"], []),
        page("x1", day + HOUR_MS, ["lamp", "usb hub"], [0]),
        page("x2", day + 3 * HOUR_MS, ["lamp"], []),
        page("x3", day + 4 * HOUR_MS, ["lamp"], [0]),
    ]
    made = make_samples(life(events, pages), RULES, KNOWN)
    first, second = made.cases
    assert (first.exposure_id, first.case.next, first.case.later) == ("x1", "usb hub", ("usb hub", "lamp"))
    assert first.case.clicked == ("lamp",)
    assert [behaviour.text for behaviour in first.case.seen] == ["red shoes"]
    assert (second.exposure_id, second.case.next) == ("x2", "lamp")
    assert made.dropped["case no_search_follows"] == 1
    of_searches = make_samples(life(events), replace(RULES, cases="searches"), KNOWN).cases
    assert [(row.case.as_of_ms, row.case.next) for row in of_searches] == [
        (day + HOUR_MS + 1, "lamp"),
        (day + 2 * HOUR_MS, "usb hub"),
        (day + 3 * HOUR_MS, "lamp"),
    ]


def test_a_query_of_few_shoppers_is_no_label_wherever_it_comes_from() -> None:
    rare = "my own name and street"
    shown = page("x1", T0 + HOUR_MS, [rare, "lamp"], [0, 1], ranked=(rare, "usb hub"))
    one = life([search("e0", T0, "red shoes"), search("e1", T0 + 2 * HOUR_MS, rare)], [shown])
    made = make_samples(one, replace(RULES, direct_labels="with_searches"), KNOWN)
    for sample in (*made.direct["train"], *made.think["train"]):
        assert rare not in sample.labels
        assert "lamp" in sample.labels
    alone = make_samples(life([search("e0", T0, "lamp")], [page("x1", T0 + HOUR_MS, [rare], [0], ranked=("lamp",))]), RULES, KNOWN)  # fmt: skip
    assert alone.dropped["direct rare_feedback"] == 1


def test_facts_count_shoppers_by_themselves_on_train_days_and_the_category_clicked_after() -> None:
    def shopper(number: int, *events: BehaviourEvent, pages: Sequence[Exposure] = ()) -> Records:
        return Records(f"u{number}", records(events).events, list(pages))

    test_day = RULES.test_from_ms
    everyone = [
        shopper(1, search("a", T0, "Lamp"), search("b", T0 + 1, "lamp"), click("c", T0 + 9_000, "x", "Lamps")),
        shopper(2, search("a", T0, "lamp"), click("b", T0 + 300_001, "x", "Chairs"), search("c", test_day, "hub")),
        shopper(3, search("a", T0, "hub"), search("b", T0 + 5_000, "shoe"), pages=[page("x", T0, ["shoe"], [0])]),
        shopper(4, search("a", T0, "shoe"), click("b", test_day, "x", "Shoes")),
    ]
    assert facts_of(everyone, test_day, fewest=2) == QueryFacts({"lamp": "Lamps"})
    assert facts_of(everyone, test_day, fewest=1) == QueryFacts({"hub": "", "lamp": "Lamps", "shoe": ""})


def test_think_takes_the_days_feedback_and_of_the_ranker_what_agrees_with_the_history() -> None:
    facts = QueryFacts({"red boots": "", "usb hub": "Hubs", "tea pot": "", "lamp": "Lamps", "sofa": "Sofas"})
    next_day = T0 + DAY_MS
    events = [
        search("e0", T0, "red shoes"),
        click("e1", T0 + 1_000, "some hub", "Hubs"),
        search("e2", next_day + 5, "lamp"),
    ]
    pages = [
        page("x1", next_day + 1, ["sofa"], [], ranked=("tea pot", "usb hub"), scores=(2, 1)),
        page("x2", next_day + HOUR_MS, ["sofa"], [0], ranked=("red boots", "tea pot"), scores=(5, 1)),
    ]
    made = make_samples(life(events, pages), RULES, facts)
    (sample,) = made.think["train"]
    assert (sample.day, sample.as_of_ms) == ("2025-12-02", next_day + 1)
    assert list(zip(sample.labels, sample.label_from, strict=True)) == [
        ("sofa", "click"),
        ("lamp", "search"),
        ("red boots", "ranked"),
        ("usb hub", "ranked"),
    ]
    assert [b.text for b in sample.behaviours] == ["red shoes", "some hub"], "nothing of the day itself"


def test_nothing_of_before_an_erasure_is_a_sample() -> None:
    events = [search("e0", T0, "red shoes"), BehaviourEvent("e1", "ann", "erase", T0 + 2 * HOUR_MS), search("e2", T0 + 3 * HOUR_MS, "lamp")]  # fmt: skip
    pages = [page("x1", T0 + HOUR_MS, ["lamp"], [0]), page("x2", T0 + 4 * HOUR_MS, ["usb hub"], [0])]
    made = make_samples(life(events, pages), RULES, KNOWN)
    (sample,) = made.direct["train"]
    assert sample.exposure_id == "x2"
    assert [b.text for b in sample.behaviours] == ["lamp"]
    assert made.dropped["exposure erased"] == 1


def test_a_page_or_an_event_that_was_logged_twice_counts_once() -> None:
    event, shown = search("e1", T0 + 2 * HOUR_MS, "lamp"), page("x1", T0 + HOUR_MS, ["usb hub"], [])
    made = life([search("e0", T0, "red shoes"), event, event], [shown, changed(shown, clicked=(0,)), shown])
    assert [each.clicked for each in made.pages] == [(0,)]
    assert [each.normal for each in made.searches] == ["red shoes", "lamp"]
    assert (made.dropped["exposure duplicate"], made.dropped["event duplicate"]) == (2, 1)
