"""From text to list."""

import unicodedata
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.output import (
    Malformed,
    QueryList,
    QueryRules,
    block_list,
    clean,
    near_duplicates,
    normalise,
    parse_list,
    read_block_list,
)

TEN = "iphone 17;;iphone case;;usb charger;;airpods;;ipad;;macbook air;;hdmi cable;;tv stand;;soundbar;;game controller"
RULES = QueryRules()
ANY_NUMBER = QueryRules(fewest=1)


def queries(text: str, rules: QueryRules = ANY_NUMBER, finish="stop") -> tuple[str, ...]:
    parsed = parse_list(text, rules, finish)
    assert isinstance(parsed, QueryList), parsed
    return parsed.queries


def test_a_list_keeps_the_models_order():
    assert queries(TEN) == tuple(TEN.split(";;"))


def test_lines_separate_queries_as_well():
    assert queries("usb cable\nusb hub\r\nmouse") == ("usb cable", "usb hub", "mouse")


def test_no_more_than_wanted_are_taken():
    assert len(queries(TEN + ";;one more;;and another")) == 10


def test_a_dropped_query_makes_room_for_the_next():
    parsed = parse_list("usb cable;;USB-Cable!;;cable usb;;mouse;;<3>;;hub", QueryRules(want=3, fewest=1))
    assert parsed == QueryList(("usb cable", "mouse", "hub"), ("duplicate", "duplicate", "markup"))


@pytest.mark.parametrize("blank", ["", " ", ";;;;", "\n\n", "\x00;;\u200b"])
def test_nothing_is_malformed(blank: str):
    assert parse_list(blank, RULES) == Malformed("empty", "no query in the output")


def test_too_few_good_queries_are_malformed():
    parsed = parse_list("usb cable;;usb cable;;usb cable", RULES)
    assert isinstance(parsed, Malformed)
    assert parsed.reason == "too_few"
    assert "duplicate, duplicate" in parsed.detail


def test_a_text_that_was_cut_off_is_malformed():
    parsed = parse_list("usb cable;;mouse;;keyboard;;monitor;;webcam;;lap", RULES, "length")
    assert parsed == Malformed("truncated", "cut off after 5 of 10 queries")


def test_a_text_cut_off_after_a_whole_list_is_a_list():
    assert queries(TEN + ";;one mo", RULES, "length") == tuple(TEN.split(";;"))


def test_half_a_query_is_never_shown():
    parsed = parse_list(TEN, RULES, "length")
    assert isinstance(parsed, Malformed), "the tenth may be half a query"


def test_special_tokens_and_control_characters_never_survive():
    shown = queries("<search> usb cable;;mouse<|endoftext|>;;usb\x07 \u202ehub;;key\x00board\ufffd;;web cam")
    assert shown == ("usb hub", "web cam")


@pytest.mark.parametrize(
    "query", ["x", "y" * 81, "one two three four five six seven eight nine ten eleven twelve 13", "?!"]
)
def test_a_query_has_the_length_of_a_query(query: str):
    assert queries(f"{query};;usb cable") == ("usb cable",)


def test_a_query_is_in_the_shops_script():
    text = 'usb кабель;;usb cable;;café crème;;cafe\u0301 table;;手机;;4k tv 55"'
    assert queries(text) == ("usb cable", "café crème", "café table", '4k tv 55"')
    assert "usb кабель" in queries(text, QueryRules(fewest=1, scripts=frozenset({"LATIN", "CYRILLIC"})))
    assert "手机" in queries(text, QueryRules(fewest=1, scripts=frozenset()))


def test_block_list_stops_whole_words_and_phrases(tmp_path):
    file = tmp_path / "blocked.txt"
    file.write_text("# not for the home page\nbombs\n\nAir-Rifle  # weapons\n")
    rules = QueryRules(fewest=1, blocked=read_block_list(file))
    assert rules.blocked == {"bombs", "air rifle"}
    shown = queries("Bombs;;bath bombs;;bombshell lamp;;best AIR rifle;;air fryer", rules)
    assert shown == ("bombshell lamp", "air fryer")


def test_wrong_rules_are_named_all_at_once():
    assert len(QueryRules(fewest=11, shortest=9, longest=3, most_words=0).errors()) == 3
    assert QueryRules().errors() == []


PIECES = st.sampled_from(
    ["usb cable", "Cable USB", "<1>", "<today>", "\x00", "\ufffd", "手机", "\u202e", "bath bombs", "tv", " "]
)
OUTPUTS = st.one_of(
    st.text(),
    st.lists(st.one_of(PIECES, st.text(max_size=90)), max_size=40).map(";;".join),
    st.lists(st.one_of(PIECES, st.text(alphabet="abc <>;\n\t\u0301", max_size=20)), max_size=60).map("\n".join),
)


@given(
    OUTPUTS,
    st.builds(
        QueryRules,
        want=st.integers(1, 12),
        fewest=st.just(1),
        scripts=st.sampled_from([frozenset(), frozenset({"LATIN"})]),
        blocked=st.sampled_from([frozenset(), block_list(["bombs", "usb cable"])]),
    ),
    st.sampled_from(["stop", "length"]),
)
def test_whatever_the_model_writes_a_list_keeps_every_rule(text: str, rules: QueryRules, finish):
    parsed = parse_list(text, rules, finish)
    if isinstance(parsed, Malformed):
        assert parsed.reason in ("empty", "truncated", "too_few")
        return
    assert rules.fewest <= len(parsed.queries) <= rules.want
    assert not (finish == "length" and len(parsed.queries) < rules.want)
    for query in parsed.queries:
        assert query == clean(query)
        assert rules.shortest <= len(query) <= rules.longest
        assert not set("<>\ufffd;\n") & set(query) - {";"}
        assert ";;" not in query
        assert not any(unicodedata.category(c).startswith("C") for c in query)
        assert not any(f" {phrase} " in f" {normalise(query)} " for phrase in rules.blocked)
    words = [frozenset(normalise(query).split()) for query in parsed.queries]
    assert not any(near_duplicates(a, b) for a, b in combinations(words, 2))


@given(st.text())
def test_normal_form_and_cleaning_are_stable(text: str):
    assert clean(clean(text)) == clean(text)
    assert normalise(clean(text)) == normalise(clean(clean(text)))
