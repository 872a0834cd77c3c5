"""A real retailer's log as behaviour events: what people searched, and the product that each search led to.

Three files: searches (user, sku, category, query, click_time, query_time), products (sku, title) and categories (id, name), as
csv and json, or the same with .gz. A row becomes a search at its query_time and a click at its click_time, with the product's
title. Times carry no zone and are read as UTC.

The log is years old, so its own times are the log clock: each event carries `ingest_ms`, and the job is run with
--log_clock=ingest_ms. They are never Kafka's timestamps: by those, retention would delete the topic.
"""

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TextIO, cast

from schemas.records import BehaviourEvent, Item

COLUMNS = ("user", "sku", "category", "query", "click_time", "query_time")


@dataclass(frozen=True)
class ImportCounts:
    """What became of the rows."""

    rows: int
    searches: int
    clicks: int
    shoppers: int
    repeated_searches: int
    """Rows of one search that led to several clicks: the search is taken once."""
    clicks_without_title: int
    """The product file does not know the sku: the click is left out, its search stays."""
    clicks_without_category: int
    """The category file does not know the id: the click has no category."""
    campaign_codes: int
    """Searches that are links of campaigns (`is_campaign_code`). Real input, so they stay."""
    first_ms: int
    last_ms: int


@dataclass(frozen=True)
class ImportedLog:
    events: tuple[BehaviourEvent, ...]
    """In log order: by time, a search before a click."""
    counts: ImportCounts
    categories: Mapping[str, frozenset[str]]
    """User -> category ids of all of that user's rows, with or without a known product."""
    rows_of_category: Mapping[str, int]
    """Category id -> rows."""
    category_names: Mapping[str, str]
    """Category id -> name."""


def is_campaign_code(query: str) -> bool:
    """Such as 20110801_GOW3, one word with an underscore: a link that somebody followed, and nobody's search."""
    return "_" in query and " " not in query


def import_log(searches: Path, products: Path, categories: Path, most_rows: int | None = None) -> ImportedLog:
    """The log's events; of the first `most_rows` rows where given.

    Raises FileNotFoundError, or ValueError that names the file, the line and what is wrong there.
    """
    titles = {row["sku"]: row["title"] for _, row in _rows(products, ("sku", "title"))}
    names = _category_names(categories)
    events: dict[str, BehaviourEvent] = {}
    of_user: dict[str, set[str]] = defaultdict(set)
    of_category: dict[str, int] = defaultdict(int)
    rows = without_title = without_category = 0
    for line, row in _rows(searches, COLUMNS):
        if rows == most_rows:
            break
        rows += 1
        user, query, sku = row["user"], row["query"], row["sku"]
        try:
            searched_ms, clicked_ms = _unix_ms(row["query_time"]), _unix_ms(row["click_time"])
        except ValueError as error:
            raise ValueError(f"{searches} line {line}: {error}; times are YYYY-MM-DD HH:MM:SS.mmm") from error
        of_user[user].add(row["category"])
        of_category[row["category"]] += 1
        id = _id(user, "search", searched_ms, query)
        events[id] = BehaviourEvent(id, user, "search", searched_ms, query=query, ingest_ms=searched_ms)
        title = titles.get(sku)
        if title is None:
            without_title += 1
            continue
        without_category += row["category"] not in names
        item = Item(sku, title, names.get(row["category"], ""))
        id = _id(user, "click", clicked_ms, sku)
        events[id] = BehaviourEvent(id, user, "click", clicked_ms, item=item, ingest_ms=clicked_ms)
    ordered = tuple(sorted(events.values(), key=lambda event: (event.time_ms, event.user, event.kind != "search")))
    queries = [event.query for event in ordered if event.kind == "search"]
    counts = ImportCounts(
        rows=rows,
        searches=len(queries),
        clicks=len(ordered) - len(queries),
        shoppers=len({event.user for event in ordered}),
        repeated_searches=rows - len(queries),
        clicks_without_title=without_title,
        clicks_without_category=without_category,
        campaign_codes=sum(map(is_campaign_code, queries)),
        first_ms=ordered[0].time_ms if ordered else 0,
        last_ms=ordered[-1].time_ms if ordered else 0,
    )
    return ImportedLog(
        ordered, counts, {user: frozenset(ids) for user, ids in of_user.items()}, dict(of_category), names
    )


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a csv with their line numbers."""
    with _text(path) as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}; it has {reader.fieldnames}")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{path} line {reader.line_num}: not {len(reader.fieldnames or ())} columns")
            yield reader.line_num, row


def _category_names(path: Path) -> dict[str, str]:
    with _text(path) as file:
        return {category["id"]: category["name"] for category in json.load(file)}


def _text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8", newline=""))
    return path.open(encoding="utf-8", newline="")


def _unix_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def _id(user: str, kind: str, time_ms: int, what: str) -> str:
    """The same row makes the same id in every import, so an import that is repeated doubles no behaviour."""
    return blake2b(f"{user}\x1f{kind}\x1f{time_ms}\x1f{what}".encode(), digest_size=12).hexdigest()
