"""`aigq allow-list`: counts, from an archive, how many shoppers searched each query (inference/allow_list.py says what for).

Exact: each shopper counts once for a query, however often they searched it. What does not count: searches of a shopper before
their `erase`, wherever in the archive that stands; searches that began with a click on a hint (the hint must not vouch for
itself); what prompts and lists would cut or drop. The same archive gives the same list, in whatever files it lies.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inference.allow_list import LEAST_SHOPPERS, AllowedQuery, AllowList
from inference.output import QueryList, QueryRules, normalise, parse_list
from inference.prompt import content
from transforms.archive_layout import EVENTS, EXPOSURES, files_of
from transforms.files import open_file

HINT_MS = 60_000
"""A search of a hint's query within this time after the page on which that hint was clicked began with the hint."""
PENDING = 4_000_000
"""Pairs of shopper and text that are kept before repeats are taken out: 32 MB."""
FOREVER_MS = 1 << 62


@dataclass(frozen=True)
class Counted:
    """What the archive held, and the list of it."""

    allowed: AllowList
    queries: int
    """Distinct ones that anybody searched, in their normal form."""
    shoppers: int
    """Who searched anything that counts."""


@dataclass
class _Numbers:
    """Texts as numbers, in the order in which they are met."""

    of: dict[str, int] = field(default_factory=dict)

    def all(self, texts: list[str]) -> np.ndarray:
        return np.array([self.of.setdefault(text, len(self.of)) for text in texts], dtype=np.int64)


def build_allow_list(root: str, least_shoppers: int = LEAST_SHOPPERS, until_ms: int = 0, blocked: frozenset[str] = frozenset()) -> Counted:  # fmt: skip
    """until_ms: only searches before this log clock count; 0: all. blocked: see `output.read_block_list`.

    Memory: 8 bytes for each pair of a shopper and a text they searched, and the distinct names and texts.
    Raises FileNotFoundError where the archive has no events, ValueError where `least_shoppers` is below 1.
    """
    if least_shoppers < 1:
        raise ValueError(f"a query needs at least 1 shopper, got {least_shoppers}")
    erased, hints = _erased(root), _clicked_hints(root)
    users, texts = _Numbers(), _Numbers()
    pairs: list[np.ndarray] = []
    for table in _tables(root, EVENTS, ["user", "kind", "query", "time_ms", "clock_ms"]):
        clock, kind = table["clock_ms"].to_numpy(), np.asarray(table["kind"].to_pylist(), dtype=object)
        found = table.filter(pa.array((kind == "search") & (clock < (until_ms or FOREVER_MS))))
        names, said = _distinct(found["user"]), _distinct(found["query"])
        forgotten = np.array([erased.get(name, -1) for name in names.values] or [0], dtype=np.int64)
        kept = found["clock_ms"].to_numpy() > forgotten[names.codes]
        kept &= ~_began_with_hints(names, said, found["time_ms"].to_numpy(), hints)
        numbers = (
            users.all(names.values)[names.codes] << 32 | texts.all(list(map(_as_written, said.values)))[said.codes]
        )
        pairs.append(np.unique(numbers[kept]))
        if sum(map(len, pairs)) > PENDING:
            pairs = [np.unique(np.concatenate(pairs))]
    return _counted(np.unique(np.concatenate(pairs)), list(texts.of), least_shoppers, until_ms, blocked)


