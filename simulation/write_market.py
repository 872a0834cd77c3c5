"""Plays a law and writes the market's folder, day by day: memory holds a day and the shoppers' states, whatever the market's length."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import BehaviourEvent, Exposure
from schemas.codec import decoder_for, encoder_for
from simulation.law import DAY_MS, Law
from simulation.market_folder import (
    EVENTS_TOPIC,
    EXPOSURES_TOPIC,
    Counts,
    MarketFacts,
    archive_of,
    begin_market,
    finish_market,
    git_revision,
    law_of,
)
from simulation.null_market import Dealer
from simulation.play import Did, Saw, normal, rows_of
from simulation.ranker_training import LoggedClick, LoggedPage, LoggedSearch, ShopLog
from simulation.workers import Workers
from transforms.archive_columns import Columns, event_columns, exposure_columns
from transforms.archive_layout import EVENTS, EXPOSURES, HOUR_MS, ArchivedFile, FileFacts, write_file
from transforms.batches import RecordBatch

ITEMS = pa.schema(
    [
        ("id", pa.string()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
PURCHASES = pa.schema([("user", pa.string()), ("time_ms", pa.int64()), ("item_id", pa.string())])
CEILING = pa.schema(
    [
        ("exposure_id", pa.string()),
        ("user", pa.string()),
        ("time_ms", pa.int64()),
        ("queries", pa.list_(pa.string())),
        ("probabilities", pa.list_(pa.float64())),
    ]
)
APPEAL = pa.schema(
    [
        ("exposure_id", pa.string()),
        ("hint", pa.string()),
        ("place", pa.int32()),
        ("appeal", pa.float64()),
        ("probability", pa.float64()),
    ]
)
CATEGORIES = pa.schema([("query", pa.string()), ("category", pa.string())])


@dataclass(frozen=True)
class Progress:
    day: int
    """Days that are written."""
    days: int
    events: int
    exposures: int
    clicked: int
    seconds: float
    """Since the begin."""

    @property
    def seconds_left(self) -> float:
        return self.seconds / self.day * (self.days - self.day)


def write_market(
    facts: MarketFacts, folder: Path, workers: int = 2, tell: Callable[[Progress], None] = lambda _: None
) -> MarketFacts:
    """Plays the market that `facts` names (counts and revision are filled in) and writes its folder, whole or not at all.

    The same facts give the same bytes, whatever the number of workers. Raises ValueError for bad facts or a folder that is there.
    """
    if facts.shoppers < 1 or facts.days < 1 or facts.drift < 0 or workers < 1:
        raise ValueError(
            f"shoppers, days and workers must be 1 or more and drift 0 or more: {facts}, {workers} workers"
        )
    law = law_of(facts.law, facts.seed, facts.drift, facts.start_ms)
    facts = msgspec.structs.replace(facts, revision=git_revision())
    writing, began = begin_market(folder), time.monotonic()
    with _Writer(writing, facts) as writer, Workers(facts, min(workers, facts.shoppers)) as players:
        log = ShopLog(writer.write_items(law))
        carried: tuple[list[Did], list[Saw]] = [], []
        players.begin(0, log.statistics())
        for day in range(facts.days):
            ends_ms = facts.start_ms + (day + 1) * DAY_MS
            played = players.played()
            did, did_later = _split(carried[0] + played.did, ends_ms)
            saw, saw_later = _split(carried[1] + played.saw, ends_ms)
            carried = did_later, saw_later
            log.add_day(_logged(did, saw), rows_of(played.examples))
            if day + 1 < facts.days:
                players.begin(day + 1, log.statistics())  # they play while this process writes
            writer.write_day(day, did, saw)
            counts = writer.counts()
            events = counts.searches + counts.clicks
            tell(
                Progress(
                    day + 1, facts.days, events, counts.exposures, counts.clicked_exposures, time.monotonic() - began
                )
            )
        writer.write_categories(law)
    facts = msgspec.structs.replace(facts, counts=writer.counts())
    finish_market(writing, folder, facts)
    return facts


def _split(records: list[Any], ends_ms: int) -> tuple[list[Any], list[Any]]:
    """By time: those of the day, and those of a visit that goes on after midnight."""
    records.sort(key=lambda each: (each.time_ms, each.shopper, each.number))
    end = next((i for i in range(len(records), 0, -1) if records[i - 1].time_ms < ends_ms), 0)
    return records[:end], records[end:]


def _logged(did: Sequence[Did], saw: Sequence[Saw]) -> Iterator[LoggedSearch | LoggedClick | LoggedPage]:
    """What the shop's ranker may learn from: nothing that only judges are told."""
    for each in did:
        if each.event.item is not None:
            yield LoggedClick(each.shopper, each.event.item.category)
        else:
            yield LoggedSearch(each.shopper, normal(each.event.query), each.by_themselves)
    for each in saw:
        yield LoggedPage(each.exposure.hints, each.exposure.clicked[0] if each.exposure.clicked else None)


