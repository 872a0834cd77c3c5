"""Writes the rows of one shard of shoppers: five files and a note of what was counted, each whole or not there at all.

The note is written last: a shard that has one is done, and is not made again.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import Behaviour
from training.sample_files import BEHAVIOUR, CASES, DIRECT, SCHEMAS, THINK
from transforms.files import write_whole
from transforms.make_samples import Made

SPLITS = ("train", "test")
ROW_GROUP = 4_096


class Counts(msgspec.Struct):
    """Of a shard, or of all."""

    shoppers: int = 0
    events: int = 0
    """Read and decoded."""
    exposures: int = 0
    direct_train: int = 0
    direct_test: int = 0
    think_train: int = 0
    think_test: int = 0
    cases: int = 0
    short_lists: int = 0
    """Samples with fewer labels than a list is long."""
    dropped: dict[str, int] = {}
    """`direct no_feedback` and so on; docs/samples.md says what each means."""

    def plus(self, more: "Counts") -> "Counts":
        numbers = {n: getattr(self, n) + getattr(more, n) for n in self.__struct_fields__ if n != "dropped"}
        dropped = Counter(self.dropped) + Counter(more.dropped)
        return Counts(**numbers, dropped=dict(sorted(dropped.items())))


def write_shard(out: str, shard: int, made: Made, counts: Counts) -> None:
    """Rows as they are: by shopper and time."""
    for split in SPLITS:
        _write(f"{out}/{DIRECT}/split={split}/{shard_name(shard)}.parquet", DIRECT, made.direct[split])
        _write(f"{out}/{THINK}/split={split}/{shard_name(shard)}.parquet", THINK, made.think[split])
    _write(f"{out}/{CASES}/{shard_name(shard)}.parquet", CASES, made.cases)
    write_whole(note_of(out, shard), msgspec.json.format(msgspec.json.encode(counts)))


def shard_name(shard: int) -> str:
    return f"s{shard:03d}"


def note_of(out: str, shard: int) -> str:
    return f"{out}/done/{shard_name(shard)}.json"


def _write(path: str, kind: str, rows: Sequence[Any]) -> None:
    ready = pa.BufferOutputStream()
    pq.write_table(_table(kind, rows), ready, compression="zstd", row_group_size=ROW_GROUP)
    write_whole(path, ready.getvalue())


def _table(kind: str, rows: Sequence[Any]) -> pa.Table:
    schema = SCHEMAS[kind]
    arrays = []
    for each in schema:
        if kind == CASES and each.name != "exposure_id":
            values = [getattr(row.case, each.name) for row in rows]
        else:
            values = [getattr(row, each.name) for row in rows]
        arrays.append(_array(values, each.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: list[Any], type: pa.DataType) -> pa.Array:
    if type == pa.list_(BEHAVIOUR):
        return _behaviours(values)
    if pa.types.is_map(type):
        values = [sorted(profile.items()) for profile in values]
    return pa.array(values, type)


def _behaviours(histories: Sequence[Sequence[Behaviour]]) -> pa.Array:
    """Column by column: as dicts, fifty behaviours a row would take most of the job's time."""
    ends = pa.array([0, *accumulate(map(len, histories))], pa.int32())
    columns = [
        pa.array([getattr(behaviour, each.name) for history in histories for behaviour in history], each.type)
        for each in BEHAVIOUR
    ]
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(columns, fields=list(BEHAVIOUR)))
