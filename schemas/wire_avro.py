"""Avro: the schemas of the records, and single-object encoding (Avro specification, "Single-object encoding").

A message is C3 01, eight bytes that name the writer's schema (CRC-64-AVRO of its canonical form, little endian), and the
body. `schemas/*.avsc` are today's schemas, `schemas/history/` holds every one that was ever in use, under its fingerprint:
what was written with one of them is read into today's record, new fields with their defaults, removed ones left out.
"""

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import fastavro
import msgspec
from fastavro.schema import fingerprint as schema_fingerprint
from fastavro.schema import to_parsing_canonical_form

from schemas.records import Behaviour, BehaviourEvent, Change, DeadLetter, Exposure, QueryRun
from schemas.validate import Rejection

MAGIC = b"\xc3\x01"
HEADER_BYTES = 10
FOLDER = Path(__file__).parent
HISTORY = FOLDER / "history"

Schema: TypeAlias = Any
"""A schema as fastavro has parsed it."""
Record: TypeAlias = BehaviourEvent | Change | DeadLetter | Exposure | QueryRun
R = TypeVar("R", BehaviourEvent, Change, DeadLetter, Exposure, QueryRun)

SCHEMA_NAMES: dict[type[Record], str] = {
    BehaviourEvent: "behaviour_event",
    Exposure: "exposure",
    QueryRun: "query_run",
    Change: "change",
    DeadLetter: "dead_letter",
}


@cache
def schema_of(record: type[Record]) -> Schema:
    """Today's schema of a record."""
    return parse((FOLDER / f"{SCHEMA_NAMES[record]}.avsc").read_text(encoding="utf-8"))


def parse(text: str) -> Schema:
    """Raises fastavro.schema.SchemaParseException, or ValueError for what is not even JSON."""
    return fastavro.parse_schema(json.loads(text))


def fingerprint(schema: Schema) -> bytes:
    """The eight bytes that name a schema, in the order in which they stand in a message."""
    return bytes.fromhex(schema_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def encoder(record: type[Record]) -> Callable[[Record], bytes]:
    """Record to single-object message."""
    schema = schema_of(record)
    header = MAGIC + fingerprint(schema)

    def encode(value: Record) -> bytes:
        message = io.BytesIO()
        message.write(header)
        fastavro.schemaless_writer(message, schema, _plain(value))
        return message.getvalue()

    return encode


def reader(record: type[R], history: Path = HISTORY) -> Callable[[bytes], R | Rejection]:
    """Single-object message to record, whichever known schema wrote it."""
    schemas = [schema_of(record)]
    schemas += [
        parse(path.read_text(encoding="utf-8")) for path in sorted(history.glob(f"{SCHEMA_NAMES[record]}.*.avsc"))
    ]
    bodies = {fingerprint(schema): body_reader(record, schema) for schema in schemas}
    # Today's schema is in the history too; read without resolution it costs half.
    bodies[fingerprint(schemas[0])] = body_reader(record, schemas[0])

    def read(message: bytes) -> R | Rejection:
        if not message.startswith(MAGIC):
            return Rejection("unknown_format", f"begins with {message[:2].hex(' ')}, an Avro message with c3 01")
        if len(message) < HEADER_BYTES:
            return Rejection("bad_avro", f"{len(message)} bytes are less than a header of {HEADER_BYTES}")
        read_body = bodies.get(message[2:HEADER_BYTES])
        if read_body is None:
            known = ", ".join(sorted(name.hex() for name in bodies))
            return Rejection("unknown_schema", f"fingerprint {message[2:HEADER_BYTES].hex()}; known are {known}")
        return read_body(message, HEADER_BYTES)

    return read


def body_reader(record: type[R], writer: Schema) -> Callable[[bytes, int], R | Rejection]:
    """Reads the body that starts at an offset of a message, written with schema `writer`."""
    today = schema_of(record)
    resolved_to = None if fingerprint(writer) == fingerprint(today) else today
    read_body, stream = fastavro.schemaless_reader, io.BytesIO
    build: Callable[[Any, type[R]], R] = _build_change if record is Change else msgspec.convert  # type: ignore[assignment]

    def read(message: bytes, start: int) -> R | Rejection:
        body = stream(message)
        body.seek(start)
        try:
            record_fields = read_body(body, writer, resolved_to)
        except (
            Exception
        ) as error:  # fastavro documents none: EOFError, IndexError, UnicodeDecodeError, SchemaResolutionError ...
            return Rejection("bad_avro", f"{type(error).__name__}: {error}"[:500])
        if body.tell() != len(message):
            return Rejection("bad_avro", f"{len(message) - body.tell()} bytes after the record's end")
        try:
            return build(record_fields, record)
        except msgspec.ValidationError as error:
            return Rejection("wrong_shape", str(error))

    return read


def _build_change(fields: dict[str, Any], record: type[Change]) -> Change:
    # msgspec knows a behaviour as an array (as the store keeps it), Avro as a record.
    rows = [[behaviour[name] for name in Behaviour.__struct_fields__] for behaviour in fields["behaviours"]]
    return msgspec.convert(fields | {"behaviours": rows}, record)


def _plain(value: Any) -> Any:
    """What fastavro writes: records as dicts, whatever msgspec's own encoding of them is."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value
