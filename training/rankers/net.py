"""The network of the two-tower contender: vectors of texts, of shoppers, of queries."""

import training  # noqa: F401, I001  (before torch: see its docstring)
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from torch import nn

from inference.output import normalise
from training.rankers.moments import KEPT

AGES_MS = np.array([60_000, 300_000, 1_800_000, 6 * 3_600_000, 86_400_000, 2 * 86_400_000, 4 * 86_400_000, 7 * 86_400_000, 14 * 86_400_000])  # fmt: skip
"""Bounds of the classes of age."""
WORDS, LETTERS = 10, 24
"""Of a text, the first words and the first pieces of three letters."""
HEADS = 4


class Inputs(NamedTuple):
    """n shoppers with u distinct texts between them."""

    pieces: sparse.csr_matrix
    """[u, pieces], rows of `TextPieces`."""
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
    def __init__(self, pieces: int, queries: int, categories: int, fields: int, width: int) -> None:
        super().__init__()
        self.pieces = nn.Embedding(pieces, width)
        self.own = nn.Embedding(queries + 1, width, padding_idx=0)
        self.answer = nn.Embedding(queries, width)
        self.bias = nn.Parameter(torch.zeros(queries))
        """Beside a query's share of the searches."""
        self.position = nn.Embedding(2 * KEPT, width)
        """Place, as a click and as a search."""
        self.category = nn.Embedding(max(1, categories), width)
        self.age = nn.Embedding(len(AGES_MS) + 1, width)
        self.profile = nn.Linear(fields, width) if fields else None
        self.attention = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, HEADS))
        self.value = nn.Linear(width, width)
        self.out = nn.Sequential(nn.Linear((HEADS + 3) * width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width))  # fmt: skip
        self.to_query = nn.Linear(width, width)
        for table in (self.pieces, self.own, self.position, self.category, self.age):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.normal_(self.answer.weight, std=0.02)
        with torch.no_grad():
            self.own.weight[0] = 0
        self.register_buffer("bounds", torch.from_numpy(AGES_MS))
        self.bounds: torch.Tensor

    def texts(self, pieces: sparse.csr_matrix) -> torch.Tensor:
        ids, begins, weights = (torch.from_numpy(a) for a in (pieces.indices, pieces.indptr[:-1], pieces.data))
        return nn.functional.embedding_bag(ids, self.pieces.weight, begins, mode="sum", per_sample_weights=weights)

    def users(self, inputs: Inputs) -> torch.Tensor:
        """[n, width]."""
        steps, (n, kept) = self._steps(inputs), inputs.place.shape
        there = inputs.there.unsqueeze(-1)
        weights = self.attention(steps).masked_fill(~there, -1e4).softmax(dim=1) * there
        # Heads look at everything; beside them stand the newest behaviour and the newest search.
        newest = torch.zeros(n, kept, 2)
        newest[:, 0, 0] = 1
        newest[torch.arange(n), inputs.is_search.int().argmax(dim=1), 1] = 1
        newest[:, :, 1] *= inputs.is_search
        looked = torch.cat([weights, newest * there], dim=2).transpose(1, 2) @ steps
        profile = self.profile(inputs.profile) if self.profile is not None else torch.zeros_like(looked[:, 0])
        pooled = self.value(looked[:, :HEADS])
        return self.out(torch.cat([pooled.flatten(1), looked[:, HEADS:].flatten(1), profile], dim=1))

    def queries(self, pieces: sparse.csr_matrix, places: torch.Tensor) -> torch.Tensor:
        """[q, width]: letters, which rare queries share with others, and a vector of its own."""
        return self.to_query(self.texts(pieces)) + self.answer(places)

    def _steps(self, inputs: Inputs) -> torch.Tensor:
        """[n, kept, width]: text, category, age, place and kind of each behaviour, added up in one pass over all tables."""
        text = self.texts(inputs.pieces) + self.own(inputs.own + 1)
        tables = (text, self.category.weight, self.age.weight, self.position.weight)
        begins = np.cumsum([0, *(len(table) for table in tables)]).tolist()
        age = torch.bucketize(inputs.age_ms, self.bounds, right=True)
        position = 2 * torch.arange(inputs.place.shape[1]) + inputs.is_search
        rows = [inputs.place, inputs.category + begins[1], age + begins[2], position + begins[3]]
        ids = torch.stack(rows, dim=2).flatten(0, 1)
        steps = nn.functional.embedding_bag(ids, torch.cat(tables), mode="sum")
        return steps.unflatten(0, inputs.place.shape)


class TextPieces:
    """Words and three-letter pieces that at least two texts have; a text is a row whose numbers square to about 1."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.counter = CountVectorizer(analyzer=_pieces, min_df=2, dtype=np.float32)  # pyright: ignore[reportArgumentType]
        try:
            self.counter.fit(texts)
        except ValueError:  # so few texts that no piece stands in two of them
            self.counter.set_params(min_df=1).fit([*texts, "_"])

    def __len__(self) -> int:
        return len(self.counter.vocabulary_)

    def rows(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """float32 [texts, pieces]; an empty row where no piece is known."""
        if not len(texts):
            return sparse.csr_matrix((0, len(self)), dtype=np.float32)
        counts = sparse.csr_matrix(self.counter.transform(texts))
        length = np.sqrt(np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1))
        return sparse.csr_matrix(sparse.diags((1 / length).astype(np.float32)) @ counts)


def profile_values(profiles: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """Field and value, numbers by the ten; each with a place."""
    found = {
        f"{name}={int(value) // 10 if value.isdecimal() else value.casefold()}"
        for profile in profiles
        for name, value in profile.items()
    }
    return {value: i for i, value in enumerate(sorted(found))}


def _pieces(text: str) -> list[str]:
    words = normalise(text).split()
    padded = f" {' '.join(words)} "
    letters = [padded[i : i + 3] for i in range(min(LETTERS, len(padded) - 2))]
    return [f"={word}" for word in words[:WORDS]] + letters
