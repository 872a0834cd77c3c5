"""A real search log as a folder that everything here reads: what `aigq import-log --out` writes.

    FOLDER/log.json                what it is, and counts; written last: a folder without it is unfinished
    FOLDER/archive/events          the archive's layout, one partition, log clock ingest_ms
    FOLDER/items.parquet           id, title, category, attributes: the products that were clicked
    FOLDER/shoppers.parquet        user, part

Two changes are made to what schemas/search_log.py reads. Campaign codes are no searches: they go, and the clicks after them stay. And each
shopper belongs to a part: ONE, where all rows are of the log's leading category, or ALL. Where a log is mostly an extract of one category,
the other searches of most shoppers are missing, and figures of the two say different things (docs/real-log.md).
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from inference.output import normalise
from schemas.codec import decoder_for, encoder_for
from schemas.records import BehaviourEvent
from schemas.search_log import ImportedLog, import_log, is_campaign_code
from training.log import Log
from training.log_files import read_log
from transforms.archive_columns import event_columns
from transforms.archive_layout import EVENTS, HOUR_MS, ArchivedFile, FileFacts, hour_of, write_file
from transforms.batches import RecordBatch

DAY_MS = 86_400_000
ONE, ALL = "one category", "all categories"
"""Parts. A log without a leading category has only the second."""
LEADING = 0.5
"""Share of the rows from which on a category leads: what others searched there is an extract."""
TOPIC = "behaviour"
BEING_WRITTEN = ".writing"
FACTS = "log.json"
_ITEMS = pa.schema(
    [
        ("id", pa.string()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)


class LogFacts(msgspec.Struct, frozen=True):
    """What an imported log is. Names the file, and no shopper."""

    name: str
    start_ms: int
    """Begin of the first day, UTC."""
    days: int
    """Begun days."""
    leading_category: str
    """Its name; empty where none leads."""
    rows: int
    searches: int
    clicks: int
    shoppers: int
    shoppers_all_categories: int
    campaign_codes: int
    """Searches that were taken away."""
    distinct_queries: int
    """Normalised."""


class RealLog(msgspec.Struct, frozen=True):
    facts: LogFacts
    log: Log
    all_categories: frozenset[str]
    """Shoppers of that part; all others are of the other."""


def cleaned(events: Sequence[BehaviourEvent]) -> list[BehaviourEvent]:
    """Without campaign codes, and without searches of which nothing is left when they are normalised."""
    return [e for e in events if e.kind != "search" or (not is_campaign_code(e.query) and normalise(e.query))]


def write_log_folder(imported: ImportedLog, folder: Path, name: str) -> LogFacts:
    """Writes the folder, whole or not at all. Raises ValueError where it is there already or the log is empty."""
    if folder.exists():
        raise ValueError(f"{folder} is there already; a log is never overwritten: delete it, or take another --out")
    events = cleaned(imported.events)
    if not events:
        raise ValueError(f"{name}: no searches, and nothing to write")
    writing = folder.with_name(folder.name + BEING_WRITTEN)
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    leading, broad = _parts(imported)
    _write_archive(str(writing / "archive"), events)
    items = {event.item.id: event.item for event in events if event.item is not None}
    rows = [(item.id, item.title, item.category, list(item.attributes.items())) for _, item in sorted(items.items())]
    columns = zip(*rows, strict=True) if rows else [()] * len(_ITEMS)
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, _ITEMS, strict=True)]
    pq.write_table(pa.table(arrays, schema=_ITEMS), writing / "items.parquet", compression="zstd")
    users = sorted({event.user for event in events})
    shoppers = {"user": users, "part": [ALL if user in broad else ONE for user in users]}
    pq.write_table(pa.table(shoppers), writing / "shoppers.parquet", compression="zstd")
    searches = [event.query for event in events if event.kind == "search"]
    start_ms = events[0].time_ms - events[0].time_ms % DAY_MS
    facts = LogFacts(
        name=name,
        start_ms=start_ms,
        days=(events[-1].time_ms - start_ms) // DAY_MS + 1,
        leading_category=imported.category_names.get(leading, leading),
        rows=imported.counts.rows,
        searches=len(searches),
        clicks=len(events) - len(searches),
        shoppers=len(users),
        shoppers_all_categories=len(broad.intersection(users)),
        campaign_codes=imported.counts.campaign_codes,
        distinct_queries=len(set(map(normalise, searches))),
    )
    (writing / FACTS).write_bytes(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
    os.rename(writing, folder)
    return facts


def import_file(searches: Path, products: Path | None, categories: Path | None) -> ImportedLog:
    """Products and categories are looked for beside the searches, where they are not named. Raises what `import_log` does."""
    return import_log(
        searches,
        products or _beside(searches, "products.csv", "--products"),
        categories or _beside(searches, "categories.json", "--categories"),
    )


def read_log_folder(folder: Path) -> RealLog:
    """Raises ValueError for a folder that is none, or an unfinished one."""
    path = folder / FACTS
    if not path.is_file():
        raise ValueError(f"{folder} has no {FACTS}: no imported log, or an unfinished one. `aigq import-log` makes one")
    facts = msgspec.json.decode(path.read_bytes(), type=LogFacts)
    table = pq.read_table(folder / "shoppers.parquet")
    parts = zip(table["user"].to_pylist(), table["part"].to_pylist(), strict=True)
    return RealLog(facts, read_log(folder / "archive"), frozenset(user for user, part in parts if part == ALL))


def _parts(imported: ImportedLog) -> tuple[str, frozenset[str]]:
    """The leading category's id, empty where none leads, and the shoppers who have rows of others."""
    rows = imported.rows_of_category
    leading = max(rows, key=lambda id: (rows[id], id))
    if rows[leading] < LEADING * sum(rows.values()):
        return "", frozenset(imported.categories)
    return leading, frozenset(user for user, ids in imported.categories.items() if ids != {leading})


def _beside(searches: Path, name: str, option: str) -> Path:
    found = [path for suffix in (".gz", "") if (path := searches.with_name(name + suffix)).is_file()]
    if not found:
        raise FileNotFoundError(f"no {name}.gz or {name} beside {searches}: give {option}")
    return found[0]


def _write_archive(root: str, events: Sequence[BehaviourEvent]) -> None:
    """An hour a file. Events are in the order of their log clock."""
    columns, encode = event_columns(decoder_for("avro"), "ingest_ms"), encoder_for(BehaviourEvent)
    offset = clock_ms = 0
    writing = []
    with ThreadPoolExecutor(8) as pool:  # a file waits for the disk
        for hour_ms, group in groupby(events, key=lambda event: hour_of(event.time_ms)):
            values: list[bytes | None] = [encode(event) for event in group]
            times = [event.time_ms for event in events[offset : offset + len(values)]]
            end = offset + len(values)
            batch = RecordBatch(TOPIC, TOPIC, 0, offset, list(range(offset, end)), times, values, end)
            rows, clocks = columns.rows(batch, clock_ms)
            clock_ms = clocks[-1]
            file = ArchivedFile(0, offset, end, hour_ms)
            facts = FileFacts(TOPIC, TOPIC, 1, "ingest_ms", len(values), clock_ms, hour_ms + HOUR_MS)
            table = pa.Table.from_batches([rows], columns.schema)
            writing.append(pool.submit(write_file, root, EVENTS, file, facts, table, columns.dictionary))
            offset = end
    for each in writing:
        each.result()