def _counted(
    pairs: np.ndarray, texts: list[str], least_shoppers: int, until_ms: int, blocked: frozenset[str]
) -> Counted:
    of_text = np.bincount(pairs & 0xFFFFFFFF, minlength=len(texts))
    normal = _Numbers()
    query_of = normal.all(list(map(normalise, texts)))
    by_query = np.unique(pairs >> 32 << 32 | query_of[pairs & 0xFFFFFFFF]) if len(pairs) else pairs
    of_query = np.bincount(by_query & 0xFFFFFFFF, minlength=len(normal.of))
    usual: dict[str, tuple[int, str]] = {}
    for text, shoppers in zip(texts, of_text.tolist(), strict=True):
        if shoppers >= least_shoppers:
            best = (-shoppers, text)
            query = normalise(text)
            usual[query] = min(best, usual.get(query, best))
    rules = QueryRules(want=1, fewest=1, blocked=blocked)
    rows = [
        AllowedQuery(query, usual.get(query, (0, query))[1], shoppers)
        for query, shoppers in zip(normal.of, of_query.tolist(), strict=True)
        if shoppers >= least_shoppers and _can_be_listed(query, rules)
    ]
    searched = sum(shoppers > 0 for query, shoppers in zip(normal.of, of_query.tolist(), strict=True) if query)
    return Counted(AllowList.of(rows, least_shoppers, until_ms), searched, len(np.unique(pairs >> 32)))


def _as_written(query: str) -> str:
    """As prompts and answers hold it; empty where they would cut it: what is left, nobody searched."""
    text = content(query)
    return text if normalise(text) == normalise(query) else ""


def _can_be_listed(query: str, rules: QueryRules) -> bool:
    """Whether it comes through prompt and output whole."""
    return content(query) == query and isinstance(parse_list(query, rules), QueryList)


@dataclass(frozen=True)
class _Distinct:
    values: list[str]
    codes: np.ndarray
    """Each row's place among them."""


def _distinct(column: pa.ChunkedArray) -> _Distinct:
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    encoded = column.combine_chunks().fill_null("").dictionary_encode()
    return _Distinct(encoded.dictionary.to_pylist(), encoded.indices.to_numpy())


def _tables(root: str, kind: str, columns: list[str]) -> Iterator[pa.Table]:
    """Every file of a set. A record that could not be decoded has no fields, and is left out."""
    files = files_of(root, kind)
    if not files and kind == EVENTS:
        raise FileNotFoundError(
            f"no events in the archive {root}: is --archive right? `aigq archive show` says what is there"
        )
    for file in files:
        with open_file(file.path) as stream:
            table = pq.read_table(stream, columns=columns)
        yield table.filter(pa.array(table["time_ms"].is_valid().to_numpy()))


def _erased(root: str) -> dict[str, int]:
    """Log clock of each erased shopper's last `erase`. The whole archive's: who asked to be forgotten after `until` is too."""
    found: dict[str, int] = {}
    for table in _tables(root, EVENTS, ["user", "kind", "time_ms", "clock_ms"]):
        erases = table.filter(pa.array(np.asarray(table["kind"].to_pylist(), dtype=object) == "erase"))
        for user, clock_ms in zip(erases["user"].to_pylist(), erases["clock_ms"].to_pylist(), strict=True):
            found[user] = max(clock_ms, found.get(user, 0))
    return found


def _clicked_hints(root: str) -> dict[tuple[str, str], list[int]]:
    """(shopper, normal form of the hint) -> times of pages on which they clicked it."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for table in _tables(root, EXPOSURES, ["user", "time_ms", "hints", "clicked"]):
        rows = zip(*(table[name].to_pylist() for name in ("user", "time_ms", "hints", "clicked")), strict=True)
        for user, time_ms, hints, clicked in rows:
            for place in clicked:
                if place < len(hints):
                    found[user, normalise(hints[place])].append(time_ms)
    return found


def _began_with_hints(
    names: _Distinct, said: _Distinct, time_ms: np.ndarray, hints: dict[tuple[str, str], list[int]]
) -> np.ndarray:
    """Of each search, whether a hint did it."""
    began = np.zeros(len(time_ms), dtype=bool)
    if not hints:
        return began
    clicked = {query for _, query in hints}
    queries = list(map(normalise, said.values))
    of_clicked = np.array([query in clicked for query in queries] or [False])
    for row in np.flatnonzero(of_clicked[said.codes]):
        pages = hints.get((names.values[names.codes[row]], queries[said.codes[row]]), ())
        began[row] = any(0 <= time_ms[row] - page_ms <= HINT_MS for page_ms in pages)
    return began
