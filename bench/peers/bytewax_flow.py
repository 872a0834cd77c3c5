"""The event path on Bytewax: state in the worker's memory.

Durability: none. Without recovery a crash loses all state and reads the topic from the start; no offset guards an update.
Run by bench/event_path.py in the peers' own environment: python -m bench.peers.bytewax_flow BOOTSTRAP TOPIC EVENTS [objects]
With `objects` the state stays a Python object and is never encoded, which only a system that saves nothing can do.
"""

import sys

import bytewax.operators as op  # pyright: ignore[reportMissingImports]
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage  # pyright: ignore[reportMissingImports]
from bytewax.dataflow import Dataflow  # pyright: ignore[reportMissingImports]
from bytewax.outputs import DynamicSink, StatelessSinkPartition  # pyright: ignore[reportMissingImports]
from bytewax.testing import run_main  # pyright: ignore[reportMissingImports]

from bench.decision import Decision
from bench.stopwatch import Measured, Stopwatch, collect_seldom, peak_mb, tell
from interest import EMPTY, Arrival, State
from schemas import BehaviourEvent


class Nothing(StatelessSinkPartition):
    def write_batch(self, items: list) -> None:
        pass


class NoSink(DynamicSink):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> Nothing:
        return Nothing()


def main(bootstrap: str, topic: str, events: int, objects: bool) -> None:
    collect_seldom()
    decision, stopwatch = Decision(), Stopwatch()

    # Decoding and the log clock come before the keyed step: within a batch that step takes shopper by shopper.
    def arrive(message: KafkaSourceMessage) -> tuple[str, tuple[BehaviourEvent, Arrival]]:
        assert message.value is not None
        assert message.partition is not None
        assert message.offset is not None
        stopwatch.read()
        event, arrival = decision.arrive(message.value, message.partition, message.offset)
        return event.user, (event, arrival)

    def decide_bytes(stored: bytes | None, arrived: tuple[BehaviourEvent, Arrival]) -> tuple[bytes, tuple[()]]:
        return decision.next_bytes(stored, *arrived), count()

    def decide_object(stored: State | None, arrived: tuple[BehaviourEvent, Arrival]) -> tuple[State, tuple[()]]:
        return decision.next_state(stored or EMPTY, *arrived), count()

    def count() -> tuple[()]:
        if decision.events == events:
            tell(Measured(decision.events, decision.changes, stopwatch.seconds, peak_mb()))
        return ()

    flow = Dataflow("event_path")
    # Its batches of 1,000 are the default; larger ones were no faster.
    messages = op.input("read", flow, KafkaSource([bootstrap], [topic], tail=False))
    keyed = op.map("arrive by shopper", messages, arrive)
    decided = op.stateful_flat_map("decide", keyed, decide_object if objects else decide_bytes)
    op.output("nothing", decided, NoSink())
    run_main(flow)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:] == ["objects"])
