"""The untrained language model: how its answers are read, kept and limited; and once, that it answers at all."""

from pathlib import Path

import msgspec
import pytest

from inference.prompt import build_prompt
from schemas import Behaviour
from training.log import Case
from training.rankers.zero_shot import Written, ZeroShot, queries_in

CASE = Case("u", 10_000, {"age": "40"}, (Behaviour(1_000, 1, "search", "hp laptop"),), "laptop", ("laptop",))


def kept(ranker: ZeroShot, case: Case, text: str, ended: bool = True) -> None:
    """As an earlier run would have left it."""
    prompt = build_prompt(case.profile, case.seen, case.as_of_ms, plain=True)
    with ranker.path.open("ab") as file:
        file.write(msgspec.json.encode(Written(ranker._key(prompt), text, ended)) + b"\n")


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("hp laptop; Laptop bag; mouse", ("hp laptop", "laptop bag", "mouse")),
        ("1. HP laptop\n2. laptop bag\n", ("hp laptop", "laptop bag")),
        ("1. 1 week ago|search|sony speakers\n2. 2 days ago|click|ps4 game", ("sony speakers", "ps4 game")),
        ("- 'hp laptop'\n- mouse", ("hp laptop", "mouse")),
        ("hp laptop, mouse, keyboard", ("hp laptop", "mouse", "keyboard")),
        ("hp laptop; HP LAPTOP; mouse", ("hp laptop", "mouse")),
        ("", ()),
    ],
)
def test_answers_are_read_kindly(text: str, queries: tuple[str, ...]):
    assert queries_in(text, ended=True) == queries


def test_the_last_query_of_an_answer_that_was_cut_off_does_not_count():
    assert queries_in("hp laptop; mouse; keyb", ended=False) == ("hp laptop", "mouse")


def test_what_was_answered_once_is_not_asked_again(tmp_path: Path):
    ranker = ZeroShot(tmp_path)
    kept(ranker, CASE, "laptop; hp mouse; bag")
    assert ranker.rank([CASE, CASE], 2) == [("laptop", "hp mouse")] * 2
    assert ranker._loaded is None


def test_a_line_that_was_cut_off_is_left_out_and_the_others_stay(tmp_path: Path):
    ranker = ZeroShot(tmp_path)
    kept(ranker, CASE, "laptop; hp mouse; bag")
    with ranker.path.open("ab") as file:
        file.write(b'{"key":"1234","te')
    assert ranker.rank([CASE], 1) == [("laptop",)]


def test_more_cases_than_one_could_wait_for_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="most_cases"):
        ZeroShot(tmp_path, most_cases=1).rank([CASE, CASE], 10)


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_the_model_answers_and_its_answer_is_kept(tmp_path: Path):
    """Loading takes 20 s on a free core."""
    ranker = ZeroShot(tmp_path, most_tokens=12, threads=1)
    first = ranker.rank([CASE], 10)
    written = [msgspec.json.decode(line, type=Written) for line in ranker.path.read_bytes().splitlines() if line]
    assert [line.text.strip() != "" for line in written] == [True]
    again = ZeroShot(tmp_path, most_tokens=12)
    assert again.rank([CASE], 10) == first
    assert again._loaded is None
