"""What a trigger policy costs and hits is counted as a person would count it on paper."""

from collections.abc import Sequence

from interest import Arrival, TriggerPolicy
from pipelines.trigger_lives import READY_MS, Life, Look, Request, Trigger, hits, life_of, make_lists, triggers
from schemas import BehaviourEvent

SECOND, DAY = 1_000, 86_400_000
NOON = 20_000 * DAY + DAY // 2
EVERY = Trigger("every event", None)
DEFAULT = Trigger("default", TriggerPolicy())


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


def lister(lists: dict[str, tuple[str, ...]], asked: list[str]):
    def made(prompts: Sequence[str]) -> dict[str, tuple[str, ...]]:
        asked.extend(prompts)
        return {prompt: lists[prompt] for prompt in prompts if prompt in lists}

    return made


def test_only_lists_that_a_look_would_read_are_made_and_a_bad_one_leaves_the_last_good_one():
    life = Life(looks=[Look(NOON, "tv")])
    life.requests["p"] = [
        Request(NOON - 9 * SECOND, "first"),
        Request(NOON - 8 * SECOND, "good"),
        Request(NOON - 7 * SECOND, "bad"),
        Request(NOON - READY_MS + 1, "not ready yet"),
    ]
    asked: list[str] = []
    lists = make_lists([life], lister({"good": ("tv",), "first": ("sofa",)}, asked))
    assert asked == ["bad", "good"]
    assert hits(life, "p", lists) == 1


def test_a_list_that_lies_ready_at_the_very_moment_of_the_look_is_read():
    life = Life(looks=[Look(NOON, "tv")])
    life.requests["p"] = [Request(NOON - READY_MS, "good")]
    assert hits(life, "p", {"good": ("tv",)}) == 1
    assert hits(life, "p", {"good": ("sofa",)}) == 0
