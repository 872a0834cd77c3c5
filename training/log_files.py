"""The log and its cases from an archive. (Cases that a job made are in a samples folder: sample_files.read_cases.)

Columns are built by pyarrow and numpy; Python sees distinct texts and exposures only, so a million behaviours take seconds.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inference.output import normalise
from schemas import Behaviour, BehaviourEvent, Exposure
from schemas.codec import decoder_for
from training.log import Case, Log
from transforms.archive_layout import EVENTS, EXPOSURES, files_of

DAY_MS = 86_400_000
HINT_MS = 60_000
"""A search of a hint's query within this time after the page on which that hint was clicked began with the hint."""
KEPT = 50
"""Newest behaviours of a case, as many as the nearline job keeps (TriggerPolicy.behaviours_kept)."""
EVENT_COLUMNS = ["id", "user", "kind", "time_ms", "query", "item_title", "item_category"]


def read_log(archive: str | Path) -> Log:
    """Everything of an archive. Raises FileNotFoundError where it holds no events."""
    columns = pa.concat_tables(_archived(archive, EVENTS, EVENT_COLUMNS))
    columns = columns.take(pa.array(_first_of_each(columns["id"])))
    kind = np.asarray(columns["kind"].to_pylist(), dtype=object)
    columns = columns.filter(pa.array((kind == "search") | (kind == "click")))
    return _log(
        columns["user"],
        columns["time_ms"].to_numpy(),
        np.array([each == "search" for each in columns["kind"].to_pylist()], dtype=bool),
        columns["query"],
        columns["item_title"],
        columns["item_category"],
        read_exposures(archive),
    )


def log_of(events: Iterable[BehaviourEvent], exposures: Sequence[Exposure] = ()) -> Log:
    """The same from events in memory."""
    rows = [event for event in events if event.kind == "search" or event.item]
    items = [event.item for event in rows]
    return _log(
        pa.chunked_array([[event.user for event in rows]], pa.string()),
        np.array([event.time_ms for event in rows], dtype=np.int64),
        np.array([event.kind == "search" for event in rows], dtype=bool),
        pa.chunked_array([[event.query for event in rows]], pa.string()),
        pa.chunked_array([[item.title if item else "" for item in items]], pa.string()),
        pa.chunked_array([[item.category if item else "" for item in items]], pa.string()),
        exposures,
    )


def read_exposures(archive: str | Path, from_ms: int = 0) -> list[Exposure]:
    """Home pages by time; empty where an archive has none."""
    names = ["id", "user", "time_ms", "hints", "clicked"]
    found: dict[str, Exposure] = {}
    for table in _archived(archive, EXPOSURES, names, missing_ok=True):
        late = table.filter(pa.array(table["time_ms"].to_numpy() >= from_ms))
        for id, user, time_ms, hints, clicked in zip(*(late[name].to_pylist() for name in names), strict=True):
            found.setdefault(id, Exposure(id, user, time_ms, tuple(hints), tuple(clicked)))
    return sorted(found.values(), key=lambda exposure: (exposure.time_ms, exposure.id))


class Moment(NamedTuple):
    user: str
    time_ms: int


def cases_at(log: Log, moments: Sequence[Moment], exposures: Sequence[Exposure] = (), profiles: Mapping[str, dict[str, str]] | None = None) -> list[Case]:  # fmt: skip
    """Cases at these moments, where a search by themselves follows on that day (UTC); in their order."""
    number = {user: i for i, user in enumerate(log.users)}
    order = np.argsort(log.user, kind="stable")
    starts = np.searchsorted(log.user[order], np.arange(len(log.users) + 1))
    clicked = _clicked_hints(exposures)
    made = []
    for user, as_of_ms in moments:
        if user not in number:
            continue
        rows = order[starts[number[user]] : starts[number[user] + 1]]
        here = int(np.searchsorted(log.time_ms[rows], as_of_ms))
        day_end = as_of_ms - as_of_ms % DAY_MS + DAY_MS
        coming = rows[here : int(np.searchsorted(log.time_ms[rows], day_end))]
        later = [log.texts[log.text[i]] for i in coming if log.is_search[i] and log.by_themselves[i]]
        if not later:
            continue
        hints = [query for time_ms, query in clicked[user] if as_of_ms <= time_ms < day_end]
        seen = tuple(_behaviour(log, user, int(i)) for i in rows[max(0, here - KEPT) : here])
        profile = (profiles or {}).get(user, {})
        made.append(
            Case(user, as_of_ms, profile, seen, later[0], tuple(dict.fromkeys(later)), tuple(dict.fromkeys(hints)))
        )
    return made


def exposure_cases(archive: str | Path, log: Log, from_ms: int) -> list[Case]:
    """A case for every home page from `from_ms` on, straight from an archive; `aigq samples` makes the same ones as a job."""
    exposures = read_exposures(archive, from_ms)
    moments = [Moment(exposure.user, exposure.time_ms) for exposure in exposures]
    return cases_at(log, moments, exposures, read_profiles(archive, from_ms))


def search_cases(log: Log, from_ms: int) -> list[Case]:
    """A case just before every search by themselves from `from_ms` on: for logs without home pages."""
    rows = np.flatnonzero(log.is_search & log.by_themselves & (log.time_ms >= from_ms))
    return cases_at(log, [Moment(log.users[log.user[i]], int(log.time_ms[i])) for i in rows])


