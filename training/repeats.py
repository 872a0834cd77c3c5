"""The second loss: the decoder unlearns to write a query twice in one list.

It writes lists of its own, and the probability of each repeated query as a whole is pushed down (unlikelihood on own outputs:
Welleck et al. 2019, arXiv 1908.04319; per query and not per token, which leaves alone the tokens inside a name that could
be no other).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from inference.distinct import stops_of
from inference.output import near_duplicates, normalise
from inference.vocabulary import PAD, token_id
from training.decode import greedy_ids
from training.decoder import Decoder
from training.il_sft_targets import LIST_LENGTH

SOFTENED = 0.5
"""Power of a query's probability in the loss: the likeliest query has some 5 %, whose plain -log(1 - P) hardly pushes."""
SUREST = -1e-4
"""Highest log probability that the loss sees: at 0 it would be infinite."""


@dataclass(frozen=True)
class Span:
    """A repeated query in a batch: its tokens, the one that ends it included."""

    row: int
    start: int
    stop: int


@dataclass(frozen=True)
class OwnLists:
    """Lists that the model wrote."""

    lists: int
    distinct: int
    """How many of them repeat nothing."""
    inputs: torch.Tensor
    """Prompts and answers of the others: rows x length, padded on the right."""
    spans: list[Span]


def own_lists(model: Decoder, tokenizer: Tokenizer, prompts: Sequence[list[int]]) -> OwnLists:
    """Greedy lists for the prompts, written without `inference.distinct`: what it takes away could not be unlearned."""
    model.eval()
    answers = greedy_ids(model, tokenizer, prompts, distinct=False)
    model.train()
    found = [(prompt, answer, repeats(answer, tokenizer)) for prompt, answer in zip(prompts, answers, strict=True)]
    bad = [row for row in found if row[2]]
    longest = max((len(prompt) + len(answer) for prompt, answer, _ in bad), default=0)
    inputs = torch.full((len(bad), longest), token_id(tokenizer, PAD), device=model.device)
    spans: list[Span] = []
    for row, (prompt, answer, places) in enumerate(bad):
        inputs[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer, device=model.device)
        spans += [Span(row, len(prompt) + start, len(prompt) + stop) for start, stop in places]
    return OwnLists(len(found), len(found) - len(bad), inputs, spans)


def repeats(answer: Sequence[int], tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """(start, stop) of each query in an answer's tokens that the output parser drops because an earlier one says the same."""
    stops = stops_of(tokenizer)
    found: list[tuple[int, int]] = []
    kept: list[frozenset[str]] = []
    start = 0
    for place, id in enumerate(answer):
        if id not in stops:
            continue
        words = frozenset(normalise(tokenizer.decode(list(answer[start:place]))).split())
        if any(near_duplicates(words, other) for other in kept):
            found.append((start, place + 1))
        elif words:
            kept.append(words)
        start = place + 1
    return found


def repeat_loss(model: Decoder, own: OwnLists) -> torch.Tensor:
    """-log(1 - sqrt P(query)) of the repeated queries, per slot of all lists; 0 where nothing is repeated."""
    if not own.spans:
        return torch.zeros((), device=model.device)
    hidden = model.model(input_ids=own.inputs, use_cache=False).last_hidden_state
    places = torch.tensor(
        [(s.row, place, n) for n, s in enumerate(own.spans) for place in range(s.start, s.stop)],
        device=own.inputs.device,
    )
    rows, columns, owners = places.T
    logits = model.lm_head(hidden[rows, columns - 1])
    each = -functional.cross_entropy(logits, own.inputs[rows, columns], reduction="none")
    whole = each.new_zeros(len(own.spans)).index_add(0, owners, each).clamp(max=SUREST)
    return -torch.log(-torch.expm1(SOFTENED * whole)).sum() / (own.lists * LIST_LENGTH)
