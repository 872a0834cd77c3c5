"""Target texts: what the parser reads back is what the labels said, and what cannot be is refused."""

import pytest

from inference.output import QueryList, QueryRules, parse_list
from inference.vocabulary import END
from training.il_sft_targets import Interest, list_target, think_target

TEN = [f"query number {word}" for word in "one two three four five six seven eight nine ten".split()]


def test_a_list_is_the_labels_in_their_order_and_reads_back_as_such():
    text = list_target(TEN)
    assert text.endswith(END)
    assert parse_list(text.removesuffix(END), QueryRules()) == QueryList(tuple(TEN))


def test_more_than_ten_labels_are_cut():
    assert list_target([*TEN, "one more"]) == list_target(TEN)


def test_a_short_list_has_no_end():
    assert list_target(TEN[:9]) == list_target(TEN).removesuffix(f";; {TEN[9]}{END}")


def test_think_has_all_reasons_first_then_triggers_and_queries():
    text = think_target(
        [
            Interest((2, 5), ("iPhone Case", "iphone charger"), "looked at; three <times>"),
            Interest((3,), ("hdmi cable",)),
            Interest((1,), ("tv wall mount",), "a tv was bought"),
        ]
    )
    assert text == (
        " looked at three times\n a tv was bought\n"
        "<2><5> -> iphone case;; iphone charger\n<3> -> hdmi cable\n<1> -> tv wall mount<end>"
    )


@pytest.mark.parametrize("triggers", [(), (0,), (21,), (2, 2), (3, 1)])
def test_triggers_that_no_prompt_numbers_are_refused(triggers: tuple[int, ...]):
    with pytest.raises(ValueError, match="triggers"):
        think_target([Interest(triggers, ("tv",))])


def test_an_interest_without_queries_is_refused():
    for queries in ((), ("tv", "<>")):
        with pytest.raises(ValueError, match="queries"):
            think_target([Interest((1,), queries)])
    with pytest.raises(ValueError, match="at least one"):
        think_target([])
