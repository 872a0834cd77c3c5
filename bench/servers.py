"""The real servers that a benchmark runs against, in a folder that goes with them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.kafka import Kafka, kafka
from local.scratch import scratch
from local.valkey import Valkey, valkey


@dataclass(frozen=True)
class Servers:
    kafka: Kafka
    valkey: Valkey
    folder: Path


@contextmanager
def servers() -> Iterator[Servers]:
    """A Kafka broker, and Valkey with an append-only file (fsync each second): what a deployment would keep its states in."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch("aigq-bench-"))
        broker = stack.enter_context(kafka(folder / "kafka"))
        store = stack.enter_context(valkey(folder / "valkey", append_only=True))
        yield Servers(broker, store, folder)
