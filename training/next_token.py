"""The first loss: the next token of true lists (AIGQ eq. 5), and of the searches that a prompt shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import Qwen3ForCausalLM

from inference.prompt import LIST, SEPARATOR
from inference.vocabulary import END, PAD, token_id
from training.decoder import MAX_TOKENS
from training.samples import Sample

IGNORED = -100
CHUNK = 4_096
"""Samples among which like lengths are looked for."""


@dataclass(frozen=True)
class Encoded:
    """A sample as token ids."""

    prompt: list[int]
    answer: list[int]
    """With the end token."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class Batch:
    """Each tensor is batch x length; a target stands at the place that predicts it, IGNORED wherever no loss looks."""

    prompts: list[list[int]]
    inputs: torch.Tensor
    answers: torch.Tensor
    searches: torch.Tensor
    """Queries in the history, each with the token that ends it."""


def encode(made: Sequence[Sample], tokenizer: Tokenizer) -> list[Encoded]:
    """What is longer than the model reads is left out."""
    end = token_id(tokenizer, END)
    prompts = tokenizer.encode_batch([sample.prompt for sample in made])
    answers = tokenizer.encode_batch([sample.answer for sample in made])
    rows = (Encoded(p.ids, [*a.ids, end]) for p, a in zip(prompts, answers, strict=True))
    return [row for row in rows if len(row) <= MAX_TOKENS]


def batches(encoded: Sequence[Encoded], tokenizer: Tokenizer, most_tokens: int, rng: Random) -> Iterator[Batch]:
    """One pass. Samples of one length share a batch, so padding costs little; batches come in random order.

    Padding stands on the right, where causal attention never looks at it, so no mask is needed.
    """
    for start in range(0, len(encoded), CHUNK):
        packed: list[list[Encoded]] = [[]]
        for row in sorted(encoded[start : start + CHUNK], key=len):
            if len(row) * (len(packed[-1]) + 1) > most_tokens and packed[-1]:
                packed.append([])
            packed[-1].append(row)
        rng.shuffle(packed)
        for rows in packed:
            yield _batch(rows, tokenizer)


def losses(model: Qwen3ForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean next-token loss over the answers, and over the searches in the histories. Logits are made for these tokens alone:
    half the time."""
    hidden = model.model(input_ids=batch.inputs, use_cache=False).last_hidden_state
    return _mean(model, hidden, batch.answers), _mean(model, hidden, batch.searches)


def _mean(model: Qwen3ForCausalLM, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    looked_at = targets != IGNORED
    if not looked_at.any():
        return torch.zeros(())
    return functional.cross_entropy(model.lm_head(hidden[looked_at]), targets[looked_at])


def _batch(rows: Sequence[Encoded], tokenizer: Tokenizer) -> Batch:
    shape = len(rows), max(map(len, rows))
    inputs = torch.full(shape, token_id(tokenizer, PAD))
    answers, searches = torch.full(shape, IGNORED), torch.full(shape, IGNORED)
    for i, row in enumerate(rows):
        whole = torch.tensor(row.prompt + row.answer)
        inputs[i, : len(whole)] = whole
        answers[i, len(row.prompt) - 1 : len(whole) - 1] = whole[len(row.prompt) :]
        places = torch.tensor(_search_places(row.prompt, tokenizer), dtype=torch.long)
        searches[i, places - 1] = whole[places]
    return Batch([row.prompt for row in rows], inputs, answers, searches)


def _search_places(prompt: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Where the tokens of searched queries stand. A query ends with the separator, the newest one with the history's brace."""
    search, separator, end = (token_id(tokenizer, token) for token in ("<search>", SEPARATOR, LIST))
    found: list[int] = []
    inside = False
    for place, id in enumerate(prompt):
        if inside and id != end:
            found.append(place)
        inside = id == search or (inside and id not in (separator, end))
    return found
