"""The network of the two-tower contender: vectors of texts, of shoppers, of queries."""

import training  # noqa: F401, I001  (before torch: see its docstring)
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from inference.output import normalise
from training.rankers.moments import KEPT

AGES_MS = np.array([60_000, 300_000, 1_800_000, 6 * 3_600_000, 86_400_000, 2 * 86_400_000, 4 * 86_400_000, 7 * 86_400_000, 14 * 86_400_000])  # fmt: skip
"""Bounds of the classes of age."""


@dataclass(frozen=True)
class TowerShape:
    width: int = 64
    buckets: int = 1 << 15
    """Of hashed words and three-letter pieces; 0 is for nothing."""
    words: int = 10
    """Of a text, the first ones."""
    pieces: int = 24


class Inputs(NamedTuple):
    """n shoppers with u distinct texts between them."""

    features: torch.Tensor
    """[u, words + pieces]."""
    own: torch.Tensor
    """[u]: place among the known queries, -1 for other texts."""
    place: torch.Tensor
    """[n, kept]: which of the texts, newest first."""
    there: torch.Tensor
    is_search: torch.Tensor
    category: torch.Tensor
    age_ms: torch.Tensor
    profile: torch.Tensor
    """[n, fields]."""


class Towers(nn.Module):
    def __init__(self, shape: TowerShape, categories: int, fields: int, log_shares: np.ndarray) -> None:
        super().__init__()
        width, queries = shape.width, len(log_shares)
        self.pieces = nn.Embedding(shape.buckets, width, padding_idx=0)
        self.own = nn.Embedding(queries + 1, width, padding_idx=0)
        self.answer = nn.Embedding(queries, width)
        self.bias = nn.Parameter(torch.from_numpy(log_shares.astype(np.float32)))
        self.position = nn.Embedding(KEPT, width)
        self.kind = nn.Embedding(2, width)
        self.category = nn.Embedding(max(1, categories), width)
        self.age = nn.Embedding(len(AGES_MS) + 1, width)
        self.profile = nn.Linear(fields, width) if fields else None
        self.attention = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 4))
        self.value = nn.Linear(width, width)
        self.out = nn.Sequential(nn.Linear(7 * width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width))  # fmt: skip
        self.to_query = nn.Linear(width, width)
        for table in (self.pieces, self.own, self.position, self.kind, self.category, self.age):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.normal_(self.answer.weight, std=0.02)
        with torch.no_grad():
            self.pieces.weight[0] = 0
            self.own.weight[0] = 0
        bounds = torch.from_numpy(AGES_MS)
        self.register_buffer("bounds", bounds)
        self.bounds: torch.Tensor

    def texts(self, features: torch.Tensor) -> torch.Tensor:
        used = (features > 0).sum(dim=1, keepdim=True).clamp(min=1)
        return self.pieces(features).sum(dim=1) / used.sqrt()

    def users(self, inputs: Inputs) -> torch.Tensor:
        """[n, width]."""
        text = self.texts(inputs.features) + self.own(inputs.own + 1)
        age = torch.bucketize(inputs.age_ms, self.bounds, right=True)
        steps = text[inputs.place] + self.kind(inputs.is_search) + self.category(inputs.category) + self.age(age)
        steps = steps + self.position.weight
        there = inputs.there.unsqueeze(-1)
        weights = self.attention(steps).masked_fill(~there, -1e4).softmax(dim=1) * there
        pooled = torch.einsum("nkh,nkw->nhw", weights, self.value(steps)).flatten(1)
        newest = steps[:, 0] * there[:, 0]
        searched = _newest(steps, inputs.there & (inputs.is_search == 1))
        profile = self.profile(inputs.profile) if self.profile is not None else torch.zeros_like(newest)
        return self.out(torch.cat([pooled, newest, searched, profile], dim=1))

    def queries(self, features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """[q, width]: letters, which rare queries share with others, and a vector of its own."""
        return self.to_query(self.texts(features)) + self.answer(places)


def text_features(texts: Sequence[str], shape: TowerShape) -> np.ndarray:
    """int64 [texts, words + pieces]: buckets of the first words and letter pieces, 0 behind them."""
    found = np.zeros((len(texts), shape.words + shape.pieces), dtype=np.int64)
    for i, text in enumerate(texts):
        words = normalise(text).split()
        for j, word in enumerate(words[: shape.words]):
            found[i, j] = _bucket(f"={word}", shape.buckets)
        padded = f" {' '.join(words)} "
        for j in range(min(shape.pieces, len(padded) - 2) if words else 0):
            found[i, shape.words + j] = _bucket(padded[j : j + 3], shape.buckets)
    return found


def profile_values(profiles: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """Field and value, numbers by the ten; each with a place."""
    found = {
        f"{name}={int(value) // 10 if value.isdecimal() else value.casefold()}"
        for profile in profiles
        for name, value in profile.items()
    }
    return {value: i for i, value in enumerate(sorted(found))}


def _newest(steps: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """The first of each row's marked steps; zeros where there is none."""
    first = which.int().argmax(dim=1)
    return steps[torch.arange(len(steps)), first] * which.any(dim=1, keepdim=True)


@lru_cache(maxsize=1 << 18)
def _bucket(piece: str, buckets: int) -> int:
    """The same on every machine, which Python's own hash is not."""
    return 1 + int.from_bytes(blake2b(piece.encode(), digest_size=6).digest()) % (buckets - 1)
