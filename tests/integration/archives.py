"""Archiving a topic in this process, as the job does it, and what the files then hold."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from apache_beam.utils.timestamp import MAX_TIMESTAMP

from schemas.codec import decoder_for
from tests.integration.reading import Reading
from transforms.archive import Archiver, Rolling
from transforms.archive_columns import event_columns
from transforms.archive_layout import EVENTS, files_of
from transforms.read_plan import ReadSettings, plan_read
from transforms.rewinds import REWINDS
from transforms.shared_log import hint_offsets


def read_all(settings: ReadSettings, **plan_arguments: Any) -> Reading:
    """Reads a bounded log to its end."""
    reading = Reading(settings, plan_read(settings, **plan_arguments))
    reading.until(lambda: reading.reader.get_watermark() == MAX_TIMESTAMP)
    return reading


def archive_now(root: Path, bootstrap: str, topic: str, rolling: Rolling = Rolling(), **changed: Any) -> None:
    """What `aigq run archive --end=now` does with events, without a runner."""
    settings = ReadSettings({"bootstrap.servers": bootstrap}, topic, start="applied", end="now")
    settings = replace(settings, **changed)
    reading = Reading(settings, plan_read(settings, lambda: ends_of(root)))
    columns = event_columns(decoder_for(), settings.log_clock)
    writer = Archiver(str(root), EVENTS, columns, reading.plan, rolling, REWINDS.ask, hint_offsets, settings.log_clock)
    while reading.reader.get_watermark() < MAX_TIMESTAMP:
        reading.step()
        while reading.batches:
            writer.take(reading.batches.pop(0))


def ends_of(root: Path, kind: str = EVENTS) -> dict[int, int]:
    ends: dict[int, int] = {}
    for file in files_of(str(root), kind):
        ends[file.partition] = max(file.next_offset, ends.get(file.partition, 0))
    return ends


def rows_of(root: Path, kind: str = EVENTS) -> dict[int, list[tuple[int, bytes | None]]]:
    """(offset, value) by partition, in the order of the files."""
    found: dict[int, list[tuple[int, bytes | None]]] = {}
    for file in files_of(str(root), kind):
        rows = pq.read_table(file.path, columns=["offset", "value"])
        found.setdefault(file.partition, []).extend(
            zip(rows["offset"].to_pylist(), rows["value"].to_pylist(), strict=True)
        )
    return found
