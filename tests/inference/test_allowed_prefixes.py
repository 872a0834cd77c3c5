"""Whatever the model likes best, a list under an allow-list holds allowed queries only, each once, and comes to its end."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from inference.allow_list import AllowedQuery, AllowList
from inference.allowed_logits import restrict
from inference.allowed_prefixes import Prefixes, Standing, places
from inference.output import QueryList, QueryRules, near_duplicates, normalise, parse_list
from inference.prompt import answer
from inference.vocabulary import END, train_tokenizer

WORDS = "dell hp laptop case tv stand usb-c cable usb tv-stand laptops".split()
TOKENIZER: Tokenizer = train_tokenizer([" ".join(WORDS), " dell laptop case", " tv stand"], size=400)
SEPARATOR, STOP = TOKENIZER.token_to_id(";;"), TOKENIZER.token_to_id(END)
ALLOWED = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), min_size=1, max_size=25)


def prefixes_of(queries: list[str]) -> Prefixes:
    rows = {normalise(query): AllowedQuery(normalise(query), query, 5) for query in queries}
    return Prefixes.of(AllowList.of(rows.values()), TOKENIZER)


def write(prefixes: Prefixes, logits: torch.Tensor, most: int = 2_000) -> list[int]:
    """Greedy tokens of one answer under the allow-list; logits: steps x vocabulary, used again and again."""
    written: list[int] = []
    standing = Standing(prefixes, written)
    while len(written) < most and (not written or written[-1] != STOP):
        row = logits[len(written) % len(logits)].clone()[None]
        restrict(row, {0: standing})
        assert row.isfinite().any(), f"no way on after {TOKENIZER.decode(written, skip_special_tokens=False)!r}"
        written.append(int(row.argmax()))
    return written


def queries_of(written: list[int]) -> list[str]:
    assert written[-1] == STOP
    return [piece.strip() for piece in TOKENIZER.decode(written[:-1], skip_special_tokens=False).split(";;")]


@given(ALLOWED, st.integers(0, 2**32))
def test_nothing_outside_the_list_is_written_whatever_the_logits_are(wanted: list[list[str]], seed: int):
    allowed = [" ".join(words) for words in wanted]
    logits = torch.randn(17, TOKENIZER.get_vocab_size(), generator=torch.Generator().manual_seed(seed))
    found = queries_of(write(prefixes_of(allowed), logits))
    assert set(map(normalise, found)) <= set(map(normalise, allowed))
    words = [frozenset(normalise(query).split()) for query in found]
    assert len(set(words)) == len(words), "no query twice, nor its words in another order"
    assert len(found) >= min(5, len({frozenset(normalise(query).split()) for query in allowed}))


@given(ALLOWED, st.randoms(use_true_random=False))
def test_every_list_of_allowed_queries_can_be_written_in_the_tokens_that_were_learned(
    wanted: list[list[str]], rng: random.Random
):
    allowed = [" ".join(words) for words in wanted]
    of_words = {frozenset(normalise(query).split()): query for query in allowed}
    asked = rng.sample(sorted(of_words.values()), len(of_words))
    learned = [*TOKENIZER.encode(answer(asked)).ids, STOP]
    standing = Standing(prefixes_of(allowed), written := [])
    for token in learned:
        assert token in places({0: standing}).tokens
        written.append(token)


def test_a_model_that_wants_one_query_only_gets_all_of_them_and_then_the_end():
    allowed = ["tv", "tv stand", "tv stand case", "hp laptop", "laptop hp"]
    wish = torch.zeros(1, TOKENIZER.get_vocab_size())
    for weight, word in ((9, " tv"), (8, ";;"), (7, END)):
        wish[0, TOKENIZER.encode(word).ids[0]] = weight
    found = queries_of(write(prefixes_of(allowed), wish))
    assert found[:3] == ["tv", "tv stand", "tv stand case"]
    assert set(found[3:]) < {"hp laptop", "laptop hp"}, "one of the two: they are the same words"
    assert len(found) == 4


def test_the_end_is_to_be_had_after_the_fewest_queries_only():
    allowed = "dell hp laptop case tv stand cable".split()
    wish = torch.zeros(1, TOKENIZER.get_vocab_size())
    wish[0, STOP] = 9
    assert len(queries_of(write(prefixes_of(allowed), wish))) == QueryRules.fewest


def test_what_passes_is_a_list_for_the_parser():
    allowed = ["dell laptop", "laptop dell", "usb-c cable", "tv-stand", "hp case", "tv case", "dell case", "hp stand"]
    rules = QueryRules(supported=frozenset(map(normalise, allowed)))
    for seed in range(20):
        logits = torch.randn(17, TOKENIZER.get_vocab_size(), generator=torch.Generator().manual_seed(seed))
        parsed = parse_list(";;".join(queries_of(write(prefixes_of(allowed), logits))), rules)
        assert isinstance(parsed, QueryList)
        assert parsed.dropped == ()
        assert not any(
            near_duplicates(frozenset(a.split()), frozenset(b.split())) for a in parsed.queries for b in parsed.queries if a != b
        )  # fmt: skip


def test_rows_of_a_batch_stand_alone_and_other_rows_are_left_as_they_are():
    prefixes = prefixes_of(["dell laptop", "hp laptop", "tv"])
    dell = TOKENIZER.encode(" dell").ids
    standings = {0: Standing(prefixes, []), 2: Standing(prefixes, dell)}
    logits = torch.zeros(3, TOKENIZER.get_vocab_size())
    restrict(logits, standings)
    assert logits[1].isfinite().all()
    assert logits[0].isfinite().nonzero().flatten().tolist() == sorted(
        {TOKENIZER.encode(f" {word}").ids[0] for word in ("dell", "hp", "tv")}
    )
    assert logits[2].isfinite().nonzero().flatten().tolist() == TOKENIZER.encode(" laptop").ids[:1]


def test_an_answer_that_began_elsewhere_may_only_end_its_query():
    standing = Standing(prefixes_of(["dell laptop", "tv"]), TOKENIZER.encode(" zz").ids)
    assert set(places({0: standing}).tokens) == {SEPARATOR, STOP}


def test_a_list_that_allows_nothing_is_refused():
    with pytest.raises(ValueError, match="fewer --shoppers"):
        prefixes_of([])
