"""Archives of events and home pages written without a broker, by the archive job's own writer."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas import BehaviourEvent, Exposure
from schemas.codec import decoder_for, encoder_for
from transforms.archive import Archiver, Rolling
from transforms.archive_columns import event_columns, exposure_columns
from transforms.archive_layout import EVENTS, EXPOSURES
from transforms.batches import RecordBatch
from transforms.read_plan import ReadPlan

EVENT, PAGE = encoder_for(BehaviourEvent), encoder_for(Exposure)
Logged = tuple[int, bytes]
"""Log clock (ms) and value of a record."""


def archive_events(root: Path, *partitions: Sequence[Logged], rolling: Rolling = Rolling()) -> None:
    """Partition n holds the n-th log, from offset 0; what is archived of it already is passed over."""
    columns, topic = event_columns(decoder_for(), "append"), "behaviour"
    _archive(root, EVENTS, topic, Archiver, columns, partitions, rolling)


def archive_pages(root: Path, *partitions: Sequence[Logged], rolling: Rolling = Rolling()) -> None:
    _archive(root, EXPOSURES, "exposure", Archiver, exposure_columns(), partitions, rolling)


def _archive(root, kind, topic, writer, columns, partitions, rolling) -> None:
    ends = {number: len(log) for number, log in enumerate(partitions)}
    plan = ReadPlan(topic, f"{topic}-1", dict.fromkeys(ends, 0), dict.fromkeys(ends, 0), ends)
    archiver = writer(str(root), kind, columns, plan, rolling, lambda *_: None, lambda *_: None)
    for number, log in enumerate(partitions):
        clocks, values = [clock for clock, _ in log], [value for _, value in log]
        end = len(log)
        archiver.take(
            RecordBatch(topic, plan.topic_id, number, 0, list(range(end)), clocks, values, end, max(clocks, default=1))
        )


def of_events(events: Iterable[tuple[int, BehaviourEvent]]) -> list[Logged]:
    return [(clock, EVENT(event)) for clock, event in events]


def of_pages(pages: Iterable[Exposure]) -> list[Logged]:
    """Logged when they were shown."""
    return [(page.time_ms, PAGE(page)) for page in sorted(pages, key=lambda page: page.time_ms)]
