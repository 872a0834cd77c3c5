"""The columns of archived records: the bytes that replays decode again, and their fields for people who ask with DuckDB.

A field is null where the record could not be decoded: an archive takes every record, a dead one too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgspec
import pyarrow as pa

from schemas import Exposure, QueryRun
from schemas.codec import Decoder
from schemas.validate import Rejection
from schemas.wire_avro import MAGIC, reader
from schemas.wire_json import FIRST_BYTES
from transforms.batches import RecordBatch
from transforms.decode_events import LogClock, with_ingest_time

LOG_FIELDS = [("partition", pa.int32()), ("offset", pa.int64()), ("append_ms", pa.int64()), ("clock_ms", pa.int64())]
TEXTS = pa.list_(pa.string())

EVENT_SCHEMA = pa.schema(
    [
        *LOG_FIELDS,
        ("value", pa.binary()),
        ("id", pa.string()),
        ("user", pa.string()),
        ("kind", pa.string()),
        ("time_ms", pa.int64()),
        ("query", pa.string()),
        ("item_title", pa.string()),
        ("item_category", pa.string()),
    ]
)
EXPOSURE_FIELDS = [
    ("id", pa.string()),
    ("user", pa.string()),
    ("time_ms", pa.int64()),
    ("hints", TEXTS),
    ("clicked", pa.list_(pa.int32())),
    ("run_id", pa.string()),
    ("ranked", TEXTS),
    ("scores", pa.list_(pa.float64())),
    ("propensities", pa.list_(pa.float64())),
]
QUERY_RUN_FIELDS = [
    ("run_id", pa.string()),
    ("user", pa.string()),
    ("as_of_ms", pa.int64()),
    ("queries", TEXTS),
    ("model_version", pa.string()),
    ("promotion", pa.int64()),
    ("prompt_version", pa.string()),
    ("trigger_version", pa.string()),
    ("reasons", TEXTS),
    ("newest_ms", pa.int64()),
    ("claimed_ms", pa.int64()),
    ("generated_ms", pa.int64()),
    ("stored_ms", pa.int64()),
    ("prompt_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
]

Clocks = list[int]
"""Log clock at each record: the running maximum, so it never goes back."""


@dataclass(frozen=True)
class Columns:
    """How the records of one set become rows."""

    schema: pa.Schema
    dictionary: list[str]
    """Columns whose values repeat."""
    rows: Callable[[RecordBatch, int], tuple[pa.RecordBatch, Clocks]]
    """A batch of records and the log clock before it."""


def event_columns(decoder: Decoder, log_clock: LogClock) -> Columns:
    def rows(batch: RecordBatch, clock_ms: int) -> tuple[pa.RecordBatch, Clocks]:
        results = decoder.decode(batch.values)
        if log_clock == "ingest_ms":
            results = [with_ingest_time(*pair) for pair in zip(results, batch.ingest_ms, strict=True)]
            times = [getattr(result, "ingest_ms", 0) for result in results]
        else:
            times = batch.ingest_ms
        clocks = _clocks(times, clock_ms)
        fields = [
            _NO_EVENT
            if type(each) is Rejection
            else (each.id, each.user, each.kind, each.time_ms, each.query, *_item(each.item))
            for each in results
        ]
        of_log = _log_arrays(batch, clocks)
        texts = zip(*fields, strict=True) if fields else [()] * len(_NO_EVENT)
        arrays = [
            pa.array(column, field.type) for column, field in zip(texts, list(EVENT_SCHEMA)[len(of_log) :], strict=True)
        ]
        return pa.RecordBatch.from_arrays([*of_log, *arrays], schema=EVENT_SCHEMA), clocks

    return Columns(EVENT_SCHEMA, ["partition", "user", "kind", "query", "item_title", "item_category"], rows)


def exposure_columns() -> Columns:
    return _record_columns(Exposure, EXPOSURE_FIELDS, ["partition", "user"])


def query_run_columns() -> Columns:
    repeat = ["partition", "user", "model_version", "promotion", "prompt_version", "trigger_version"]
    return _record_columns(QueryRun, QUERY_RUN_FIELDS, repeat)


def _record_columns(record: Any, fields: list[tuple[str, pa.DataType]], dictionary: list[str]) -> Columns:
    schema = pa.schema([*LOG_FIELDS, ("value", pa.binary()), *fields])
    read, names = _reader(record), [name for name, _ in fields]

    def rows(batch: RecordBatch, clock_ms: int) -> tuple[pa.RecordBatch, Clocks]:
        clocks = _clocks(batch.ingest_ms, clock_ms)
        results = [read(value) for value in batch.values]
        arrays = [
            pa.array([None if each is None else getattr(each, name) for each in results], kind) for name, kind in fields
        ]
        return pa.RecordBatch.from_arrays([*_log_arrays(batch, clocks), *arrays], schema=schema), clocks

    assert set(names) <= set(record.__struct_fields__)
    return Columns(schema, dictionary, rows)


def _reader(record: Any) -> Callable[[bytes | None], Any]:
    """A record's value as Avro (single-object) or JSON; None where it is neither."""
    avro, json = reader(record), msgspec.json.Decoder(record)

    def read(value: bytes | None) -> Any:
        if value and value.startswith(MAGIC):
            result = avro(value)
            return None if type(result) is Rejection else result
        if value and value[0] in FIRST_BYTES:
            try:
                return json.decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # kept as bytes, like any dead record
                return None
        return None

    return read


def _clocks(times: Sequence[int], clock_ms: int) -> Clocks:
    return list(accumulate(times, max, initial=clock_ms))[1:]


def _log_arrays(batch: RecordBatch, clocks: Clocks) -> list[pa.Array]:
    return [
        pa.array([batch.partition] * len(clocks), pa.int32()),
        pa.array(batch.offsets, pa.int64()),
        pa.array(batch.ingest_ms, pa.int64()),
        pa.array(clocks, pa.int64()),
        pa.array(batch.values, pa.binary()),
    ]


_NO_EVENT = (None,) * 7


def _item(item: Any) -> tuple[str, str] | tuple[None, None]:
    return (item.title, item.category) if item else (None, None)
