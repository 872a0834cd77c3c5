"""What every engine promises: each request is answered exactly once, and counted."""

from inference.engine import Answer, EngineStats, Generated, GivenBack, Rejected
from inference.in_flight import InFlight, Tally
from inference.prompt import SEPARATOR
from inference.replica import text_of
from inference.scripted_engine import MODEL, ScriptedEngine, generated
from inference.vocabulary import END, token_id, train_tokenizer


def test_a_request_is_answered_once_and_counted_once():
    tally, heard = Tally(), []
    requests = InFlight(tally)
    number = requests.take("r", lambda id, answer: heard.append((id, answer)))
    requests.answer(number, Rejected("too long"))
    requests.answer(number, GivenBack("late"))
    requests.give_back("closed")
    assert heard == [("r", Rejected("too long"))]
    assert tally.stats == EngineStats(rejected=1)


def test_the_same_request_may_be_in_flight_twice():
    """Its lease ran out and it was claimed again."""
    tally, heard = Tally(), []
    requests = InFlight(tally)
    first, second = (requests.take("r", lambda id, answer: heard.append(answer)) for _ in range(2))
    requests.answer(second, GivenBack("second"))
    requests.answer(first, GivenBack("first"))
    assert heard == [GivenBack("second"), GivenBack("first")]


def test_what_is_left_is_given_back():
    tally, heard = Tally(), dict[str, Answer]()
    requests = InFlight(tally)
    for n in range(5):
        requests.take(f"r{n}", heard.__setitem__)
    requests.give_back("the engine died")
    assert heard == {f"r{n}": GivenBack("the engine died") for n in range(5)}
    assert len(requests) == 0


def test_tokens_are_counted_with_the_answer():
    tally = Tally()
    requests = InFlight(tally)
    number = requests.take("r", lambda id, answer: None)
    requests.answer(number, Generated("tv", "stop", 100, 7, MODEL, 0), prefix_hit_tokens=64)
    assert tally.stats == EngineStats(prompt_tokens=100, output_tokens=7, prefix_hit_tokens=64, generated=1)


def test_a_full_engine_is_busy_and_has_no_room():
    engine = ScriptedEngine(lambda id, prompt: None, in_flight=2)
    assert (engine.state(), engine.room()) == ("ready", 2)
    for n in range(2):
        engine.submit(f"r{n}", "p", lambda id, answer: None)
    assert (engine.state(), engine.room()) == ("busy", 0)
    engine.close()
    assert engine.state() == "ready"
    assert generated().finish == "stop"


def test_the_separators_of_an_answer_reach_the_parser_and_its_end_does_not():
    """Both are special tokens; an engine that drops the separator makes one long query of ten."""
    tokenizer = train_tokenizer(["tv radio"], 300)
    end = token_id(tokenizer, END)
    ids = [*tokenizer.encode(" tv;; radio").ids, end]
    assert token_id(tokenizer, SEPARATOR) in ids
    assert text_of(ids, [end], tokenizer) == " tv;; radio"
    assert text_of(ids[:-1], [end], tokenizer) == " tv;; radio", "cut off, without an end"
    assert text_of([], [end], tokenizer) == ""
