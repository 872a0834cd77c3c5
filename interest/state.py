"""A shopper's state: one small value. Immutable; `fold` makes the next one.

Behaviours are kept as two columns, because they are loaded and saved with every event and read only when a change comes
due: `keys` holds 12 bytes a behaviour (event time and id, 6 bytes each, big endian, so that byte order is time order) and
`texts` one string each. Decoding and encoding a full state takes about 5 us so; as 50 objects it takes 20.
"""

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from schemas import Behaviour

KEY_BYTES = 12
_FIRST_PLACE = ord("!")
_KIND_CODE = {"search": "s", "click": "c"}
_KIND = {code: kind for kind, code in _KIND_CODE.items()}


class State(msgspec.Struct, frozen=True, array_like=True, gc=False):
    partition: int = -1
    """The partition that the shopper's events come in; -1 before the first."""
    offset: int = -1
    """The newest offset folded in: at or below it, nothing is folded again."""
    keys: bytes = b""
    texts: tuple[str, ...] = ()
    """Kind, category (its place in `categories`) and text, the first two one character each."""
    categories: tuple[str, ...] = ("",)
    """Categories of the behaviours; names are long, and a shopper has few."""
    floor: bytes = b""
    """Key of the newest behaviour that was trimmed: at or below it an event is too late to be told from a duplicate."""
    weights: dict[str, float] = {}
    """Interest by part (`#category`, `term`), in units of 2^((time - reference) / half-life): forward decay, so that an
    event touches only its own parts. Only shares of the sum mean anything."""
    reference_ms: int = 0
    base: dict[str, float] = {}
    """Shares (sum 1) at the last firing; empty before the first."""
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


def holds_id(keys: bytes, id: int) -> bool:
    """Whether one of the behaviours has this id."""
    wanted = id.to_bytes(6, "big")
    at = keys.find(wanted)
    while at >= 0 and at % KEY_BYTES != 6:
        at = keys.find(wanted, at + 1)
    return at >= 0


def pack_text(kind: str, category: int, text: str) -> str:
    return f"{_KIND_CODE[kind]}{chr(_FIRST_PLACE + category)}{text}"


def place_of(packed: str) -> int:
    """Place of a packed text's category."""
    return ord(packed[1]) - _FIRST_PLACE


def repack(texts: tuple[str, ...], categories: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts and categories without the categories that no text names any more."""
    used = ("", *dict.fromkeys(categories[place_of(text)] for text in texts if categories[place_of(text)]))
    places = {category: chr(_FIRST_PLACE + place) for place, category in enumerate(used)}
    return tuple(text[0] + places[categories[place_of(text)]] + text[2:] for text in texts), used


def behaviours_of(state: State) -> Iterator[Behaviour]:
    """The behaviours kept, oldest first."""
    for number, packed in enumerate(state.texts):
        key = int.from_bytes(state.keys[number * KEY_BYTES : (number + 1) * KEY_BYTES], "big")
        category = state.categories[place_of(packed)]
        yield Behaviour(key >> 48, key & (1 << 48) - 1, _KIND[packed[0]], packed[2:], category)  # type: ignore[arg-type]
