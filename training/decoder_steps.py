"""A decoder run token by token over a batch of prompts without copying its cache. transformers' `generate` copies all keys and values
each step: to append the new ones, and to repeat them for the query heads that share them; for a small model that is most of the time.

Here new keys are written into room made beforehand, query heads that share keys read them in place, and rows that have ended
leave the batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from training.decoder import Decoder

GROUPED = "aigq_grouped"
"""Name of the attention below in transformers."""


class Steps:
    """Logits of the next token, rows x vocabulary: `first`, then `next` for as many tokens as there is room."""

    def __init__(self, model: Decoder, prompts: Sequence[Sequence[int]], most: int, pad: int):
        """`most`: tokens an answer may have."""
        longest, device = max(map(len, prompts)), model.device
        self._model = model
        self._prompts = torch.tensor([[pad] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
        lengths = torch.tensor([len(ids) for ids in prompts], device=device)
        self._shown = torch.arange(longest + most, device=device) >= (longest - lengths)[:, None]
        """rows x slots: no padding."""
        self._positions = lengths - 1
        """Of each row's last token."""
        self._used = longest
        self._cache = Cache(layers=[_Layer(longest + most) for _ in range(model.config.num_hidden_layers)])

    def first(self) -> torch.Tensor:
        back = torch.arange(1 - self._used, 1, device=self._positions.device)
        positions = (self._positions[:, None] + back).clamp(min=0)
        return self._logits(self._prompts, self._shown[:, : self._used], positions)

    def next(self, tokens: torch.Tensor) -> torch.Tensor:
        """After one more token of each row."""
        self._used += 1
        self._positions = self._positions + 1
        shown = self._shown[:, None, None, : self._used]
        return self._logits(tokens[:, None], shown, self._positions[:, None])

    def keep(self, rows: torch.Tensor) -> None:
        """The other rows leave the batch."""
        self._shown, self._positions = self._shown[rows], self._positions[rows]
        self._cache.batch_select_indices(rows)

    def _logits(self, tokens: torch.Tensor, shown: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        made = self._model(
            input_ids=tokens,
            attention_mask=shown,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return made.logits[:, -1].float()


class _Layer(DynamicLayer):
    """Keys and values of a layer, in room for `slots` tokens: rows x heads x slots x size."""

    def __init__(self, slots: int):
        super().__init__()
        self._slots = slots

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        rows, heads, _, size = key_states.shape
        self._room = key_states.new_empty(2, rows, heads, self._slots, size)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        self._room[0, :, :, start:stop] = key_states
        self._room[1, :, :, start:stop] = value_states
        self.keys, self.values = self._room[:, :, :, :stop]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        used = self.get_seq_length()
        room = self._room.new_empty(2, len(indices), *self._room.shape[2:])
        room[:, :, :, :used] = self._room[:, indices, :, :used]
        self._room = room
        self.keys, self.values = self._room[:, :, :, :used]


def _attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """As `sdpa`; of one new token the query heads that share keys are taken as so many tokens, all of which see the same."""
    rows, heads, tokens, size = query.shape
    if tokens > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    together = query.reshape(rows, key.shape[1], -1, size)
    seen = functional.scaled_dot_product_attention(together, key, value, attn_mask=attention_mask, scale=scaling)
    return seen.reshape(rows, 1, heads, size), None


AttentionInterface.register(GROUPED, _attention)
AttentionMaskInterface.register(GROUPED, sdpa_mask)


@contextmanager
def grouped(model: Decoder) -> Iterator[None]:
    """What `Steps` are to be taken in, for attention that reads shared keys in place; afterwards the model is as it was."""
    before = model.config._attn_implementation or "sdpa"
    model.set_attn_implementation(GROUPED)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
