"""What the model reads: the facts, compressed, and nothing that a shopper smuggles in."""

from hypothesis import given
from hypothesis import strategies as st

from inference.output import QueryList, QueryRules, parse_list
from inference.prompt import COMPRESSED_TOKENS, MOST_BEHAVIOURS, MOST_CHARACTERS, answer, build_prompt, content
from inference.vocabulary import SPECIAL_TOKENS, train_tokenizer
from schemas import Behaviour

MINUTE, DAY = 60_000, 86_400_000
AS_OF = 100 * DAY
HISTORY = (
    Behaviour(AS_OF - DAY - MINUTE, 1, "search", "Dell  Laptop"),
    Behaviour(AS_OF - MINUTE, 2, "click", 'Dell - Inspiron 15.6" Laptop'),
)
TOKENIZER = train_tokenizer(["Please recommend the next 10 queries. Profile: Behaviours: dell laptop"], size=400)


def test_a_prompt_shows_profile_and_behaviours_oldest_first_with_one_token_a_field():
    assert build_prompt({"gender": "F", "age": "44"}, HISTORY, AS_OF) == (
        "Please recommend the next 10 queries. Profile: {age: 44, gender: f}. Behaviours: "
        '{<1><1_day_ago><search> dell laptop;;<2><now><click> dell inspiron 15.6" laptop}<list>'
    )


def test_the_plain_variant_tells_the_same_facts_without_special_tokens_and_is_longer():
    plain = build_prompt({"age": "44"}, HISTORY, AS_OF, plain=True)
    assert "1|1 day ago|search|dell laptop\n2|just now|click|dell" in plain
    assert not any(token in plain for token in COMPRESSED_TOKENS)
    assert len(TOKENIZER.encode(plain).ids) > len(TOKENIZER.encode(build_prompt({"age": "44"}, HISTORY, AS_OF)).ids)


def test_a_shopper_without_history_or_profile_has_a_prompt():
    assert build_prompt({}, (), AS_OF).endswith("Profile: {}. Behaviours: {}<list>")


def test_only_the_newest_behaviours_are_shown():
    many = [Behaviour(AS_OF - DAY + i, i, "search", f"query {i}") for i in range(60)]
    prompt = build_prompt({}, many, AS_OF)
    assert prompt.count("<search>") == MOST_BEHAVIOURS
    assert f"<{MOST_BEHAVIOURS}><hours_ago><search> query 59}}" in prompt
    assert "query 39;" not in prompt


def test_two_prompts_of_a_shopper_begin_alike_until_the_window_is_full():
    before = build_prompt({"age": "44"}, HISTORY[:1], AS_OF)
    assert build_prompt({"age": "44"}, HISTORY, AS_OF).startswith(before.removesuffix("}<list>"))


def test_a_clock_ahead_of_the_as_of_time_reads_as_just_now():
    assert "<1><now><search> a" in build_prompt({}, [Behaviour(AS_OF + DAY, 1, "search", "a")], AS_OF)


def test_time_zero_reads_as_months_ago():
    assert "<1><months_ago><search> a" in build_prompt({}, [Behaviour(0, 1, "search", "a")], 4_000_000_000_000)


def test_a_long_text_is_cut_at_a_word():
    assert content("wireless " * 20) == "wireless wireless wireless wireless wireless"
    assert content("x" * 10_000_000) == "x" * MOST_CHARACTERS


PIECES = ["<", ">", ";", "{", "}", "|", "＜", "；", "\u037e", "1", "<search>", "<end>", " ", "\ud800", "\u202e", "é"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_no_text_of_a_shopper_becomes_a_special_token(text: str):
    behaviours = [Behaviour(AS_OF, 1, "search", f"tv {text}"), Behaviour(AS_OF, 2, "click", f"{text} tv")]
    prompt = build_prompt({text or "a": text, "age": f"4{text}4"}, behaviours, AS_OF)
    special = {TOKENIZER.token_to_id(token) for token in SPECIAL_TOKENS}
    found = [TOKENIZER.id_to_token(id) for id in TOKENIZER.encode(prompt).ids if id in special]
    assert found == ["<1>", "<now>", "<search>", ";;", "<2>", "<now>", "<click>", "<list>"]
    assert prompt.count("{") == prompt.count("}") == 2


@given(st.text(), st.text(), st.text())
def test_a_prompt_can_always_be_made_and_tokenised(query: str, name: str, value: str):
    prompt = build_prompt({name: value}, [Behaviour(AS_OF, 1, "search", query)], AS_OF)
    assert TOKENIZER.decode(TOKENIZER.encode(prompt).ids, skip_special_tokens=False) == prompt


def test_an_answer_comes_back_from_the_parser_in_order():
    queries = tuple(f"{word} tv" for word in "lg sony samsung sharp tcl vizio philips toshiba sanyo rca".split())
    decoded = TOKENIZER.decode(TOKENIZER.encode(answer(queries)).ids, skip_special_tokens=False)
    assert parse_list(decoded, QueryRules()) == QueryList(queries)
