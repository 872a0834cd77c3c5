"""What became of dead letters: written by operators' commands, beside the letters, which stay in Kafka as they are.

A letter that is not named here is open.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from store.calls import Calls
from store.layout import LETTERS

AT_ONCE = 1_000


class LetterFate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was done with the record or the output of a letter, by the id of its first letter."""

    status: Literal["redriven", "discarded"]
    time_ms: int
    """Wall clock of the newest step."""
    redrives: int = 0
    """How often it was given again."""
    places: tuple[str, ...] = ()
    """Where it went, oldest first, as ids of the letters that it would become there (`TOPIC/PARTITION/OFFSET`, `run/RUN_ID`)."""
    operation: str = ""
    """Of the newest step; see `aigq runs show`."""
    why: str = ""
    """The operator's words at a discard."""


class LetterRegistry:
    """The fates of a store's letters."""

    def __init__(self, calls: Calls):
        self._calls = calls

    def all(self) -> dict[str, LetterFate]:
        fates: dict[str, LetterFate] = {}
        cursor = b""
        while cursor != b"0":
            cursor, found = self._calls.one("letters", "HSCAN", LETTERS, cursor or 0, "COUNT", AT_ONCE)
            cursor = cursor if isinstance(cursor, bytes) else str(cursor).encode()
            pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
            fates |= {id.decode(): _fate(value) for id, value in pairs}
        return fates

    def get(self, id: str) -> LetterFate | None:
        value = self._calls.one("letters", "HGET", LETTERS, id)
        return _fate(value) if value else None

    def note(self, fates: Mapping[str, LetterFate]) -> None:
        """Keeps the fates of some hundreds of letters, in one call."""
        if fates:
            pairs = [part for id, fate in fates.items() for part in (id, msgspec.json.encode(fate))]
            self._calls.one("letters", "HSET", LETTERS, *pairs)

    def forget(self, ids: Sequence[str]) -> None:
        """Removes fates. A letter that Kafka still holds would be open again: only of letters that are gone."""
        for first in range(0, len(ids), AT_ONCE):
            self._calls.one("letters", "HDEL", LETTERS, *ids[first : first + AT_ONCE])


_fate = msgspec.json.Decoder(LetterFate).decode
