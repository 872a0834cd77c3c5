"""Greedy lists from a decoder in torch, for training and measuring without a server. The job's own path is vLLM (inference/)."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from tokenizers import Tokenizer

from inference.allowed_logits import restrict
from inference.allowed_prefixes import Prefixes, Standing
from inference.distinct import Listed, stops_of
from inference.vocabulary import END, PAD, token_id
from training.decoder import MAX_ANSWER_TOKENS, Decoder
from training.decoder_steps import Steps, grouped

FEW = 0.75
"""Share of a batch's rows that are still written, below which the others leave it: that copies the batch's cache."""


def greedy(
    model: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    batch: int = 128,
    allowed: Prefixes | None = None,
    before: Sequence[Sequence[int]] | None = None,
) -> list[tuple[str, bool]]:
    """(text, whether it came to its end) for each prompt, in order. `allowed`, `before`: as in `greedy_ids`."""
    end = token_id(tokenizer, END)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    texts: list[tuple[str, bool]] = [("", False)] * len(encoded)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        listed = [before[i] for i in rows] if before else None
        answers = greedy_ids(model, tokenizer, [encoded[i] for i in rows], allowed=allowed, before=listed)
        for i, ids in zip(rows, answers, strict=True):
            ended = ids[-1] == end
            texts[i] = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False), ended
    return texts


@torch.inference_mode()
def greedy_ids(
    model: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    most: int = MAX_ANSWER_TOKENS,
    distinct: bool = True,
    allowed: Prefixes | None = None,
    before: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """The answers as tokens, the end token included where it was written. One batch: prompts of like length cost least.

    `distinct=False` writes what the model would without `inference.distinct`; `allowed` writes only queries of that allow-list.
    `before`: for each prompt the tokens of queries that count as listed already, though the model does not see them.
    """
    end = token_id(tokenizer, END)
    answers: list[list[int]] = [[] for _ in prompts]
    listed = [list(ids) for ids in before] if before else [[] for _ in prompts]
    rule = _Allowed(allowed, listed) if allowed else _Distinct(tokenizer, listed) if distinct else None
    rows = list(range(len(prompts)))
    """The prompt of each row of the batch."""
    with grouped(model):
        steps = Steps(model, prompts, most, token_id(tokenizer, PAD))
        logits = steps.first()
        while True:
            if rule:
                rule.apply(logits, rows)
            chosen = logits.argmax(dim=-1)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if not _complete(answers[row], end):
                    answers[row].append(token)
                    listed[row].append(token)
            places = [place for place, row in enumerate(rows) if not _complete(answers[row], end)]
            if not places or len(answers[rows[places[0]]]) == most:
                return answers
            if len(places) < FEW * len(rows):
                rows = [rows[place] for place in places]
                kept = torch.tensor(places, device=chosen.device)
                steps.keep(kept)
                chosen = chosen[kept]
            logits = steps.next(chosen)


@torch.inference_mode()
def kept_in_fp16(model: Decoder, tokenizer: Tokenizer, prompts: Sequence[list[int]]) -> float:
    """Share of the prompts whose greedy list stays the same to the token when the weights are rounded as a bundle stores them."""
    rounded = deepcopy(model)
    for weights in rounded.parameters():  # buffers are made anew from the config and never rounded
        weights.data = weights.data.half().float()
    lists = (greedy_ids(each, tokenizer, prompts) for each in (model, rounded))
    return sum(one == other for one, other in zip(*lists, strict=True)) / len(prompts)


def _complete(answer: Sequence[int], end: int) -> bool:
    return bool(answer) and answer[-1] == end


class _Distinct:
    """What inference.vllm_distinct does in vLLM."""

    def __init__(self, tokenizer: Tokenizer, written: Sequence[Sequence[int]]):
        stops = stops_of(tokenizer)
        self._listed = [Listed(stops, each) for each in written]

    def apply(self, logits: torch.Tensor, rows: Sequence[int]) -> None:
        for place, row in enumerate(rows):
            if tokens := self._listed[row].banned():
                logits[place, list(tokens)] = float("-inf")


class _Allowed:
    """The same with an allow-list, which keeps queries distinct as well."""

    def __init__(self, allowed: Prefixes, written: Sequence[Sequence[int]]):
        self._standings = [Standing(allowed, each) for each in written]

    def apply(self, logits: torch.Tensor, rows: Sequence[int]) -> None:
        restrict(logits, {place: self._standings[row] for place, row in enumerate(rows)})
