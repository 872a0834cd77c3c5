"""The allow-list: queries that at least k shoppers have searched, the only ones that a list may hold where it serves.

What few typed may name a person or be a slip of the keyboard; as another shopper's hint it would be a leak or a bad list.
`aigq allow-list` counts it from an archive. It lies in the model's bundle (allow_list.parquet) or in a file of its own, and
works twice: while the model writes (`allowed_prefixes.py`), and once more on its text (`output.py`).

A row is a query in its normal form, how it is written most often, and how many shoppers searched it; sorted by query.
"""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from inference.engine import ServedModel
from inference.output import normalise

LOG = logging.getLogger(__name__)

FILE_NAME = "allow_list.parquet"
"""In a bundle."""
AUTO, NONE = "auto", "none"
"""Which list serves, besides a file's name: the one in the model's bundle, if it has one; none."""
LEAST_SHOPPERS = 5
FACTS_KEY = b"aigq"
SCHEMA = pa.schema([("query", pa.string()), ("text", pa.string()), ("shoppers", pa.int32())])


class BadAllowList(ValueError):
    """A file is no allow-list; the message says which and why."""


class Facts(msgspec.Struct, frozen=True):
    """What a list says of itself, in the file's footer."""

    least_shoppers: int
    until_ms: int
    """Log clock before which searches counted; 0: all of the archive."""
    digest: str
    """sha256 of the rows: two lists with one digest allow the same, whatever wrote the files."""


class AllowedQuery(NamedTuple):
    query: str
    """Normal form (`output.normalise`)."""
    text: str
    """As at least k shoppers typed it, the most usual way; the normal form where no way is so usual."""
    shoppers: int


@dataclass(frozen=True)
class AllowList:
    rows: tuple[AllowedQuery, ...]
    facts: Facts

    @staticmethod
    def of(rows: Iterable[AllowedQuery], least_shoppers: int = LEAST_SHOPPERS, until_ms: int = 0) -> "AllowList":
        """The list of those rows that enough shoppers searched."""
        kept = tuple(sorted(row for row in rows if row.shoppers >= least_shoppers))
        return AllowList(kept, Facts(least_shoppers, until_ms, _digest(kept)))

    @staticmethod
    def read(path: str | Path) -> "AllowList":
        """Raises BadAllowList where the file cannot be read, or its rows are not those that it was written with."""
        try:
            table = pq.read_table(path, schema=SCHEMA)
            told = pq.read_schema(path).metadata or {}
            facts = msgspec.json.decode(told[FACTS_KEY], type=Facts)
        except (OSError, pa.ArrowException, msgspec.DecodeError, KeyError) as error:
            raise BadAllowList(f"{path} is no allow-list ({error!r}); make one with `aigq allow-list`") from error
        rows = tuple(map(AllowedQuery, *(table[name].to_pylist() for name in SCHEMA.names)))
        if _digest(rows) != facts.digest or any(normalise(row.text) != row.query for row in rows):
            raise BadAllowList(f"{path}: its rows are not what was counted; make it anew with `aigq allow-list`")
        return AllowList(rows, facts)

    def write(self, path: str | Path) -> None:
        """In one step: a reader sees the old file or the new one."""
        columns = [[getattr(row, name) for row in self.rows] for name in SCHEMA.names]
        table = pa.table(columns, schema=SCHEMA.with_metadata({FACTS_KEY: msgspec.json.encode(self.facts)}))
        arriving = Path(path).with_name(f".{Path(path).name}.arriving")
        # Sorted texts share their beginnings: as differences they take a third.
        encoding = {"query": "DELTA_BYTE_ARRAY", "text": "DELTA_BYTE_ARRAY", "shoppers": "PLAIN"}
        pq.write_table(table, arriving, compression="zstd", use_dictionary=False, column_encoding=encoding)
        arriving.replace(path)

    @cached_property
    def queries(self) -> frozenset[str]:
        """Normal forms of what may be shown."""
        return frozenset(row.query for row in self.rows)


def file_for(choice: str, bundle: str | Path) -> Path | None:
    """Where the list lies that `choice` (auto, none or a file's name) means for a bundle; None: anything may be written."""
    if choice == NONE:
        return None
    if choice != AUTO:
        return Path(choice)
    inside = Path(bundle) / FILE_NAME
    return inside if inside.is_file() else None


class AllowLists:
    """The list of each model that serves, read once and said once. Thread-safe: at worst it is read twice."""

    def __init__(self, choice: str):
        self._choice = choice
        self._of: dict[str, AllowList | None] = {}
        """By the model's path."""

    def of(self, model: ServedModel) -> AllowList | None:
        """None: free generation. Raises BadAllowList."""
        if model.path not in self._of:
            path = file_for(self._choice, model.path)
            found = AllowList.read(path) if path else None
            if found:
                LOG.info(
                    "model %s: lists hold only the %d queries of %s (at least %d shoppers each, digest %.12s)",
                    *(model.version, len(found.rows), path, found.facts.least_shoppers, found.facts.digest),
                )
            else:
                LOG.warning(
                    "model %s writes freely: %s. What one shopper typed may become another's hint; docs/allow-list.md",
                    *(model.version, "--allow_list=none" if self._choice == NONE else "no allow-list in its bundle"),
                )
            self._of[model.path] = found
        return self._of[model.path]


def _digest(rows: Iterable[AllowedQuery]) -> str:
    total = hashlib.sha256()
    for row in rows:
        total.update(f"{row.query}\t{row.text}\t{row.shoppers}\n".encode())
    return total.hexdigest()
