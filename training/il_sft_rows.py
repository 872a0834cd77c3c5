"""Samples become rows of tokens: prompt and target text, and which of the tokens are learned."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from inference.prompt import SEPARATOR, build_prompt
from training.bucket import ANSWER, HISTORY, NOT_LEARNED, Row
from training.il_sft_targets import list_target
from training.sample_files import Sample

Order = Literal["interest", "plain"]
"""Of the labels: `labels` (re-ranked by interest) or `labels_plain` (the same set, as gathered)."""
ENCODED_AT_ONCE = 2_048
_SEARCHES = re.compile(rf"<search>([^;}}]*(?:{SEPARATOR}|\}}))")
_PLAIN_SEARCHES = re.compile(r"\|search\|([^\n]*\n)")


class Text(NamedTuple):
    prompt: str
    answer: str = ""


def sample_texts(samples: Iterable[Sample], order: Order, plain: bool) -> Iterator[Text]:
    """List-wise targets; samples without labels teach nothing and are left out."""
    for sample in samples:
        labels = sample.labels if order == "interest" else sample.labels_plain
        if labels:
            prompt = (
                build_prompt(sample.profile, sample.behaviours, sample.as_of_ms, plain=True) if plain else sample.prompt
            )
            yield Text(prompt, list_target(labels))


def rows_of(
    texts: Iterable[Text],
    tokenizer: Tokenizer,
    longest: int,
    searches: bool = False,
    plain: bool = False,
) -> list[Row]:
    """One row a text, those apart that have more than `longest` tokens. `searches`: those in prompts are learned too, each with
    the token that ends it."""
    pattern = (_PLAIN_SEARCHES if plain else _SEARCHES) if searches else None
    made: list[Row] = []
    texts = iter(texts)
    while some := list(islice(texts, ENCODED_AT_ONCE)):
        prompts = tokenizer.encode_batch([text.prompt for text in some], add_special_tokens=False)
        answers = tokenizer.encode_batch([text.answer for text in some], add_special_tokens=False)
        made += (
            _row(text, prompt, answer, pattern) for text, prompt, answer in zip(some, prompts, answers, strict=True)
        )
    return [row for row in made if len(row.tokens) <= longest]


def _row(text: Text, prompt: Encoding, answer: Encoding, pattern: re.Pattern[str] | None) -> Row:
    tokens = np.array(prompt.ids + answer.ids, dtype=np.int32)
    learned = np.full(len(tokens), NOT_LEARNED, dtype=np.uint8)
    learned[len(prompt.ids) :] = ANSWER
    if pattern:
        starts = [start for start, _ in prompt.offsets]
        for first, end in _token_spans(starts, [found.span(1) for found in pattern.finditer(text.prompt)]):
            learned[first:end] = HISTORY
    return Row(tokens, learned, len(prompt.ids))


def _token_spans(starts: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Spans of characters as spans of tokens: those that begin within."""
    return np.searchsorted(starts, spans).reshape(-1, 2).tolist()
