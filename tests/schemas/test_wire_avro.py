"""Avro: the wire bytes are the specification's, and what was ever written can still be read."""

import json
from pathlib import Path

import fastavro
import pytest

from schemas import Behaviour, BehaviourEvent, Change, DeadLetter, Exposure, Item, QueryRun
from schemas.codec import decoder_for, encoder_for
from schemas.validate import Rejection
from schemas.wire_avro import FOLDER, HISTORY, SCHEMA_NAMES, encoder, fingerprint, parse, reader, schema_of

NOW = 1_780_000_000_000
SEARCH = BehaviourEvent("e1", "u1", "search", NOW, query="red shoes", profile={"gender": "F"})
CLICK = BehaviourEvent(
    "e2", "u1", "click", NOW, item=Item("i1", "Red shoe", "Shoes", {"brand": "A"}), ingest_ms=NOW + 1
)
RECORDS = [
    SEARCH,
    CLICK,
    BehaviourEvent("e3", "u1", "erase", NOW),
    Exposure("x1", "u1", NOW, ("red shoes", "blue shoes"), (1,), "r1"),
    QueryRun("r1", "u1", NOW, ("red shoes",), "m/1", 3, "p1", "t1", ("category Shoes +0.41",), NOW, 1, 2, 3, 4, 5),
    Change(
        *("r1", "u1", NOW, NOW - 2, NOW - 1, 0.4, 1.5, ("term red +0.20",), "t1", {"age": "44"}),
        behaviours=(Behaviour(NOW, 2**48 - 1, "click", "Red shoe", "Shoes"), Behaviour(NOW, 0, "search", "red")),
    ),
    DeadLetter("decode", "bad_json", "why", "behaviour", 3, 17, NOW, raw=bytes(range(256))),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_record_comes_back_as_it_was(record) -> None:
    assert reader(type(record))(encoder(type(record))(record)) == record


def test_the_fingerprint_is_the_specifications() -> None:
    """CRC-64-AVRO of "null" is 63dd24e7cc258f8a (the specification's own table); on the wire its bytes are reversed."""
    assert fingerprint("null") == bytes.fromhex("63dd24e7cc258f8a")[::-1]


def test_a_message_is_magic_fingerprint_and_body() -> None:
    message = encoder(BehaviourEvent)(SEARCH)
    assert message[:2] == b"\xc3\x01"
    assert message[2:10] == fingerprint(schema_of(BehaviourEvent))
    assert message[10:].startswith(b"\x04e1\x04u1\x00")


@pytest.mark.parametrize("record", SCHEMA_NAMES, ids=lambda record: record.__name__)
def test_the_schema_in_use_is_in_the_history(record) -> None:
    """Whoever changes a schema adds the new one here, and keeps the old: messages written with it are still in the log."""
    name = f"{SCHEMA_NAMES[record]}.{fingerprint(schema_of(record)).hex()}.avsc"
    assert (HISTORY / name).is_file(), f"copy schemas/{SCHEMA_NAMES[record]}.avsc to schemas/history/{name}"


@pytest.mark.parametrize("path", sorted(HISTORY.iterdir()), ids=lambda path: path.name)
def test_a_schema_of_the_history_never_changes_and_resolves_to_todays_record(path: Path) -> None:
    name, named_fingerprint, _ = path.name.split(".")
    schema = parse(path.read_text(encoding="utf-8"))
    assert fingerprint(schema).hex() == named_fingerprint
    assert name in SCHEMA_NAMES.values()


@pytest.mark.parametrize("record", SCHEMA_NAMES, ids=lambda record: record.__name__)
def test_schema_and_record_have_the_same_fields_in_the_same_order(record) -> None:
    schema = json.loads((FOLDER / f"{SCHEMA_NAMES[record]}.avsc").read_text(encoding="utf-8"))
    assert tuple(field["name"] for field in schema["fields"]) == record.__struct_fields__
    with_default = {field["name"] for field in schema["fields"] if "default" in field}
    fields_with_default = record.__struct_fields__[len(record.__struct_fields__) - len(record.__struct_defaults__) :]
    assert with_default == set(fields_with_default)


def old_message(history: Path, edit, fields: dict) -> bytes:
    """A message written with yesterday's schema, which `edit` makes of today's and which goes into the history."""
    schema = json.loads((FOLDER / "behaviour_event.avsc").read_text(encoding="utf-8"))
    edit(schema["fields"])
    parsed = parse(json.dumps(schema))
    (history / f"behaviour_event.{fingerprint(parsed).hex()}.avsc").write_text(json.dumps(schema), encoding="utf-8")
    from io import BytesIO

    body = BytesIO()
    fastavro.schemaless_writer(body, parsed, fields)
    return b"\xc3\x01" + fingerprint(parsed) + body.getvalue()


def test_a_message_from_before_a_field_was_added_gets_its_default(tmp_path: Path) -> None:
    def without_profile(fields: list[dict]) -> None:
        del fields[-1]

    fields = {
        "id": "e1",
        "user": "u1",
        "kind": "search",
        "time_ms": NOW,
        "query": "red",
        "item": None,
        "ingest_ms": None,
    }
    message = old_message(tmp_path, without_profile, fields)
    assert reader(BehaviourEvent, tmp_path)(message) == BehaviourEvent(
        "e1", "u1", "search", NOW, query="red", profile={}
    )


def test_a_message_with_a_field_that_was_removed_since_is_read_without_it(tmp_path: Path) -> None:
    def with_device(fields: list[dict]) -> None:
        fields.insert(1, {"name": "device", "type": {"type": "map", "values": "string"}})

    fields = {
        "id": "e1",
        "device": {"os": "x", "app": "y"},
        "user": "u1",
        "kind": "search",
        "time_ms": NOW,
        "query": "red",
    }
    message = old_message(tmp_path, with_device, fields | {"item": None, "ingest_ms": None, "profile": {}})
    assert reader(BehaviourEvent, tmp_path)(message) == BehaviourEvent("e1", "u1", "search", NOW, query="red")


def test_a_schema_that_nobody_kept_is_named(tmp_path: Path) -> None:
    message = old_message(tmp_path, lambda fields: fields.insert(0, {"name": "x", "type": "int"}), {
        "x": 1, "id": "e", "user": "u", "kind": "search", "time_ms": NOW, "query": "q", "item": None, "ingest_ms": None, "profile": {}
    })  # fmt: skip
    rejection = reader(BehaviourEvent)(message)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "unknown_schema"
    assert message[2:10].hex() in rejection.detail


def test_every_cut_of_a_message_is_a_rejection() -> None:
    message = encoder(BehaviourEvent)(CLICK)
    read = reader(BehaviourEvent)
    for length in range(1, len(message)):
        result = read(message[:length])
        assert isinstance(result, Rejection), length
        assert result.reason in {"bad_avro", "unknown_format"}
    assert read(message + b"\x00").reason == "bad_avro"  # type: ignore[union-attr]


def test_the_whole_batch_is_decoded_in_order_whatever_formats_it_mixes() -> None:
    avro, js = encoder_for(BehaviourEvent, "avro"), encoder_for(BehaviourEvent, "json")
    results = decoder_for("auto").decode([avro(SEARCH), js(CLICK), b"\xff", avro(CLICK), b"\n " + js(SEARCH)])
    assert [results[0], results[1], results[3], results[4]] == [SEARCH, CLICK, CLICK, SEARCH]
    assert results[2].reason == "unknown_format"  # type: ignore[union-attr]
