"""A folder of samples (docs/samples.md): what is in a row, and reading it. `aigq samples` writes it.

FOLDER/direct/split=train|test/*.parquet  FOLDER/think/split=train|test/*.parquet  FOLDER/cases/*.parquet  FOLDER/samples.json
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import Behaviour
from training.log import Case

Split = Literal["train", "test"]
DIRECT, THINK, CASES = "direct", "think", "cases"
TEXTS = pa.list_(pa.string())
BEHAVIOUR = pa.struct(
    [
        ("time_ms", pa.int64()),
        ("id", pa.int64()),
        ("kind", pa.string()),
        ("text", pa.string()),
        ("category", pa.string()),
    ]
)
_HISTORY = [
    ("as_of_ms", pa.int64()),
    ("profile", pa.map_(pa.string(), pa.string())),
    ("behaviours", pa.list_(BEHAVIOUR)),
    ("prompt", pa.string()),
    ("labels", TEXTS),
    ("label_from", TEXTS),
    ("label_scores", pa.list_(pa.float64())),
    ("labels_plain", TEXTS),
]
SCHEMAS: dict[str, pa.Schema] = {
    DIRECT: pa.schema([("user", pa.string()), ("exposure_id", pa.string()), *_HISTORY]),
    THINK: pa.schema([("user", pa.string()), ("day", pa.string()), *_HISTORY]),
    CASES: pa.schema(
        [
            ("exposure_id", pa.string()),
            ("user", pa.string()),
            ("as_of_ms", pa.int64()),
            ("profile", pa.map_(pa.string(), pa.string())),
            ("seen", pa.list_(BEHAVIOUR)),
            ("next", pa.string()),
            ("later", TEXTS),
            ("clicked", TEXTS),
        ]
    ),
}


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What a shopper's state was at a moment, and the list that would have been good then."""

    user: str
    as_of_ms: int
    profile: dict[str, str]
    behaviours: tuple[Behaviour, ...]
    """As the nearline job would have frozen them at `as_of_ms`, oldest first; all of them arrived before."""
    prompt: str
    """inference.prompt.build_prompt of the above."""
    labels: tuple[str, ...]
    """In the order to be learned: by interest (transforms/label_lists.py)."""
    label_from: tuple[str, ...]
    """Of each label: click, search, ranked or generated."""
    label_scores: tuple[float, ...]
    """Of each label: its strength."""
    labels_plain: tuple[str, ...]
    """The same labels, not re-ranked: in the order in which they were gathered."""


class DirectSample(Sample, frozen=True, kw_only=True):
    """Of one home page (AIGQ eq. 3)."""

    exposure_id: str


class ThinkSample(Sample, frozen=True, kw_only=True):
    """Of one shopper's day (AIGQ eq. 2 and 4)."""

    day: str
    """2026-11-24, UTC."""


class CaseRow(msgspec.Struct, frozen=True):
    exposure_id: str
    """Of the home page; empty where the case is a search."""
    case: Case


def read_direct(folder: str | Path, split: Split) -> list[DirectSample]:
    """By shopper and time. Raises FileNotFoundError where the folder has none, not even an empty file."""
    return [DirectSample(**row) for row in _rows(folder, f"{DIRECT}/split={split}", DIRECT)]


def read_think(folder: str | Path, split: Split) -> list[ThinkSample]:
    """By shopper and day. Raises FileNotFoundError."""
    return [ThinkSample(**row) for row in _rows(folder, f"{THINK}/split={split}", THINK)]


def read_cases(folder: str | Path) -> list[Case]:
    """By shopper and time. Raises FileNotFoundError."""
    return [row.case for row in read_case_rows(folder)]


def read_case_rows(folder: str | Path) -> list[CaseRow]:
    return [CaseRow(row.pop("exposure_id"), Case(**row)) for row in _rows(folder, CASES, CASES)]


def _rows(folder: str | Path, below: str, kind: str) -> Iterator[dict[str, Any]]:
    """Arguments of the records: keys are the columns' names."""
    files = sorted(Path(folder, below).glob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"no {Path(folder, below)}/*.parquet: `aigq samples --out {folder}` writes them")
    for file in files:
        # A file at a time: as Python objects, behaviours take ten times their bytes.
        with pq.ParquetFile(file) as opened:
            table = opened.read()
        names = SCHEMAS[kind].names
        columns = [_values(table[name].combine_chunks(), table.schema.field(name).type) for name in names]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def _values(column: Any, type: pa.DataType) -> list[Any]:
    if pa.types.is_map(type):
        return [dict(pairs) for pairs in column.to_pylist()]
    if type == pa.list_(BEHAVIOUR):
        parts = column.flatten()
        fields = (parts.field(name).to_pylist() for name in BEHAVIOUR.names)
        behaviours = [Behaviour(*each) for each in zip(*fields, strict=True)]
        return [tuple(behaviours[start:end]) for start, end in pairwise(column.offsets.to_pylist())]
    values = column.to_pylist()
    return [tuple(value) for value in values] if pa.types.is_list(type) else values
