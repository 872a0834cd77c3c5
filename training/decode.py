"""Greedy lists from a decoder in torch, for measuring a model without a server. The job's own path is vLLM (inference/)."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM

from inference.vocabulary import END, PAD, token_id
from training.decoder import MAX_ANSWER_TOKENS


@torch.inference_mode()
def greedy(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, prompts: Sequence[str], batch: int = 128
) -> list[tuple[str, bool]]:
    """(text, whether it came to its end) for each prompt, in order."""
    end, pad = token_id(tokenizer, END), token_id(tokenizer, PAD)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    texts: list[tuple[str, bool]] = [("", False)] * len(encoded)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        longest = max(len(encoded[i]) for i in rows)
        inputs = torch.tensor([[pad] * (longest - len(encoded[i])) + encoded[i] for i in rows])
        mask = torch.tensor([[0] * (longest - len(encoded[i])) + [1] * len(encoded[i]) for i in rows])
        made = model.generate(  # pyright: ignore[reportAttributeAccessIssue] (its protocol knows no properties)
            input_ids=inputs,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=MAX_ANSWER_TOKENS,
            eos_token_id=end,
            pad_token_id=pad,
        )
        for i, row in zip(rows, made[:, longest:].tolist(), strict=True):
            ended = end in row
            ids = row[: row.index(end)] if ended else row
            texts[i] = tokenizer.decode(ids, skip_special_tokens=False), ended
    return texts
