"""Greedy lists from a decoder in torch, for training and measuring without a server. The job's own path is vLLM (inference/)."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from transformers import LogitsProcessor, LogitsProcessorList

from inference.allowed_logits import restrict
from inference.allowed_prefixes import Prefixes, Standing
from inference.distinct import Listed, stops_of
from inference.vocabulary import END, PAD, token_id
from training.decoder import MAX_ANSWER_TOKENS, Decoder


def greedy(
    model: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    batch: int = 128,
    allowed: Prefixes | None = None,
) -> list[tuple[str, bool]]:
    """(text, whether it came to its end) for each prompt, in order. `allowed`: only queries of that allow-list."""
    end = token_id(tokenizer, END)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    texts: list[tuple[str, bool]] = [("", False)] * len(encoded)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        for i, ids in zip(rows, greedy_ids(model, tokenizer, [encoded[i] for i in rows], allowed=allowed), strict=True):
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
) -> list[list[int]]:
    """The answers as tokens, the end token included where it was written. One batch: prompts of like length cost least.

    `distinct=False` writes what the model would without `inference.distinct`; `allowed` writes only queries of that allow-list.
    """
    end, pad = token_id(tokenizer, END), token_id(tokenizer, PAD)
    longest = max(map(len, prompts))
    rules: list[LogitsProcessor] = []
    if allowed:
        rules = [_Allowed(longest, allowed, len(prompts))]
    elif distinct:
        rules = [_Distinct(longest, stops_of(tokenizer), len(prompts))]
    made = model.generate(  # pyright: ignore[reportAttributeAccessIssue] (its protocol knows no properties)
        input_ids=torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts], device=model.device),
        attention_mask=torch.tensor(
            [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device
        ),
        do_sample=False,
        logits_processor=LogitsProcessorList(rules),
        max_new_tokens=most,
        eos_token_id=end,
        pad_token_id=pad,
    )
    answers = made[:, longest:].tolist()
    return [ids[: ids.index(end) + 1] if end in ids else ids for ids in answers]


class _Distinct(LogitsProcessor):
    """What inference.vllm_distinct does in vLLM."""

    def __init__(self, prompt_tokens: int, stops: frozenset[int], rows: int):
        self._start = prompt_tokens
        self._written: list[list[int]] = [[] for _ in range(rows)]
        self._listed = [Listed(stops, written) for written in self._written]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        for row, (written, listed) in enumerate(zip(self._written, self._listed, strict=True)):
            written.extend(input_ids[row, self._start + len(written) :].tolist())
            if tokens := listed.banned():
                scores[row, list(tokens)] = float("-inf")
        return scores


class _Allowed(LogitsProcessor):
    """The same with an allow-list, which keeps queries distinct as well."""

    def __init__(self, prompt_tokens: int, allowed: Prefixes, rows: int):
        self._start = prompt_tokens
        self._written: list[list[int]] = [[] for _ in range(rows)]
        self._standings = {row: Standing(allowed, written) for row, written in enumerate(self._written)}

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        for row, written in enumerate(self._written):
            written.extend(input_ids[row, self._start + len(written) :].tolist())
        restrict(scores, self._standings)
        return scores