def read_profiles(archive: str | Path, before_ms: int) -> dict[str, dict[str, str]]:
    """Newest profile of every shopper, as of a time. Two events of a shopper are decoded, the first and the last: shops
    send the profile with every event or with the first."""
    columns = pa.concat_tables(_archived(archive, EVENTS, ["user", "time_ms", "value"]))
    columns = columns.filter(pa.array(columns["time_ms"].to_numpy() < before_ms))
    users = columns["user"].combine_chunks().dictionary_encode()
    codes = users.indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    _, from_the_end = np.unique(codes[::-1], return_index=True)
    found: dict[str, dict[str, str]] = {}
    for rows in (first, len(codes) - 1 - from_the_end):
        values = columns["value"].take(pa.array(rows)).to_pylist()
        for event in decoder_for("auto").decode(values):
            if isinstance(event, BehaviourEvent) and event.profile:
                found[event.user] = event.profile
    return found


def _archived(archive: str | Path, kind: str, columns: list[str], missing_ok: bool = False) -> list[pa.Table]:
    tables = [pq.read_table(file.path, columns=columns) for file in files_of(str(archive), kind)]
    if not tables and not missing_ok:
        raise FileNotFoundError(f"no {kind} in the archive {archive}: a market has its archive in FOLDER/archive")
    return [_plain(table.filter(pa.array(table["time_ms"].is_valid().to_numpy()))) for table in tables]


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, which differ by file."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table[field.name].cast(field.type.value_type))
    return table


def _first_of_each(ids: pa.ChunkedArray) -> np.ndarray:
    _, first = np.unique(ids.combine_chunks().dictionary_encode().indices.to_numpy(), return_index=True)
    return np.sort(first)


def _log(
    user: pa.ChunkedArray,
    time_ms: np.ndarray,
    is_search: np.ndarray,
    query: pa.ChunkedArray,
    title: pa.ChunkedArray,
    category: pa.ChunkedArray,
    exposures: Sequence[Exposure],
) -> Log:
    order = np.argsort(time_ms, kind="stable")
    time_ms, is_search = time_ms[order].astype(np.int64), is_search[order]
    users, user_codes = _coded(user, order)
    queries, query_codes = _coded(query, order, normalise)
    titles, title_codes = _coded(title, order)
    categories, category_codes = _coded(category, order)
    # One table of texts: a title that is also a query has one number.
    numbers = {text: i for i, text in enumerate(queries)}
    of_title = np.array([numbers.setdefault(text, len(numbers)) for text in titles] or [0], dtype=np.int32)
    texts = tuple(numbers)
    text = np.where(is_search, query_codes, of_title[title_codes]).astype(np.int32)
    if "" not in categories:
        categories = (*categories, "")
    category_codes = np.where(is_search, categories.index(""), category_codes).astype(np.int32)
    by_themselves = _by_themselves(users, user_codes, time_ms, is_search, numbers, text, exposures)
    return Log(users, user_codes, time_ms, is_search, texts, text, categories, category_codes, by_themselves)


def _coded(column: pa.ChunkedArray, order: np.ndarray, change: Any = None) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct values, changed, and each row's place among them. Null counts as empty."""
    encoded = column.combine_chunks().fill_null("").dictionary_encode()
    numbers: dict[str, int] = {}
    changed = [change(value) if change else value for value in encoded.dictionary.to_pylist()]
    of_value = np.array([numbers.setdefault(value, len(numbers)) for value in changed] or [0], dtype=np.int32)
    return tuple(numbers), of_value[encoded.indices.to_numpy()[order]]


def _by_themselves(
    users: tuple[str, ...],
    user: np.ndarray,
    time_ms: np.ndarray,
    is_search: np.ndarray,
    numbers: dict[str, int],
    text: np.ndarray,
    exposures: Sequence[Exposure],
) -> np.ndarray:
    found = is_search.copy()
    number = {name: i for i, name in enumerate(users)}
    pages: dict[int, list[int]] = defaultdict(list)
    """Shopper and query in one number -> times of pages where that hint was clicked."""
    for name, hints in _clicked_hints(exposures).items():
        for page_ms, query in hints:
            if query in numbers and name in number:
                pages[number[name] * len(numbers) + numbers[query]].append(page_ms)
    keys = user.astype(np.int64) * len(numbers) + text
    for row in np.flatnonzero(is_search & np.isin(keys, np.fromiter(pages, np.int64, len(pages)))):
        if any(0 <= time_ms[row] - page_ms <= HINT_MS for page_ms in pages[int(keys[row])]):
            found[row] = False
    return found


def _clicked_hints(exposures: Sequence[Exposure]) -> dict[str, list[tuple[int, str]]]:
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for exposure in exposures:
        for place in exposure.clicked:
            if place < len(exposure.hints):
                found[exposure.user].append((exposure.time_ms, normalise(exposure.hints[place])))
    return found


def _behaviour(log: Log, user: str, row: int) -> Behaviour:
    kind, time_ms, text = ("search" if log.is_search[row] else "click"), int(log.time_ms[row]), log.texts[log.text[row]]
    id = int.from_bytes(blake2b(f"{user} {time_ms} {kind} {text}".encode(), digest_size=6).digest(), "big")
    return Behaviour(time_ms, id, kind, text, log.categories[log.category[row]])
