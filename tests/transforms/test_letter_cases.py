"""Letters become cases: what belongs together, what is open, and what a filter means."""

from collections.abc import Sequence

import pytest

from schemas import DeadLetter
from store.letters import LetterFate
from transforms.letter_box import LetterBox, SeenLetter, _near, seen_letter
from transforms.letter_cases import LetterCase, LetterFilter, cases_of, sums_of

NOW = 1_780_000_000_000


def letter(offset: int, reason: str = "bad_time", user: str = "", time_ms: int = NOW, topic: str = "b") -> SeenLetter:
    stage = "track" if user else "decode"
    return seen_letter(DeadLetter(stage, reason, "why", topic, 0, offset, time_ms, user, raw=b"raw"), (0, offset))


def fate(*places: str, status: str = "redriven") -> LetterFate:
    return LetterFate(status, NOW, len(places), places, "redrive-1")  # type: ignore[arg-type]


def cases(letters: Sequence[SeenLetter], fates: dict[str, LetterFate]) -> dict[str, LetterCase]:
    return {case.id: case for case in cases_of({each.id: each for each in letters}, {}, fates)}


def test_a_letter_that_nobody_touched_is_open() -> None:
    (case,) = cases([letter(1)], {}).values()
    assert (case.id, case.status, case.redrives) == ("b/0/1", "open", 0)


def test_a_redriven_letter_is_redriven_until_it_comes_back_from_where_it_went() -> None:
    went = {"b/0/1": fate("b/0/9")}
    assert cases([letter(1)], went)["b/0/1"].status == "redriven"
    back = cases([letter(1), letter(9, "no_text"), letter(8)], went)
    assert back.keys() == {"b/0/1", "b/0/8"}
    assert (back["b/0/1"].status, back["b/0/1"].newest.reason) == ("returned", "no_text")


def test_only_its_last_place_says_whether_a_letter_came_back() -> None:
    twice = {"b/0/1": fate("b/0/9", "b/0/20")}
    assert cases([letter(1), letter(9)], twice)["b/0/1"].status == "redriven"
    assert cases([letter(1), letter(9), letter(20)], twice)["b/0/1"].status == "returned"


def test_a_case_is_known_by_its_first_letter_where_retention_has_deleted_that() -> None:
    (case,) = cases([letter(9)], {"b/0/1": fate("b/0/9")}).values()
    assert (case.id, case.status) == ("b/0/1", "returned")


def test_a_discarded_letter_stays_so_when_it_is_written_again() -> None:
    assert cases([letter(1)], {"b/0/1": fate(status="discarded")})["b/0/1"].status == "discarded"


def test_a_letter_written_twice_is_one_and_the_newer_counts() -> None:
    from schemas.codec import encoder_for

    box, encode = LetterBox(), encoder_for(DeadLetter)
    for place, reason in enumerate(("bad_json", "mapper_raised")):
        box.take(0, place, encode(DeadLetter("decode", reason, "", "b", 0, 7, NOW + place)))
    box.take(0, 2, b"no letter")
    box.take(0, 3, None)
    assert (box.letters["b/0/7"].reason, box.times["b/0/7"], box.unreadable) == ("mapper_raised", 2, 2)
    (case,) = cases_of(box.letters, box.times, {})
    assert case.times == 2


@pytest.mark.parametrize(
    ("filter", "offsets"),
    [
        (LetterFilter(), {1, 2, 3}),
        (LetterFilter(reasons=("bad_time",)), {1, 3}),
        (LetterFilter(stages=("track",)), {2}),
        (LetterFilter(topics=("c",)), {3}),
        (LetterFilter(partitions=(1,)), set()),
        (LetterFilter(from_ms=NOW + 1), {3}),
        (LetterFilter(to_ms=NOW + 1), {1, 2}),
        (LetterFilter(users=("u1",)), {2}),
        (LetterFilter(ids=("b/0/2", "b/0/77")), {2}),
        (LetterFilter(reasons=("bad_time",), topics=("b",)), {1}),
    ],
)
def test_a_filter_holds_what_it_names(filter: LetterFilter, offsets: set[int]) -> None:
    letters = [letter(1), letter(2, "wrong_partition", "u1"), letter(3, time_ms=NOW + 1, topic="c")]
    assert {case.newest.offset for case in cases(letters, {}).values() if filter.holds(case)} == offsets


def test_a_filter_finds_a_case_by_any_of_its_letters() -> None:
    case = cases([letter(1), letter(9)], {"b/0/1": fate("b/0/9")})["b/0/1"]
    assert all(LetterFilter(ids=(id,)).holds(case) for id in ("b/0/1", "b/0/9"))


def test_a_filter_that_names_nothing_real_is_refused() -> None:
    wrong = LetterFilter(reasons=("bad_tmie",), stages=("decoding",), from_ms=2, to_ms=2).errors()
    assert len(wrong) == 3
    assert "bad_time" in wrong[0]


def test_sums_count_by_status_and_say_what_to_do() -> None:
    letters = [letter(1), letter(2), letter(3), letter(4, "wrong_partition", "u1", NOW + 5)]
    sums = sums_of(cases(letters, {"b/0/1": fate("b/0/9"), "b/0/2": fate(status="discarded")}).values())
    assert [(each.reason, dict(each.by_status)) for each in sums] == [
        ("bad_time", {"redriven": 1, "discarded": 1, "open": 1}),
        ("wrong_partition", {"open": 1}),
    ]
    assert "murmur2" in sums[1].remedy


def test_a_letter_knows_its_record_even_where_it_holds_the_beginning_only() -> None:
    whole = letter(1)
    cut = seen_letter(
        DeadLetter("decode", "too_large", "x; raw holds the first 3 of 9 bytes", "b", 0, 1, NOW, raw=b"raw"), (0, 1)
    )
    assert whole.is_of(b"raw")
    assert not whole.is_of(b"raw and more")
    assert cut.is_of(b"raw and more")
    assert not cut.is_of(b"row and more")


def test_places_that_lie_near_each_other_are_read_in_one_go() -> None:
    assert list(_near([1, 2, 2_000, 9_000, 9_001])) == [[1, 2, 2_000], [9_000, 9_001]]
    assert list(_near([])) == []
