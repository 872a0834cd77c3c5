"""Another greedy list for the same prompt, in which what was listed before counts as listed already: how a model that writes ten
queries decides on thirty. The rules are the job's (inference.distinct, or the allow-list where the bundle has one).
"""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from transformers import LogitsProcessor, LogitsProcessorList

from inference.allowed_logits import restrict
from inference.allowed_prefixes import Prefixes, Standing
from inference.distinct import Listed, stops_of
from inference.prompt import SEPARATOR, answer
from inference.vocabulary import END, PAD, token_id
from training.decoder import MAX_ANSWER_TOKENS, Decoder


@torch.inference_mode()
def another_list(
    model: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    listed: Sequence[Sequence[str]],
    batch: int,
    allowed: Prefixes | None = None,
) -> list[tuple[str, bool]]:
    """(text, whether it came to its end) for each prompt; `listed` are the queries that it may not write."""
    end, pad, separator = token_id(tokenizer, END), token_id(tokenizer, PAD), token_id(tokenizer, SEPARATOR)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    # Every listed query is closed by a separator, so that the new list begins a query.
    before = [[*tokenizer.encode(answer(queries)).ids, separator] if queries else [] for queries in listed]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    texts: list[tuple[str, bool]] = [("", False)] * len(encoded)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        longest = max(len(encoded[i]) for i in rows)
        made = model.generate(  # pyright: ignore[reportAttributeAccessIssue] (its protocol knows no properties)
            input_ids=torch.tensor([[pad] * (longest - len(encoded[i])) + encoded[i] for i in rows]),
            attention_mask=torch.tensor([[0] * (longest - len(encoded[i])) + [1] * len(encoded[i]) for i in rows]),
            do_sample=False,
            logits_processor=LogitsProcessorList([_Continued(longest, tokenizer, [before[i] for i in rows], allowed)]),
            max_new_tokens=MAX_ANSWER_TOKENS,
            eos_token_id=end,
            pad_token_id=pad,
        )
        for i, ids in zip(rows, made[:, longest:].tolist(), strict=True):
            ended = end in ids
            texts[i] = tokenizer.decode(ids[: ids.index(end)] if ended else ids, skip_special_tokens=False), ended
    return texts


class _Continued(LogitsProcessor):
    def __init__(self, prompt_tokens: int, tokenizer: Tokenizer, before: list[list[int]], allowed: Prefixes | None):
        self._start = prompt_tokens
        self._before = [len(ids) for ids in before]
        self._written = [list(ids) for ids in before]
        self._allowed = allowed
        if allowed:
            self._standings = {row: Standing(allowed, written) for row, written in enumerate(self._written)}
        else:
            stops = stops_of(tokenizer)
            self._listed = [Listed(stops, written) for written in self._written]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        for row, (written, before) in enumerate(zip(self._written, self._before, strict=True)):
            written.extend(input_ids[row, self._start + len(written) - before :].tolist())
        if self._allowed:
            restrict(scores, self._standings)
            return scores
        for row, listed in enumerate(self._listed):
            if tokens := listed.banned():
                scores[row, list(tokens)] = float("-inf")
        return scores
