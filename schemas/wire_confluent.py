"""Confluent framing: a zero byte, four bytes that name a schema in a registry (big endian), and the body.

The registry is asked once for each schema. A registry that does not answer is no fault of the record: the call is repeated,
and then the job stops (RegistryUnavailable) instead of writing good records off as dead letters.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import msgspec

from schemas.records import BehaviourEvent
from schemas.validate import Rejection
from schemas.wire_avro import body_reader, parse

LOG = logging.getLogger(__name__)

HEADER_BYTES = 5
NOT_FOUND_S = 60.0
"""A schema that the registry did not know is asked for again after this time: it may have been registered since."""
MOST_NOT_FOUND = 10_000
"""Unknown ids remembered. A topic of noise in place of events would otherwise fill the memory with them."""

BodyReader = Callable[[bytes, int], BehaviourEvent | Rejection]


class RegistryUnavailable(Exception):
    """The schema registry did not answer, or refused us. Check --schema_registry and the registry's health."""


class _RegisteredSchema(msgspec.Struct):
    """Answer of GET /schemas/ids/N."""

    schema: str
    schemaType: str = "AVRO"
    references: list[msgspec.Raw] = []


@dataclass
class SchemaRegistry:
    """Schemas by id, from a registry that speaks Confluent's API. One per process: it keeps what it has learnt."""

    url: str
    """http(s)://host:port; may carry user:password@."""
    deadline_s: float = 60.0
    """How long a call is repeated before the job gives up."""
    _readers: dict[int, BodyReader] = field(default_factory=dict)
    _not_found: dict[int, tuple[float, Rejection]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if httpx.URL(self.url).scheme not in {"http", "https"}:
            raise ValueError(f"--schema_registry is http(s)://host:port, got {self.url!r}")
        self._client = httpx.Client(base_url=self.url, timeout=5.0)

    def reader(self, id: int) -> BodyReader | Rejection:
        """How to read a body that was written with schema `id`. Raises RegistryUnavailable."""
        found = self._readers.get(id)
        if found is not None:
            return found
        until, rejection = self._not_found.get(id, (0.0, None))
        if rejection is not None and time.monotonic() < until:
            return rejection
        answer = self._ask(id)
        if isinstance(answer, Rejection):
            if len(self._not_found) >= MOST_NOT_FOUND:
                self._not_found.clear()
            self._not_found[id] = (time.monotonic() + NOT_FOUND_S, answer)
            return answer
        self._readers[id] = answer
        return answer

    def learn(self, id: int, reader: BodyReader) -> None:
        """Takes a schema as known, without asking."""
        self._readers[id] = reader

    def _ask(self, id: int) -> BodyReader | Rejection:
        give_up, pause = time.monotonic() + self.deadline_s, 0.1
        while True:
            try:
                answer = self._client.get(f"/schemas/ids/{id}")
                if answer.status_code == httpx.codes.OK:
                    return _reader(id, msgspec.json.decode(answer.content, type=_RegisteredSchema))
                trouble = f"it answered {answer.status_code}"
            except (httpx.TransportError, msgspec.DecodeError) as error:
                answer, trouble = None, f"{type(error).__name__}: {error}"
            if answer is not None and answer.status_code == httpx.codes.NOT_FOUND:
                return Rejection("unknown_schema", f"the registry has no schema {id}")
            refused = answer is not None and answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}
            if refused or time.monotonic() >= give_up:
                where = httpx.URL(self.url)
                raise RegistryUnavailable(
                    f"asked {where.scheme}://{where.netloc.decode()}{where.path} for schema {id}: {trouble}. "
                    f"Check --schema_registry (user and password included) and the registry's health; nothing is lost."
                )
            LOG.warning("schema registry, schema %d: %s; asking again in %.1f s", id, trouble, pause)
            time.sleep(pause)
            pause = min(pause * 2, 5.0)


def event_reader(registry: SchemaRegistry) -> Callable[[bytes], BehaviourEvent | Rejection]:
    """Framed message to event."""

    def read(message: bytes) -> BehaviourEvent | Rejection:
        if message[0]:
            return Rejection("unknown_format", f"begins with {message[:1].hex()}, a framed message with 00")
        if len(message) < HEADER_BYTES:
            return Rejection("bad_avro", f"{len(message)} bytes are less than a header of {HEADER_BYTES}")
        read_body = registry.reader(int.from_bytes(message[1:HEADER_BYTES], "big"))
        return read_body if isinstance(read_body, Rejection) else read_body(message, HEADER_BYTES)

    return read


def frame(schema_id: int, body: bytes) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big") + body


def _reader(id: int, registered: _RegisteredSchema) -> BodyReader | Rejection:
    if registered.schemaType == "JSON":
        return _json_body
    if registered.schemaType != "AVRO" or registered.references:
        kind = "with references" if registered.references else f"of type {registered.schemaType}"
        return Rejection("unknown_schema", f"schema {id} is one {kind}; read it with a --mapper of your own")
    try:
        return body_reader(BehaviourEvent, parse(registered.schema))
    except Exception as error:  # a registry takes what fastavro does not; all its kinds of complaint mean the same here
        return Rejection("unknown_schema", f"schema {id} cannot be parsed: {error}"[:500])


_decode_json = msgspec.json.Decoder(BehaviourEvent).decode


def _json_body(message: bytes, start: int) -> BehaviourEvent | Rejection:
    try:
        return _decode_json(memoryview(message)[start:])
    except msgspec.ValidationError as error:
        return Rejection("wrong_shape", str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejection("bad_json", str(error))
