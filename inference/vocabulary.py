"""The model's vocabulary: a byte-level BPE of its own, and the special tokens that compress the prompt (AIGQ sec. 3.2).

Byte-level, so that every text has tokens and every answer decodes to exactly what was meant; no normaliser, so that no
text of a shopper can turn into a special token on its way (`prompt.content` takes out what already looks like one).
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from inference.prompt import COMPRESSED_TOKENS

if TYPE_CHECKING:
    import torch

PAD = "<pad>"
END = "<end>"
"""Ends an answer."""
SPECIAL_TOKENS: dict[str, str] = {PAD: "", END: ".", **COMPRESSED_TOKENS}
"""Token -> the plain form whose sub-words its embedding starts from."""
_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A BPE with `size` tokens, special ones included, learned from what stands between special tokens in `texts`.

    The same texts in the same order give the same tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((part for text in texts for part in _SPECIAL.split(text) if part), trainer)
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Raises KeyError where the vocabulary lacks it."""
    id = tokenizer.token_to_id(token)
    if id is None:
        raise KeyError(f"the vocabulary has no token {token!r}")
    return id


def start_special_tokens(embedding: "torch.Tensor", tokenizer: Tokenizer) -> None:
    """Sets each special token's row of `embedding` (vocabulary x hidden) to the mean of its plain form's sub-words."""
    for token, plain in SPECIAL_TOKENS.items():
        ids = tokenizer.encode(" " + plain).ids if plain else []
        if ids:
            embedding[token_id(tokenizer, token)] = embedding[ids].mean(dim=0)
