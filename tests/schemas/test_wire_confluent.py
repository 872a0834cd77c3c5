"""Confluent framing against a registry that speaks its protocol over HTTP."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fastavro
import msgspec
import pytest

from schemas import BehaviourEvent
from schemas.codec import decoder_for
from schemas.validate import Rejection
from schemas.wire_avro import FOLDER, parse
from schemas.wire_confluent import RegistryUnavailable, SchemaRegistry, event_reader, frame

NOW = 1_780_000_000_000
EVENT = BehaviourEvent("e1", "u1", "search", NOW, query="red shoes")
TODAY = (FOLDER / "behaviour_event.avsc").read_text(encoding="utf-8")


@dataclass
class Registry:
    """GET /schemas/ids/N, as the registry's API documents it."""

    url: str = ""
    schemas: dict[int, dict] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    answers_badly: list[int] = field(default_factory=list)
    """Status codes to answer with before it answers well."""


@contextmanager
def serving(registry: Registry) -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            id = int(self.path.rpartition("/")[2])
            status = registry.answers_badly.pop(0) if registry.answers_badly else 200
            if status == 200 and id not in registry.schemas:
                status = 404
            body = registry.schemas[id] if status == 200 else {"error_code": 40403, "message": "Schema not found"}
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        registry.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving(Registry(schemas={7: {"schema": TODAY}})) as running:
        yield running


def body(event: BehaviourEvent, schema: str = TODAY, **more: object) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, parse(schema), msgspec.to_builtins(event) | more)
    return written.getvalue()


def test_a_schema_is_asked_for_once(registry: Registry) -> None:
    decoder = decoder_for("confluent", registry.url)
    assert decoder.decode([frame(7, body(EVENT))] * 100) == [EVENT] * 100
    assert registry.asked == ["/schemas/ids/7"]


def test_auto_reads_framed_messages_where_a_registry_is_set(registry: Registry) -> None:
    message = frame(7, body(EVENT))
    assert decoder_for("auto", registry.url).decode([message]) == [EVENT]
    (rejection,) = decoder_for("auto").decode([message])
    assert rejection == Rejection("unknown_schema", "Confluent framing, but the job has no --schema_registry")


def test_a_producers_own_schema_is_resolved_to_todays_record(registry: Registry) -> None:
    older = json.loads(TODAY)
    older["fields"].insert(0, {"name": "device", "type": "string"})
    del older["fields"][-1]
    registry.schemas[8] = {"schema": json.dumps(older)}
    message = frame(8, body(EVENT, json.dumps(older), device="phone"))
    assert decoder_for("confluent", registry.url).decode([message]) == [EVENT]


def test_json_by_the_registrys_serializer_is_read_too(registry: Registry) -> None:
    registry.schemas[9] = {"schema": "{}", "schemaType": "JSON"}
    assert decoder_for("confluent", registry.url).decode([frame(9, msgspec.json.encode(EVENT))]) == [EVENT]


@pytest.mark.parametrize(
    ("registered", "said"),
    [
        ({"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}, "PROTOBUF"),
        ({"schema": TODAY, "references": [{"name": "x"}]}, "references"),
        ({"schema": "nonsense"}, "cannot be parsed"),
    ],
)
def test_a_schema_that_cannot_be_read_is_a_rejection_that_says_why(
    registry: Registry, registered: dict, said: str
) -> None:
    registry.schemas[10] = registered
    (rejection,) = decoder_for("confluent", registry.url).decode([frame(10, b"x")])
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "unknown_schema"
    assert said in rejection.detail


def test_an_id_that_the_registry_does_not_know_is_asked_for_once_a_minute(registry: Registry) -> None:
    results = decoder_for("confluent", registry.url).decode([frame(404, b"x")] * 50)
    assert results == [Rejection("unknown_schema", "the registry has no schema 404")] * 50
    assert len(registry.asked) == 1


def test_a_registry_that_is_ill_for_a_moment_costs_no_record(registry: Registry) -> None:
    registry.answers_badly = [500, 503]
    assert decoder_for("confluent", registry.url).decode([frame(7, body(EVENT))]) == [EVENT]
    assert len(registry.asked) == 3


def test_a_registry_that_is_away_stops_the_job_in_place_of_dead_letters() -> None:
    read = event_reader(SchemaRegistry("http://secret:word@127.0.0.1:1", deadline_s=0.2))
    with pytest.raises(RegistryUnavailable) as stopped:
        read(frame(7, b"x"))
    assert "127.0.0.1:1" in str(stopped.value)
    assert "word" not in str(stopped.value).replace("password", "")


def test_a_registry_that_refuses_us_is_not_asked_again(registry: Registry) -> None:
    registry.answers_badly = [401]
    with pytest.raises(RegistryUnavailable, match="401"):
        decoder_for("confluent", registry.url).decode([frame(7, b"x")])
    assert len(registry.asked) == 1


@pytest.mark.parametrize(
    "message", [b"\x00", b"\x00\x00\x00", frame(7, b""), frame(7, body(EVENT)[:-1]), frame(7, body(EVENT) + b"\x01")]
)
def test_a_framed_message_that_is_cut_or_too_long_is_a_rejection(registry: Registry, message: bytes) -> None:
    (rejection,) = decoder_for("confluent", registry.url).decode([message])
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "bad_avro"


def test_the_format_without_a_registry_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="--schema_registry"):
        decoder_for("confluent")
    with pytest.raises(ValueError, match="ftp"):
        decoder_for("confluent", "ftp://somewhere")
