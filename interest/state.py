"""A shopper's state: one small value. Immutable; `fold` makes the next one.

It is loaded and saved with every event, and read as a whole only when a change comes due. So it is a few long values and
not a hundred short ones: behaviours are rows of 16 bytes and one string of all texts, the interest is one string of all
names and a row of doubles. Decoding and encoding a state of 20 behaviours takes 0.4 us so, as objects and dicts 6 us.
"""

import sys
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct

import msgspec

from schemas import Behaviour

ROW_BYTES, KEY_BYTES = 16, 12
"""A row: event time and id (6 bytes each, big endian, so that byte order is time order: its key), kind, place of the
category, number of characters of the text."""
_ROW = Struct(">HIHIBBH")
_REST = Struct(">BBH")
_KINDS = ("search", "click")

if sys.byteorder != "little":
    raise ImportError("a shopper's weights are stored as little-endian doubles, and this machine is big-endian")


class State(msgspec.Struct, frozen=True, array_like=True, gc=False):
    partition: int = -1
    """The partition that the shopper's events come in; -1 before the first."""
    offset: int = -1
    """The newest offset folded in: at or below it, nothing is folded again."""
    rows: bytes = b""
    """A row each behaviour, oldest first."""
    texts: str = ""
    """The behaviours' texts in the same order, one after the other."""
    categories: tuple[str, ...] = ("",)
    """Categories of the behaviours; names are long, and a shopper has few."""
    floor: bytes = b""
    """Key of the newest behaviour that was trimmed: at or below it an event is too late to be told from a duplicate."""
    parts: str = ""
    """Names of the interest's parts (`#category`, `term`), each between line feeds."""
    weights: bytes = b""
    """A double a part, in units of 2^((time - reference) / half-life): forward decay, so that an event touches only its own
    parts. Only shares of the sum mean anything. 0: not held any more, and kept for its base."""
    base: bytes = b""
    """A double for each of the first parts: shares (sum 1) at the last firing; empty before the first."""
    reference_ms: int = 0
    evidence: float = 0.0
    """Decayed weight of the events since the last firing."""
    started_ms: int = 0
    """Log clock of the event that began the forming change; 0 where none forms."""
    newest_ms: int = 0
    """Log clock of the newest event in the forming change."""
    fired_ms: int = 0
    """As-of of the last firing; 0 before the first."""
    profile: dict[str, str] = {}
    erased_ms: int = 0
    """Log clock at which the shopper asked to be forgotten; 0 if never."""
    broken_at: int = -1
    """Offset of a record that broke the fold: the shopper is quarantined from there on; -1 for everyone else."""


EMPTY = State()

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(State).decode


def behaviour_id(event_id: str) -> int:
    """48 bits that stand for an event's id among one shopper's behaviours."""
    return int.from_bytes(blake2b(event_id.encode(), digest_size=6).digest(), "big")


def key_of(time_ms: int, id: int) -> bytes:
    return (time_ms << 48 | id).to_bytes(KEY_BYTES, "big")


def row_of(key: bytes, kind: str, category: int, text: str) -> bytes:
    return key + _REST.pack(_KINDS.index(kind), category, len(text))


def holds_id(rows: bytes, key: bytes) -> bool:
    """Whether one of the behaviours has the id of this key."""
    id = key[6:]
    at = rows.find(id)
    while at >= 0 and at % ROW_BYTES != 6:
        at = rows.find(id, at + 1)
    return at >= 0


def characters(rows: bytes) -> int:
    """How long the texts of these rows are together."""
    return sum(length for *_, length in _ROW.iter_unpack(rows))


def without_unused(rows: bytes, categories: tuple[str, ...]) -> tuple[bytes, tuple[str, ...]]:
    """Rows and categories without the categories that no row names any more."""
    places = rows[13::ROW_BYTES]
    used = ("", *dict.fromkeys(categories[place] for place in places if categories[place]))
    moved = bytearray(rows)
    moved[13::ROW_BYTES] = bytes(used.index(categories[place]) for place in places)
    return bytes(moved), used


def behaviours_of(state: State) -> Iterator[Behaviour]:
    """The behaviours kept, oldest first."""
    texts, categories, at = state.texts, state.categories, 0
    for time_high, time_low, id_high, id_low, kind, category, length in _ROW.iter_unpack(state.rows):
        text = texts[at : at + length]
        at += length
        time, id = time_high << 32 | time_low, id_high << 32 | id_low
        yield Behaviour(time, id, _KINDS[kind], text, categories[category])  # type: ignore[arg-type]


def interest_of(state: State) -> dict[str, tuple[float, float]]:
    """part -> its share of the interest (at the last firing, now); the parts that have neither are left out."""
    weights, base = array("d", state.weights), array("d", state.base)
    total = sum(weights) or 1.0
    base.extend([0.0] * (len(weights) - len(base)))
    names = state.parts.split("\n")[1:-1]
    return {name: (then, w / total) for name, then, w in zip(names, base, weights, strict=True) if then or w}
