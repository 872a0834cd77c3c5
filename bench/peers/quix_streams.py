"""The event path on Quix Streams: state in RocksDB, one store a partition, written at each checkpoint.

Durability: RocksDB on local disk at every checkpoint (5 s, its default), then the offsets are committed: at-least-once, and the
fold skips what it has seen. The changelog topic, which would bring the state to another machine, is off: it makes Quix slower.
Run by bench/event_path.py in the peers' own environment: python -m bench.peers.quix_streams BOOTSTRAP TOPIC EVENTS DIR
"""

import sys
import time

from quixstreams import Application, State, message_context  # pyright: ignore[reportMissingImports]

from bench.decision import Decision
from bench.stopwatch import Measured, Stopwatch, collect_seldom, peak_mb, tell


def main(bootstrap: str, topic: str, events: int, state_dir: str) -> None:
    application = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{time.time_ns()}",
        auto_offset_reset="earliest",
        use_changelog_topics=False,
        state_dir=state_dir,
        loglevel="WARNING",
        consumer_extra_config={"fetch.wait.max.ms": 50, "queued.min.messages": 100_000},
    )
    collect_seldom()
    decision, stopwatch = Decision(), Stopwatch()
    saved_after = 0.0

    def decide(value: bytes, state: State) -> None:
        stopwatch.read()
        here = message_context()
        event, arrival = decision.arrive(value, here.partition, here.offset)
        state.set_bytes("state", decision.next_bytes(state.get_bytes("state"), event, arrival))
        if decision.events == events:
            application.stop()

    # The frame's deserializer hands the bytes through; keys stay bytes, as ours do.
    frame = application.dataframe(application.topic(topic, value_deserializer="bytes", key_deserializer="bytes"))
    frame.update(decide, stateful=True)
    commit = application._processing_context.commit_checkpoint

    def commit_and_note(*arguments, **named) -> None:
        nonlocal saved_after
        commit(*arguments, **named)
        saved_after = stopwatch.seconds

    # The last checkpoint is part of the work; closing the consumer group after it is not.
    application._processing_context.commit_checkpoint = commit_and_note
    application.run()
    tell(Measured(decision.events, decision.changes, saved_after, peak_mb()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
