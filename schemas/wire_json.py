"""JSON: one object a message, its fields named as the record's are. Unknown fields are left out, missing ones take defaults."""

from collections.abc import Callable

import msgspec

from schemas.records import BehaviourEvent
from schemas.validate import Rejection, check

FIRST_BYTES = b"{ \t\r\n"
"""How a JSON object may begin."""


def event_reader() -> Callable[[bytes], BehaviourEvent | Rejection]:
    """Message to checked event."""
    decode = msgspec.json.Decoder(BehaviourEvent).decode

    def read(message: bytes) -> BehaviourEvent | Rejection:
        try:
            return check(decode(message))
        except msgspec.ValidationError as error:
            return Rejection("wrong_shape", str(error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Rejection("bad_json", str(error))

    return read
