"""A redrive's outlook, and the places it speaks of, without servers."""

import pytest

from pipelines.redrive_aftermath import Standstill, _place
from schemas import DeadLetter
from transforms.dead_letters import REASONS
from transforms.letter_box import seen_letter
from transforms.letter_cases import LetterCase
from transforms.redriven_records import SKIPS, Look, Outlook


def look(expected: str = "", skip: str = "", reason: str = "bad_time") -> Look:
    letter = seen_letter(DeadLetter("decode", reason, "", "b", 0, 1, 1), (0, 0))
    return Look(LetterCase(letter.id, (letter,), None), expected, skip)


def outlook(*looks: Look) -> Outlook:
    found = Outlook()
    for each in looks:
        found.take(each)
    return found


def test_an_outlook_counts_by_reason_and_topic_and_keeps_what_is_left_apart() -> None:
    found = outlook(look("folded"), look("folded", reason="bad_json"), look("too_late"), look(skip="gone"))
    assert found.expected == {("bad_time", "b"): {"folded": 1, "too_late": 1}, ("bad_json", "b"): {"folded": 1}}
    assert (found.given, found.left) == ({"folded": 2, "too_late": 1}, {"gone": 1})


@pytest.mark.parametrize(
    ("dead", "good", "stops"), [(100, 0, False), (101, 0, True), (101, 101, False), (102, 101, True), (0, 0, False)]
)
def test_many_and_most_dead_again_could_stop_the_job(dead: int, good: int, stops: bool) -> None:
    assert outlook(*[look("dead bad_time")] * dead, *[look("folded")] * good).stops_the_job is stops


def test_a_place_is_a_record_s_or_none() -> None:
    assert _place("behaviour/2/77") == ("behaviour", 2, 77)
    assert _place("run/0123456789abcdef") == ("", -1, -1)


def test_a_standstill_speaks_of_too_many_dead_letters_only_where_they_come_next() -> None:
    assert "too many dead letters" in str(Standstill("b", 0, 5, 505, 500, 251))
    assert "too many dead letters" not in str(Standstill("b", 0, 5, 505, 500, 250))
    assert "500 records before the end" in str(Standstill("b", 0, 5, 505, 500, 0))


def test_nothing_is_both_a_reason_of_a_letter_and_of_leaving_it_but_quarantine() -> None:
    assert SKIPS.keys() & REASONS.keys() == {"quarantined"}