class _Writer:
    """The folder's files. Use as a context manager."""

    def __init__(self, folder: Path, facts: MarketFacts):
        self._folder, self._facts = folder, facts
        self._dealer = Dealer(facts.seed) if facts.null else None
        archive = archive_of(folder)
        events = event_columns(decoder_for("avro"), "ingest_ms")
        self._events = _Archive(archive, EVENTS, EVENTS_TOPIC, events, encoder_for(BehaviourEvent), "ingest_ms")
        self._exposures = _Archive(
            archive, EXPOSURES, EXPOSURES_TOPIC, exposure_columns(), encoder_for(Exposure), "append"
        )
        self._purchases = pq.ParquetWriter(folder / "purchases.parquet", PURCHASES, compression="zstd")
        self._ceiling = pq.ParquetWriter(folder / "truth" / "ceiling.parquet", CEILING, compression="zstd")
        self._appeal = pq.ParquetWriter(folder / "truth" / "appeal.parquet", APPEAL, compression="zstd")
        self._counted: Counter[str] = Counter()
        self._shoppers: set[int] = set()
        self._queries: set[str] = set()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._purchases, self._ceiling, self._appeal):
            each.close()

    def write_items(self, law: Law) -> list[str]:
        """Returns the shop's categories, normalised, those with most items first."""
        items = list(law.items())
        rows = [(each.id, each.title, each.category, sorted(each.attributes.items())) for each in items]
        pq.write_table(_table(rows, ITEMS), self._folder / "items.parquet", compression="zstd")
        counts = Counter(normal(each.category) for each in items if each.category)
        return sorted(counts, key=lambda name: (-counts[name], name))

    def write_day(self, day: int, did: Sequence[Did], saw: Sequence[Saw]) -> None:
        if self._dealer is not None:
            did, saw = self._dealer.deal(did, saw)
        begin_ms = self._facts.start_ms + day * DAY_MS
        self._events.write_day(begin_ms, [each.time_ms for each in did], [each.event for each in did])
        self._exposures.write_day(begin_ms, [each.time_ms for each in saw], [each.exposure for each in saw])
        bought = [
            (each.event.user, each.time_ms, each.event.item.id)
            for each in did
            if each.bought and each.event.item is not None
        ]
        self._purchases.write_table(_table(bought, PURCHASES))
        self._write_truth(saw)
        self._count(did, saw, len(bought))

    def write_categories(self, law: Law) -> None:
        rows = [(query, law.category(query)) for query in sorted(self._queries)]
        pq.write_table(_table(rows, CATEGORIES), self._folder / "truth" / "categories.parquet", compression="zstd")

    def counts(self) -> Counts:
        return Counts(**self._counted, shoppers=len(self._shoppers), distinct_queries=len(self._queries))

    def _write_truth(self, saw: Sequence[Saw]) -> None:
        appeal = [
            (each.exposure.id, hint, place, each.appeal[place], each.probabilities[place])
            for each in saw
            for place, hint in enumerate(each.exposure.hints)
        ]
        self._appeal.write_table(_table(appeal, APPEAL))
        ceiling = [
            (each.exposure.id, each.exposure.user, each.time_ms, *map(list, zip(*each.likeliest, strict=True)))
            for each in saw
            if each.likeliest
        ]
        self._ceiling.write_table(_table(ceiling, CEILING))

    def _count(self, did: Sequence[Did], saw: Sequence[Saw], bought: int) -> None:
        for each in did:
            if each.event.kind == "search":
                self._queries.add(normal(each.event.query))
                self._counted["searches"] += 1
                self._counted["searches_by_themselves"] += each.by_themselves
            else:
                self._counted["clicks"] += 1
            self._shoppers.add(each.shopper)
        self._counted["purchases"] += bought
        self._counted["exposures"] += len(saw)
        self._counted["clicked_exposures"] += sum(bool(each.exposure.clicked) for each in saw)


class _Archive:
    """One set of the archive, an hour a file: also of quiet hours, so that the archive proves that nothing was there."""

    def __init__(
        self, root: str, kind: str, topic: str, columns: Columns, encode: Callable[[Any], bytes], log_clock: str
    ):
        self._root, self._kind, self._topic, self._columns, self._encode = root, kind, topic, columns, encode
        self._log_clock = log_clock
        self._offset = self._clock_ms = 0

    def write_day(self, begin_ms: int, times: Sequence[int], records: Sequence[Any]) -> None:
        first, writing = 0, []
        with ThreadPoolExecutor(8) as pool:  # a file waits 16 ms for the disk, and there are 1,536
            for hour_ms in range(begin_ms, begin_ms + DAY_MS, HOUR_MS):
                last = first
                while last < len(times) and times[last] < hour_ms + HOUR_MS:
                    last += 1
                values: list[bytes | None] = [self._encode(each) for each in records[first:last]]
                writing.append(pool.submit(self._write, *self._hour(hour_ms, list(times[first:last]), values)))
                first = last
        for each in writing:
            each.result()

    def _hour(
        self, hour_ms: int, times: list[int], values: list[bytes | None]
    ) -> tuple[ArchivedFile, FileFacts, pa.Table]:
        begin, end = self._offset, self._offset + len(times)
        batch = RecordBatch(self._topic, self._topic, 0, begin, list(range(begin, end)), times, values, end)
        rows, clocks = self._columns.rows(batch, self._clock_ms)
        self._offset, self._clock_ms = end, clocks[-1] if clocks else self._clock_ms
        file = ArchivedFile(0, begin, end, hour_ms)
        facts = FileFacts(self._topic, self._topic, 1, self._log_clock, len(times), self._clock_ms, hour_ms + HOUR_MS)
        return file, facts, pa.Table.from_batches([rows], self._columns.schema)

    def _write(self, file: ArchivedFile, facts: FileFacts, rows: pa.Table) -> None:
        write_file(self._root, self._kind, file, facts, rows, self._columns.dictionary)


def _table(rows: Iterable[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    rows = list(rows)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
