"""Whatever bytes stand in the log, decoding returns an event that is fit to be folded, or a rejection that has a reason."""

import io
from functools import cache

import fastavro
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import BehaviourEvent, Item
from schemas.codec import Decoder, decoder_for, encoder_for
from schemas.validate import FIRST_MS, LAST_MS, MOST_FIELDS, MOST_ID, MOST_NAME, MOST_QUERY, Rejection, check
from schemas.wire_avro import schema_of
from schemas.wire_mapper import event_reader
from transforms.dead_letters import REASONS

# Any code points, half surrogates too: a mapper may hand them over.
any_text = st.text(st.characters(exclude_categories=()), max_size=40)
text = st.text(max_size=40)
texts = st.dictionaries(text, text, max_size=20)
times = st.integers(-(2**63), 2**63 - 1) | st.integers(FIRST_MS, LAST_MS)


def events(text: st.SearchStrategy[str]) -> st.SearchStrategy[BehaviourEvent]:
    texts = st.dictionaries(text, text, max_size=20)
    items = st.builds(Item, text, text, text, texts)
    return st.builds(
        BehaviourEvent,
        text,
        text,
        st.sampled_from(["search", "click", "erase"]),
        times,
        text,
        st.none() | items,
        st.none() | times,
        texts,
    )


@cache
def decoders() -> dict[str, Decoder]:
    return {format: decoder_for(format) for format in ("auto", "avro", "json")}


def is_fit(result: BehaviourEvent | Rejection) -> None:
    if isinstance(result, Rejection):
        assert result.reason in REASONS
        assert len(result.detail) < 2_000
        return
    assert 0 < len(result.id) <= MOST_ID
    assert 0 < len(result.user) <= MOST_ID
    assert FIRST_MS <= result.time_ms <= LAST_MS
    written = [result.id, result.user, *result.profile, *result.profile.values()]
    if result.kind == "search":
        assert 0 < len(result.query) <= MOST_QUERY
        assert result.query == result.query.strip()
        written.append(result.query)
    if result.kind == "click":
        assert result.item is not None
        assert result.item.title.strip()
        assert len(result.item.category) <= MOST_NAME
        assert len(result.item.attributes) <= MOST_FIELDS
        written += [result.item.id, result.item.title, result.item.category]
        written += [*result.item.attributes, *result.item.attributes.values()]
    for each in written:
        each.encode()
        assert not any(ord(character) < 32 for character in each)


@given(st.lists(st.none() | st.binary(max_size=200), max_size=5))
def test_any_bytes(values: list[bytes | None]) -> None:
    for format in ("auto", "avro", "json"):
        results = decoders()[format].decode(values)
        assert len(results) == len(values)
        for result in results:
            is_fit(result)


@given(events(text), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
def test_a_message_damaged_anywhere(event: BehaviourEvent, data: st.DataObject) -> None:
    for format in ("avro", "json"):
        message = bytearray(encoder_for(BehaviourEvent, format)(event))
        at = data.draw(st.integers(0, len(message) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip":
                message[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del message[at : at + data.draw(st.integers(1, 20))]
            case "insert":
                message[at:at] = data.draw(st.binary(min_size=1, max_size=20))
            case "repeat":
                message += message[at:]
        for result in decoders()["auto"].decode([bytes(message)]):
            is_fit(result)


@given(st.binary(max_size=200))
def test_any_avro_body(body: bytes) -> None:
    header = encoder_for(BehaviourEvent)(BehaviourEvent("", "", "erase", 0))[:10]
    is_fit(decoders()["avro"].decode([header + body])[0])


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | text, lambda inner: st.lists(inner) | st.dictionaries(text, inner)))  # fmt: skip
def test_any_json(value: object) -> None:
    try:
        message = msgspec.json.encode(value)
    except OverflowError:
        return
    is_fit(decoders()["json"].decode([message])[0])


@given(events(text))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_all_formats_read_an_event_alike(event: BehaviourEvent) -> None:
    avro, js = (decoders()[f].decode([encoder_for(BehaviourEvent, f)(event)])[0] for f in ("avro", "json"))
    written = io.BytesIO()
    fastavro.schemaless_writer(written, schema_of(BehaviourEvent), msgspec.to_builtins(event))
    assert avro == js == check(event)
    is_fit(avro)


@given(events(any_text))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_event_of_a_mapper(event: BehaviourEvent) -> None:
    is_fit(Decoder({}, lambda message: _checked(event_reader(lambda _: event)(message))).decode([b"x"])[0])


def test_nesting_without_end() -> None:
    for message in (b'{"a":' * 10_000, b"[" * 60_000, b'{"profile":' + b"[" * 30_000):
        is_fit(decoders()["json"].decode([message])[0])


def _checked(result: BehaviourEvent | Rejection) -> BehaviourEvent | Rejection:
    return result if isinstance(result, Rejection) else check(result)
