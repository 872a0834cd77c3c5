"""Readers of the shop's own events, for `--mapper`: one of before a new schema, and its mended version that knows both."""

import json

import msgspec

from schemas import BehaviourEvent

before = msgspec.json.Decoder(BehaviourEvent).decode
"""Whatever comes in another schema is a dead letter."""


def in_new_schema(event: dict[str, object]) -> bytes:
    """As a producer sends it that was deployed too early: other names, seconds in place of milliseconds."""
    rest = {name: value for name, value in event.items() if name not in ("id", "user", "time_ms")}
    return json.dumps(
        {"nr": event["id"], "uid": event["user"], "at_s": int(str(event["time_ms"])) / 1000, "rest": rest}
    ).encode()


def mended(record: bytes) -> BehaviourEvent:
    fields = json.loads(record)
    if "nr" in fields:
        fields = {"id": fields["nr"], "user": fields["uid"], "time_ms": round(fields["at_s"] * 1000), **fields["rest"]}
    return msgspec.convert(fields, BehaviourEvent)
