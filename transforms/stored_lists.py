"""Lists as they were stored once, from the results topic and its archive: what a rebuild puts back without a generation."""

from collections.abc import Iterator, Sequence

import pyarrow.parquet as pq

from schemas import QueryRun
from schemas.validate import Rejection
from schemas.wire_avro import reader
from transforms.archive_layout import QUERY_RUNS, files_of
from transforms.files import open_file
from transforms.read_plan import ReadSettings, plan_read
from transforms.read_through import read_through


def stored_lists(settings: ReadSettings) -> Iterator[tuple[str, Sequence[QueryRun]]]:
    """(shopper, some of their lists), oldest first; the archive's before the broker's, some of them twice.

    `settings.topic` names the results topic. What cannot be decoded is left out.
    """
    read = reader(QueryRun)
    for values in (_archived(settings.archive), _in_broker(settings)):
        for value in values:
            run = read(value)
            if not isinstance(run, Rejection):
                yield run.user, [run]


def _archived(archive: str) -> Iterator[bytes]:
    for file in files_of(archive, QUERY_RUNS) if archive else ():
        with open_file(file.path) as stream:
            yield from pq.read_table(stream, columns=["value"])["value"].to_pylist()


def _in_broker(settings: ReadSettings) -> Iterator[bytes]:
    if not settings.kafka["bootstrap.servers"]:
        return
    alone = ReadSettings(settings.kafka, settings.topic, start="earliest", end="now")
    for batch in read_through(alone, plan_read(alone)):
        yield from (value for value in batch.values if value)
