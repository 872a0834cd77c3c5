from collections import Counter
from random import Random

import pytest

from simulation.click_law import EXAMINATION, Clicker

HINTS = ("a", "b", "c")


def rate(pages: int, appeals: tuple[float, ...], seed: int = 1) -> list[float]:
    clicked = Counter(Clicker(Random(f"{seed} {n}")).decide(HINTS, appeals).clicked for n in range(pages))
    return [clicked[place] / pages for place in range(3)]


def test_at_the_same_appeal_a_higher_place_is_clicked_more():
    first, second, third = rate(20_000, (0.5, 0.5, 0.5))
    assert first > second > third > 0.02


def test_the_true_probability_is_how_often_a_hint_is_clicked():
    told = [0.0] * 3
    for n in range(20_000):
        for place, probability in enumerate(Clicker(Random(f"1 {n}")).decide(HINTS, (0.3, 0.9, 0.6)).probabilities):
            told[place] += probability / 20_000
    assert rate(20_000, (0.3, 0.9, 0.6), seed=2) == pytest.approx(told, abs=0.012)


def test_what_nobody_wants_is_never_clicked():
    assert rate(1_000, (0.0, 0.0, 0.0)) == [0, 0, 0]


def test_the_page_moves_the_probability_by_something_that_no_log_tells():
    told = {round(Clicker(Random(f"{n}")).decide(HINTS, (0.5, 0, 0)).probabilities[0], 6) for n in range(100)}
    assert len(told) == 3
    assert max(told) == pytest.approx(EXAMINATION[0] * 0.5)


def test_a_hint_that_is_shown_again_and_again_is_clicked_less():
    first = later = 0.0
    for n in range(3_000):
        clicker = Clicker(Random(f"{n}"))
        pages = [clicker.decide(HINTS, (0.01, 0.0, 0.0)).probabilities[0] for _ in range(4)]
        first, later = first + pages[0], later + pages[-1]
    assert later / first == pytest.approx(0.75**3, abs=0.06)


def test_a_click_ends_the_fatigue():
    clicker = Clicker(Random("5"))
    for _ in range(200):
        if clicker.decide(("a",), (1.0,)).clicked == 0:
            break
    attended = [Clicker(Random("x"))]
    attended[0]._remembered = clicker._remembered
    assert attended[0].decide(("a",), (0.5,)).probabilities == Clicker(Random("x")).decide(("a",), (0.5,)).probabilities
