"""From the archive to shoppers: events and home pages in parcels by shard of shoppers, so that one shard fits in memory.

Events go the nearline job's way (`read_through`, `EventDecoder`). A parcel is one element, because Beam's price is per element, and is
compressed, because between reading and grouping a runner holds all of them.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from interest import Arrival
from schemas import BehaviourEvent, Exposure
from store.layout import shard_of
from transforms.archive_layout import EXPOSURES, ArchivedFile, files_of
from transforms.decode_events import EventDecoder
from transforms.files import open_file
from transforms.make_samples_life import Records
from transforms.read_plan import ReadPlan, ReadSettings
from transforms.read_through import read_through

PARCEL_RECORDS = 16_384
"""Records of all shards together, after which every shard's parcel goes off: some hundred in each."""
COLUMNS = ["offset", "id", "user", "time_ms", "hints", "clicked", "run_id", "ranked", "scores"]


class Parcel(msgspec.Struct, array_like=True):
    """Of one shard."""

    events: list[tuple[int, int, int, BehaviourEvent]] = []
    """Partition, offset, log clock, event."""
    pages: list[Exposure] = []
    dropped: dict[str, int] = {}
    """What no shopper could be found for, by reason; in the parcels of shard 0."""


class Addressed(NamedTuple):
    shard: int
    parcel: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Parcel).decode


@dataclass
class Parcels:
    """Fills parcels and hands them out."""

    shards: int
    records: int = 0
    open: dict[int, Parcel] = field(default_factory=lambda: defaultdict(Parcel))

    def of(self, user: str) -> Parcel:
        """The shopper's, for one more record."""
        self.records += 1
        return self.open[shard_of(user, self.shards)]

    def ready(self, last: bool = False) -> Iterator[Addressed]:
        if self.records >= PARCEL_RECORDS or last:
            for shard, parcel in self.open.items():
                yield Addressed(shard, zlib.compress(_encode(parcel), 1))
            self.open.clear()
            self.records = 0


def event_parcels(
    settings: ReadSettings, plan: ReadPlan, partition: int, decoder: EventDecoder, shards: int
) -> Iterator[Addressed]:
    """One partition's events, from the archive's beginning to `plan.ends`. Raises ReadRefused where the archive has a hole."""
    parcels, clock, undecodable = Parcels(shards), 0, 0
    for records in read_through(settings, plan, (partition,)):
        batch = decoder.decode(records)
        undecodable += len(records.offsets) - len(batch.offsets)
        for offset, ingest_ms, event in zip(batch.offsets, batch.ingest_ms, batch.events, strict=True):
            clock = max(clock, ingest_ms)
            parcels.of(event.user).events.append((partition, offset, clock, event))
        yield from parcels.ready()
    for shard in range(shards):  # one without shoppers writes its files too
        parcels.open[shard].dropped["event undecodable"] = undecodable if shard == 0 else 0
    yield from parcels.ready(last=True)


def page_parcels(archive: str, partition: int, until: int, shards: int) -> Iterator[Addressed]:
    """One partition's home pages up to offset `until`. Where two files hold an offset, one of them is read."""
    parcels, at, undecodable = Parcels(shards), 0, 0
    for file in files_of(archive, EXPOSURES):
        if file.partition != partition or file.next_offset <= at or file.first_offset >= until:
            continue
        for offset, page in _pages(file):
            if not at <= offset < until:
                continue
            if page is None:
                undecodable += 1
            else:
                parcels.of(page.user).pages.append(page)
        at = file.next_offset
        yield from parcels.ready()
    parcels.open[0].dropped["exposure undecodable"] = undecodable
    yield from parcels.ready(last=True)


def records_of(parcels: Iterable[bytes]) -> tuple[list[Records], Counter[str]]:
    """A shard's shoppers by name, and what was dropped on the way."""
    dropped: Counter[str] = Counter()
    found: dict[str, Records] = {}
    for packed in parcels:
        parcel = _decode(zlib.decompress(packed))
        dropped.update(parcel.dropped)
        for partition, offset, clock_ms, event in parcel.events:
            arrival = Arrival(partition, offset, clock_ms)
            found.setdefault(event.user, Records(event.user)).events.append((arrival, event))
        for page in parcel.pages:
            found.setdefault(page.user, Records(page.user)).pages.append(page)
    return [found[user] for user in sorted(found)], dropped


def _pages(file: ArchivedFile) -> Iterator[tuple[int, Exposure | None]]:
    """(offset, page); None for a record that the archive could not decode. Columns that an older archive lacks count as empty."""
    with open_file(file.path) as stream:
        held = pq.ParquetFile(stream)
        table = held.read([name for name in COLUMNS if name in held.schema_arrow.names])
    columns = [_values(table, name) for name in COLUMNS]
    for offset, id, user, time_ms, hints, clicked, run_id, ranked, scores in zip(*columns, strict=True):
        page = None
        if id and user:
            page = Exposure(
                id,
                user,
                time_ms,
                tuple(hints),
                tuple(clicked),
                run_id or "",
                tuple(ranked or ()),
                tuple(scores or ()),
            )
        yield offset, page


def _values(table: pa.Table, name: str) -> list:
    return table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
