"""Microseconds an event for each wire format, by `python -m bench.decode`: whole batches, checked events, one core.

Formats take turns, and the least of several rounds counts: another process on the machine can only make a round slower.
"""

import time

from bench.events import Stream, shopper_events
from schemas import BehaviourEvent
from schemas.codec import Decoder, decoder_for, encoder_for
from schemas.validate import check
from schemas.wire_avro import body_reader, schema_of
from schemas.wire_confluent import SchemaRegistry, event_reader, frame

EVENTS, BATCH, ROUNDS = 20_000, 2_000, 9


def main() -> None:
    events = list(shopper_events(Stream(EVENTS, 500)))
    avro = [encoder_for(BehaviourEvent, "avro")(event) for event in events]
    json = [encoder_for(BehaviourEvent, "json")(event) for event in events]
    registry = SchemaRegistry("http://127.0.0.1:1")
    registry.learn(7, body_reader(BehaviourEvent, schema_of(BehaviourEvent)))
    framed = event_reader(registry)
    ways: dict[str, tuple[Decoder, list[bytes]]] = {
        "json": (decoder_for("json"), json),
        "avro": (decoder_for("avro"), avro),
        "confluent, schema known": (
            Decoder({}, lambda message: checked(framed(message))),
            [frame(7, a[10:]) for a in avro],
        ),
        "auto, json": (decoder_for("auto"), json),
        "auto, avro": (decoder_for("auto"), avro),
    }
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, (decoder, messages) in ways.items():
            began = time.perf_counter()
            for at in range(0, EVENTS, BATCH):
                decoder.decode(messages[at : at + BATCH])
            least[name] = min(least[name], (time.perf_counter() - began) / EVENTS * 1e6)
    for name, us in least.items():
        size = sum(map(len, ways[name][1])) / EVENTS
        print(f"{name:24} {us:5.2f} us an event, {size:4.0f} bytes a message")


def checked(event):
    return check(event) if isinstance(event, BehaviourEvent) else event


if __name__ == "__main__":
    main()
