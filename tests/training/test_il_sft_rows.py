"""Rows: the target's tokens are learned, and of a prompt the searches (or all behaviours) that it shows, compressed or plain."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from inference.prompt import build_prompt
from inference.vocabulary import END, train_tokenizer
from schemas import Behaviour
from tests.training.small_samples import QUERIES, write_samples
from training.bucket import ANSWER, HISTORY, Row
from training.il_sft_rows import Text, rows_of, sample_texts
from training.il_sft_targets import list_target
from training.sample_files import read_direct

BEHAVIOURS = [
    Behaviour(0, 1, "search", "HP laptop"),
    Behaviour(60_000, 2, "click", 'hp laptop 15.6"'),
    Behaviour(90_000, 3, "search", "dell"),
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([f" {query}" for query in QUERIES], 400)


def told(row: Row, kind: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(row.tokens[row.learned == kind].tolist(), skip_special_tokens=False)


@pytest.mark.parametrize(
    ("plain", "searches", "expected"),
    [(False, True, " hp laptop;; dell}"), (False, False, ""), (True, True, "hp laptop\ndell\n")],
)
def test_what_is_learned_of_a_prompt(plain: bool, searches: bool, expected: str, tokenizer: Tokenizer):
    prompt = build_prompt({"age": "44"}, BEHAVIOURS, 100_000, plain=plain)
    (row,) = rows_of([Text(prompt, f" dell dock{END}")], tokenizer, 1_024, searches, plain)
    assert told(row, HISTORY, tokenizer) == expected
    assert told(row, ANSWER, tokenizer) == f" dell dock{END}"
    assert row.prompt == len(row.tokens) - np.count_nonzero(row.learned == ANSWER)
    assert tokenizer.decode(row.tokens[: row.prompt].tolist(), skip_special_tokens=False) == prompt


def test_both_orders_hold_the_same_labels(tmp_path: Path):
    samples = read_direct(write_samples(tmp_path, 20), "train")
    for each, text, other in zip(
        samples, sample_texts(samples, "interest", False), sample_texts(samples, "plain", False), strict=True
    ):
        assert text == Text(each.prompt, list_target(each.labels))
        assert other == Text(each.prompt, list_target(each.labels_plain))
        assert sorted(each.labels) == sorted(each.labels_plain)


def test_plain_prompts_hold_no_special_token(tmp_path: Path):
    samples = read_direct(write_samples(tmp_path, 5), "train")
    for text in sample_texts(samples, "interest", plain=True):
        assert "<" not in text.prompt
        assert text.prompt.endswith("Queries:")


def test_what_is_longer_than_the_model_reads_is_left_out(tokenizer: Tokenizer):
    rows = rows_of([Text("dell " * 50, " hp"), Text("dell", " hp")], tokenizer, 20)
    assert [row.prompt for row in rows] == [len(tokenizer.encode("dell").ids)]
