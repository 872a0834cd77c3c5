"""Archiving a topic, by the job or in this process, and what the files then hold."""

import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from confluent_kafka import Producer

from local import process
from schemas import BehaviourEvent
from schemas.codec import decoder_for, encoder_for
from simulation.crowd import Crowd
from tests.integration.reading import Reading, records_in
from transforms.archive import Archiver, Rolling
from transforms.archive_columns import event_columns
from transforms.archive_layout import EVENTS, files_of
from transforms.read_plan import ReadSettings, plan_read
from transforms.rewinds import REWINDS
from transforms.shared_log import hint_offsets


def archive_job(bootstrap: str, topic: str, archive: str | Path, logs: Path, *more: str) -> process.Child:
    """The real job."""
    command = [
        *process.python("pipelines.archive", f"--bootstrap={bootstrap}", f"--archive={archive}", f"--topic={topic}"),
        *(f"--exposure_topic={topic}-exposure", f"--results_topic={topic}-runs", f"--group={topic}", *more),
    ]
    return process.start("archive", command, logs / "job.log")


def fill(
    bootstrap: str, topic: str, events: int, seed: int = 3, after: int = 0
) -> dict[int, list[tuple[int, bytes | None]]]:
    """Events of shoppers, behind the `after` records that the topic holds; (offset, value) of all by partition, as the broker has them."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 5})
    encode, now_ms = encoder_for(BehaviourEvent), int(time.time() * 1000)
    chosen = list(islice(Crowd(seed).bursts(now_ms, 200, 30), events))
    assert len(chosen) == events
    for event in chosen:
        producer.produce(topic, encode(event), event.user.encode())
        producer.poll(0)
    producer.produce(topic, b"{ not an event", b"nobody")
    producer.produce(topic, None, b"nobody")
    assert producer.flush(30) == 0
    found: dict[int, list[tuple[int, bytes | None]]] = {}
    for message in records_in(bootstrap, topic, after + events + 2):
        found.setdefault(message.partition() or 0, []).append((message.offset() or 0, message.value()))
    return found


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
