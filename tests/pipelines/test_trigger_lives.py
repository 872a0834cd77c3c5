"""What a trigger policy costs and hits is counted as a person would count it on paper."""

from collections.abc import Sequence
from dataclasses import replace

from interest import Arrival, TriggerPolicy
from pipelines.trigger_lives import READY_MS, WARM_MS, Life, Look, Request, Trigger, hits, life_of, make_lists, triggers
from schemas import BehaviourEvent
from training.log import Case

SECOND, DAY = 1_000, 86_400_000
NOON = 20_000 * DAY + DAY // 2
EVERY = Trigger("every event", None)
DEFAULT = Trigger("default", TriggerPolicy())
WORDS = "tripod laptop camera sofa lamp phone drone router printer shaver blender".split()


def rows(*searches: tuple[int, str]) -> list[tuple[Arrival, BehaviourEvent]]:
    return [
        (Arrival(0, offset, at), BehaviourEvent(f"e{offset}", "u", "search", at, query=query))
        for offset, (at, query) in enumerate(searches)
    ]


def test_without_exposures_each_search_but_the_first_is_a_look():
    life = life_of("u", rows((NOON, "usb hub"), (NOON + SECOND, "USB-C hub")), [EVERY], None, [])
    assert life.looks == [Look(NOON + SECOND, "usb c hub")]
    assert (life.events, len(life.days), len(life.requests["every event"])) == (2, 1, 2)


def test_a_look_at_a_home_page_is_judged_by_the_first_search_of_that_day_that_no_hint_began():
    searches = rows((NOON, "usb hub"), (NOON + 70 * SECOND, "hint"), (NOON + 99 * SECOND, "tv"), (NOON + DAY, "sofa"))
    shown = [NOON - SECOND, NOON + 60 * SECOND, NOON + 100 * SECOND]
    life = life_of("u", searches, [EVERY], shown, [(NOON + 60 * SECOND, "hint")])
    assert life.looks == [Look(NOON - SECOND, "usb hub"), Look(NOON + 60 * SECOND, "tv")]


def test_a_default_policy_asks_once_for_a_burst_and_every_event_asks_each_time():
    burst = rows(*((NOON + n * SECOND, f"usb hub {n}") for n in range(3)))
    life = life_of("u", burst, [EVERY, DEFAULT], None, [])
    assert len(life.requests["every event"]) == 3
    assert [request.as_of_ms for request in life.requests["default"]] == [NOON + 5 * SECOND]


def test_a_session_gets_one_list_half_an_hour_after_it():
    (_, session) = triggers(TriggerPolicy(), [], [])
    twice = rows((NOON, "usb hub"), (NOON + 60 * SECOND, "usb c hub"), (NOON + 4_000 * SECOND, "tv"))
    (first, second) = life_of("u", twice, [session], None, []).requests["every session"]
    assert first.as_of_ms == NOON + 60 * SECOND + 1_800 * SECOND
    assert second.as_of_ms == NOON + 4_000 * SECOND + 1_800 * SECOND


def test_searches_by_themselves_are_looks_of_their_own_kind():
    searches = rows((NOON, "usb hub"), (NOON + 70 * SECOND, "hint"), (NOON + 99 * SECOND, "tv"))
    life = life_of("u", searches, [EVERY], [NOON - SECOND], [(NOON + 60 * SECOND, "hint")])
    assert life.searches == [Look(NOON + 99 * SECOND, "tv")]


def test_what_was_made_before_the_count_is_read_and_costs_nothing():
    twice = rows((NOON, "usb hub"), (NOON + DAY, "tv"))
    life = life_of("u", twice, [EVERY], None, [], from_ms=NOON + DAY)
    assert (life.lists_made("every event"), life.events, life.looks) == (1, 1, [Look(NOON + DAY, "tv")])
    lists = make_lists([life], lambda cases: [("tv",) for _ in cases])
    assert hits(life, "every event", lists) == 1


def test_a_policy_takes_over_from_the_default_a_week_before_the_count():
    never = Trigger("never", replace(TriggerPolicy(), evidence=1e300))
    from_ms = NOON + WARM_MS
    each_day = rows(*((NOON + day * DAY - 6 * SECOND, word) for day, word in enumerate(WORDS, -2)))
    life = life_of("u", each_day, [EVERY, DEFAULT, never], None, [], from_ms)
    assert [request.events for request in life.requests["never"]] == [1, 2, 3]
    assert life.requests["default"][:3] == life.requests["never"]
    assert len(life.requests["default"]) == 11
    assert (life.lists_made("every event"), life.lists_made("default"), life.lists_made("never")) == (1, 1, 0)


def lister(lists: dict[int, tuple[str, ...]], asked: list[int]):
    """By the number of events that a list is made from."""

    def made(cases: Sequence[Case]) -> list[tuple[str, ...]]:
        asked.extend(len(case.seen) for case in cases)
        return [lists[len(case.seen)] for case in cases]

    return made


def one_look(*requests: Request) -> Life:
    life = life_of("u", rows(*((NOON - DAY + n * SECOND, f"q{n}") for n in range(4))), [], None, [])
    life.looks = [Look(NOON, "tv")]
    life.requests["p"] = list(requests)
    return life


def test_only_lists_that_a_look_would_read_are_made_and_a_bad_one_leaves_the_last_good_one():
    life = one_look(
        Request(NOON - 9 * SECOND, 1),
        Request(NOON - 8 * SECOND, 2),
        Request(NOON - 7 * SECOND, 3),
        Request(NOON - READY_MS + 1, 4),
    )
    asked: list[int] = []
    lists = make_lists([life], lister({3: (), 2: ("tv",)}, asked))
    assert asked == [3, 2]
    assert hits(life, "p", lists) == 1


def test_a_list_is_made_from_what_was_folded_by_then():
    life = one_look(Request(NOON - 9 * SECOND, 3))
    case = life.case(life.requests["p"][0])
    assert (case.user, case.as_of_ms) == ("u", NOON - 9 * SECOND)
    assert [behaviour.text for behaviour in case.seen] == ["q0", "q1", "q2"]


def test_a_list_that_lies_ready_at_the_very_moment_of_the_look_is_read():
    life = one_look(Request(NOON - READY_MS, 1))
    assert hits(life, "p", make_lists([life], lister({1: ("tv",)}, []))) == 1
    assert hits(life, "p", make_lists([life], lister({1: ("sofa",)}, []))) == 0
