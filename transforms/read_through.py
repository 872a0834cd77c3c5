"""Reads a bounded part of the log from end to end in this process, without a runner: for counting and for single shoppers."""

import time
from collections.abc import Iterator

from apache_beam.utils.timestamp import MAX_TIMESTAMP

from transforms.batches import RecordBatch
from transforms.read_events import LogSource
from transforms.read_plan import ReadPlan, ReadSettings


def read_through(
    settings: ReadSettings, plan: ReadPlan, partitions: tuple[int, ...] | None = None
) -> Iterator[RecordBatch]:
    """Batches of all partitions (or of those named), each partition in offset order, up to `plan.ends`. Raises ReadRefused."""
    reader = LogSource(settings, plan, partitions or tuple(range(plan.partitions))).create_reader(None, None)
    while reader.get_watermark() != MAX_TIMESTAMP:
        if reader.advance():
            yield reader.get_current()
        else:
            time.sleep(0.005)
