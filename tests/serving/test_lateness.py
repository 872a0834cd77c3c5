"""How late lists came is said of the lists, and an imported log does not shout."""

from serving.lateness import lateness, lateness_words
from store.client import Ended

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


def ended(wait_s: float, outcome: str = "published", ago_s: float = 60) -> Ended:
    ended_ms = int(NOW_MS - ago_s * 1000)
    return Ended("run", "ann", outcome, int(ended_ms - wait_s * 1000), ended_ms)


def test_lateness_is_from_as_of_to_the_stored_list():
    waits = [0.5] * 90 + [4.0, 5.0, 6.0, 29.0, 30.0] + [31.0, 100.0, 600.0, 1_200.0, 2_400.0]
    found = lateness([ended(wait) for wait in reversed(waits)], NOW_MS - HOUR_MS)
    assert (found.lists, found.in_time, found.late) == (100, 92, 5)
    assert (found.p50_s, found.p95_s, found.latest_s) == (0.5, 30.0, 2_400.0)
    said = lateness_words(found)
    assert "100 lists; 92% within 5 s" in said
    assert "the latest by 40 min; 5 later than 30 s" in said


def test_only_lists_are_late_and_what_ended_otherwise_is_counted():
    found = lateness([ended(1), ended(900, "conflated"), ended(5_000, "expired")], NOW_MS - HOUR_MS)
    assert (found.lists, found.latest_s) == (1, 1.0)
    assert found.outcomes == {"published": 1, "conflated": 1, "expired": 1}
    assert lateness_words(found).endswith("without a list: conflated 1  expired 1")


def test_what_ended_before_the_window_does_not_count():
    found = lateness([ended(1, ago_s=3_700), ended(2, ago_s=3_600)], NOW_MS - HOUR_MS)
    assert (found.lists, found.latest_s) == (1, 2.0)


def test_an_as_of_by_another_clock_is_counted_and_is_not_late():
    found = lateness([ended(13 * 365 * 86_400), ended(2)], NOW_MS - HOUR_MS)
    assert (found.lists, found.late, found.latest_s, found.other_clock) == (1, 0, 2.0, 1)
    assert "1 more of an imported log" in lateness_words(found)


def test_a_list_before_its_as_of_is_in_time():
    """An importer's clock may be ahead of the store's."""
    assert lateness([ended(-3)], NOW_MS - HOUR_MS).latest_s == 0.0


def test_without_lists_nothing_is_invented():
    found = lateness([], NOW_MS - HOUR_MS)
    assert (found.lists, found.p50_s, found.latest_s) == (0, None, None)
    assert lateness_words(found) == "0 lists"


def test_a_list_that_an_operator_asked_for_is_not_late():
    backfilled = ended(3_600)._replace(low=True)
    found = lateness([backfilled, ended(2)], NOW_MS - HOUR_MS)
    assert (found.lists, found.late, found.latest_s, found.other_clock) == (1, 0, 2.0, 1)
