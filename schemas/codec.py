"""Bytes to events and records to bytes, whatever the wire format; the formats themselves are in wire_*.py.

A decoder takes a whole batch and never raises for what a record holds: what cannot be used comes back as a Rejection in
its place. (It raises RegistryUnavailable where a schema registry does not answer: that is not the record's fault.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from schemas import wire_avro, wire_confluent, wire_json, wire_mapper
from schemas.records import BehaviourEvent
from schemas.validate import Rejection, check
from schemas.wire_avro import Record

FORMATS = ("auto", "avro", "confluent", "json")
MOST_BYTES = 64 * 1024
"""A longer record is none of a shopper's behaviours: they take 50 to 500 bytes, and a batch of thousands is held in memory."""
MOST_MAPPED_BYTES = 1_000_000
"""What a mapper reads may be larger: clickstreams carry whole pages of items. Kafka's own default limit."""

Reader = Callable[[bytes], BehaviourEvent | Rejection]


@dataclass(frozen=True)
class Decoder:
    """Reads behaviour events. Made by `decoder_for`."""

    by_first_byte: dict[int, Reader]
    otherwise: Reader
    most_bytes: int = MOST_BYTES

    def decode(self, values: Sequence[bytes | None]) -> list[BehaviourEvent | Rejection]:
        """One result a value, in order: a checked event, or why there is none."""
        return [self._read(value) for value in values]

    def _read(self, value: bytes | None) -> BehaviourEvent | Rejection:
        if not value:
            return Rejection("empty", "a record without a value" if value is None else "a value of 0 bytes")
        if len(value) > self.most_bytes:
            return Rejection("too_large", f"{len(value)} bytes, more than {self.most_bytes}")
        return self.by_first_byte.get(value[0], self.otherwise)(value)


def decoder_for(format: str = "auto", schema_registry: str = "", mapper: str = "") -> Decoder:
    """The decoder of a wire format.

    format           avro (single-object), confluent (framed; needs `schema_registry`, a URL), json, or auto: by the first byte.
    mapper           module:function that reads your own events; `format` is then ignored.

    Raises ValueError with what is wrong: an unknown format, no registry, a mapper that cannot be imported.
    """
    if mapper:
        read = wire_mapper.event_reader(wire_mapper.load_mapper(mapper))
        return Decoder({}, _checked(read), MOST_MAPPED_BYTES)
    if format not in FORMATS:
        raise ValueError(f"--format is one of {', '.join(FORMATS)}, got {format!r}")
    if format == "confluent" and not schema_registry:
        raise ValueError("--format=confluent needs --schema_registry=URL")
    json = wire_json.event_reader()
    if format == "json":
        return Decoder({}, json)
    avro = _checked(wire_avro.reader(BehaviourEvent))
    if format == "avro":
        return Decoder({}, avro)
    if schema_registry:
        framed = _checked(wire_confluent.event_reader(wire_confluent.SchemaRegistry(schema_registry)))
        if format == "confluent":
            return Decoder({}, framed)
    else:
        framed = _no_registry
    return Decoder(dict.fromkeys(wire_json.FIRST_BYTES, json) | {0: framed, wire_avro.MAGIC[0]: avro}, _no_format)


def encoder_for(record: type[Record], format: str = "avro") -> Callable[[Record], bytes]:
    """Record to message: `avro` (single-object) or `json`. Raises ValueError for another format."""
    if format == "avro":
        return wire_avro.encoder(record)
    if format == "json":
        return msgspec.json.Encoder().encode
    raise ValueError(f"records are written as avro or json, not {format!r}")


def _checked(read: Reader) -> Reader:
    def read_and_check(message: bytes) -> BehaviourEvent | Rejection:
        event = read(message)
        return event if type(event) is Rejection else check(event)

    return read_and_check


def _no_registry(message: bytes) -> Rejection:
    return Rejection("unknown_schema", "Confluent framing, but the job has no --schema_registry")


def _no_format(message: bytes) -> Rejection:
    return Rejection(
        "unknown_format", f"begins with {message[:4].hex(' ')}: neither JSON nor Avro; is a --mapper missing?"
    )
