"""What a shopper is likely to search next, by a model's own probabilities: the best queries of an allow-list, not a list written greedily.

A beam search through the allow-list's trie from the begin of a list. All beams of a prompt are one sequence behind the prompt, a tree in
which each token sees the prompt and its own ancestors, so the prompt is read once and its cache is never copied.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import training  # noqa: F401  (before torch: see its docstring)

# isort: split
import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import DynamicCache

from inference.allowed_prefixes import Prefixes
from inference.output import normalise
from inference.vocabulary import PAD, token_id
from training.decoder import Decoder

BEAMS = 24
BATCH = 64


class Likely(NamedTuple):
    text: str
    log_p: float
    """Log-probability that the list begins with this query, and its gain."""


class _Trie(NamedTuple):
    """The allow-list's, and what is added to log-probabilities, by node."""

    prefixes: Prefixes
    own: np.ndarray
    """Of a complete query."""
    best: np.ndarray
    """The highest of the complete queries at and below: so a beam's score is never below that of what it leads to."""

    @staticmethod
    def of(prefixes: Prefixes, tokenizer: Tokenizer, gain: Mapping[str, float]) -> "_Trie":
        own = np.full(len(prefixes.tokens), -np.inf)
        for node in prefixes.same:
            own[node] = gain.get(normalise(_text(prefixes, tokenizer, node)), 0.0) if gain else 0.0
        best = own.copy()
        for node in range(len(best) - 1, 0, -1):  # children stand behind their parents
            above = prefixes.parent[node]
            best[above] = max(best[above], best[node])
        return _Trie(prefixes, own, best)


class _Beams(NamedTuple):
    """Unfinished beginnings of queries, those of a prompt side by side."""

    row: np.ndarray
    node: np.ndarray
    """In the trie."""
    log_p: np.ndarray
    place: np.ndarray
    """Among its prompt's beams, where the model's answer to it stands."""
    above: np.ndarray
    """beams x slots, bool: the slots that its token sees: its ancestors'."""


def likeliest(
    model: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    prefixes: Prefixes,
    count: int,
    beams: int = BEAMS,
    batch: int = BATCH,
    gain: Mapping[str, float] = {},
) -> Iterator[tuple[int, list[Likely]]]:
    """(number of the prompt, its `count` likeliest queries, best first), in order of length. Exact where `beams` were enough.

    `gain` is added to a query's log-probability (`recency.late_gain`), by normal form; 0 where it names none.
    """
    trie = _Trie.of(prefixes, tokenizer, gain)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        found = _of_batch(model, [encoded[i] for i in rows], trie, count, beams, token_id(tokenizer, PAD))
        for i, complete in zip(rows, found, strict=True):
            yield i, [Likely(_text(prefixes, tokenizer, node), log_p) for log_p, node in complete]


@torch.inference_mode()
def _of_batch(
    model: Decoder, prompts: Sequence[list[int]], trie: _Trie, count: int, most: int, pad: int
) -> list[list[tuple[float, int]]]:
    """For each prompt (log-probability, node) of its best complete queries."""
    longest, size = max(map(len, prompts)), len(prompts)
    inputs = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts])
    lengths = torch.tensor([len(ids) for ids in prompts])
    shown = torch.arange(longest)[None, :] >= (longest - lengths)[:, None]
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    # A token of the padding sees itself: a row of the mask that is all closed would become NaN.
    mask = (causal & shown[:, None, :]) | torch.eye(longest, dtype=torch.bool)
    positions = (torch.arange(longest)[None, :] - (longest - lengths)[:, None]).clamp(min=0)
    cache = DynamicCache(config=model.config)
    log_p = _forward(model, inputs, mask, positions, cache, last=True)
    everyone = np.arange(size)
    none = np.zeros(size, dtype=np.int64)
    beams = _Beams(everyone, none, np.zeros(size), none, np.zeros((size, 0), dtype=bool))
    complete: list[list[tuple[float, int]]] = [[] for _ in prompts]
    depth = 0
    while True:
        _finish(beams, log_p, trie, complete, count)
        beams, tokens = _grown(beams, log_p, trie, complete, count, most)
        if not len(beams.row):
            return complete
        width, slots = int(beams.place.max()) + 1, beams.above.shape[1]
        step = torch.full((size, width), pad)
        step[beams.row, beams.place] = torch.from_numpy(tokens)
        seen = np.zeros((size, width, slots + width), dtype=bool)
        seen[beams.row, beams.place, :slots] = beams.above
        seen[:, :, slots:] |= np.eye(width, dtype=bool)
        mask = torch.cat((shown[:, None, :].expand(-1, width, -1), torch.from_numpy(seen)), dim=2)
        log_p = _forward(model, step, mask, (lengths + depth)[:, None].expand(-1, width), cache)
        beams = beams._replace(above=seen[beams.row, beams.place])
        depth += 1


def _forward(
    model: Decoder,
    inputs: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: DynamicCache,
    last: bool = False,
) -> np.ndarray:
    """rows x places x vocabulary, log-probabilities; `last`: of the last place alone."""
    hidden = model.get_decoder()(
        input_ids=inputs, attention_mask=mask[:, None], position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    logits = model.get_output_embeddings()(hidden[:, -1:] if last else hidden)  # pyright: ignore[reportOptionalCall]
    return functional.log_softmax(logits.float(), dim=-1).numpy()


def _finish(beams: _Beams, log_p: np.ndarray, trie: _Trie, complete: list[list[tuple[float, int]]], count: int) -> None:
    """Beams that stand on a complete query: it is followed by a separator or the end."""
    at = [i for i, node in enumerate(beams.node.tolist()) if node in trie.prefixes.same]
    ends = np.logaddexp(
        *(log_p[beams.row[at], beams.place[at], token] for token in (trie.prefixes.separator, trie.prefixes.end))
    )
    touched = set()
    for i, end in zip(at, ends.tolist(), strict=True):
        node = int(beams.node[i])
        complete[beams.row[i]].append((float(beams.log_p[i] + end + trie.own[node]), node))
        touched.add(int(beams.row[i]))
    for row in touched:
        best: dict[int, tuple[float, int]] = {}
        for score, node in sorted(complete[row], reverse=True):  # of those that count as the same, the likelier
            best.setdefault(min(trie.prefixes.same[node]), (score, node))
        complete[row] = list(best.values())[:count]


def _grown(
    beams: _Beams, log_p: np.ndarray, trie: _Trie, complete: list[list[tuple[float, int]]], count: int, most: int
) -> tuple[_Beams, np.ndarray]:
    """The `most` best continuations of each prompt that can still come among its best queries, and their tokens."""
    spans = [trie.prefixes.children(node) for node in beams.node.tolist()]
    widths = [last - first for first, last in spans]
    parent = np.repeat(np.arange(len(spans)), widths)
    nodes = np.concatenate([np.arange(first, last) for first, last in spans]) if spans else np.zeros(0, dtype=np.int64)
    tokens = trie.prefixes.tokens[nodes]
    row = beams.row[parent]
    grown = beams.log_p[parent] + log_p[row, beams.place[parent], tokens]
    scores = grown + trie.best[nodes]
    floor = np.array([found[-1][0] if len(found) == count else -np.inf for found in complete])
    order = np.lexsort((-scores, row))
    starts = np.searchsorted(row[order], np.arange(len(complete)))
    place = np.arange(len(order)) - starts[row[order]]
    kept = (place < most) & (scores[order] > floor[row[order]])
    chosen = order[kept]
    return _Beams(row[chosen], nodes[chosen], grown[chosen], place[kept], beams.above[parent[chosen]]), tokens[chosen]


def _text(prefixes: Prefixes, tokenizer: Tokenizer, node: int) -> str:
    tokens: list[int] = []
    while node:
        tokens.append(int(prefixes.tokens[node]))
        node = prefixes.parent[node]
    return tokenizer.decode(tokens[::-1]).strip()
