"""Item descriptions: title, category and attributes as one short text (AIGQ sec. 3.2).

A title is written to be found by search engines: half of it is model numbers, colours and pack sizes, and prompts cut it after
48 characters. A description says brand, what it is and what is special about it. A **writer** makes one: `by_rule` here,
offline and always the same, or a language model behind an endpoint (`description_endpoint.py`).

Descriptions lie in a Parquet file, each with its writer and a digest of what was described: `describe_items` writes only
what is missing or has changed, and goes on where it was killed. `Descriptions.of` is what `build_prompt(describe=...)` takes.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from inference.prompt import MOST_CHARACTERS, content
from schemas import Item

SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "title", "description", "writer", "source")])
BATCH = 512
"""Items between two times that the file is written."""
LONGEST_TITLE = 400

_PACK = re.compile(
    r"\b(?:pack|set|case|box|lot) of \d+\b|\b\d+[\s-]*(?:packs?|pk|count|ct|pcs?|pieces?)\b|\(\s*\d+\s*\)|[\[(][^\])]*[\])]"
)
_MEASURE = re.compile(
    r"\d+(?:\.\d+)?(?:k|p|g|gb|tb|mb|hz|ghz|mhz|mp|mah|w|v|in|inch|inches|ft|mm|cm|m|oz|lb|lbs|qt|l|ml|x|st|nd|rd|th)?"
)
_PART = re.compile(
    r"\d+(?:\.\d+)?[ -](?:inch(?:es)?|in|gb|tb|mp|hz|ft|oz|qt|cups?|watts?|volts?|people|person|line)\b"
    r"|\d+(?:\.\d+)?\""
    r"|[\w][\w.&'+-]*(?: \d{1,3}(?![\w.\"-]| inch| gb))?"
)
_FILLING = frozenset("with and for the a an of in by to new class from".split())
_CODE = re.compile(r"[a-z]*\d{3,}")
"""A category that is only a number of the shop's says nothing."""


class Description(NamedTuple):
    id: str
    title: str
    description: str
    writer: str
    """Name and version of what wrote it."""
    source: str
    """Digest of title, category and attributes: another one is another item to describe."""


class Writer(Protocol):
    @property
    def version(self) -> str:
        """Changes with everything that could change a description."""
        ...

    def write(self, items: Sequence[Item]) -> list[tuple[str, str]]:
        """(description, version of what wrote it) of each. Raises where nothing can be written now; what was written is kept."""
        ...


class RuleWriter:
    version = "rule/1"

    def write(self, items: Sequence[Item]) -> list[tuple[str, str]]:
        return [(by_rule(item), self.version) for item in items]


@dataclass(frozen=True)
class Described:
    items: int
    written: int
    """Of them, written now; the others were there."""
    fallen_back: int
    """Of those, by another writer than was asked for: they are tried again next time."""


class Descriptions:
    """What was written, by title: a behaviour knows the title of what was clicked, and no more."""

    def __init__(self, rows: Iterable[Description]):
        self._of = {row.title: row.description for row in rows}

    @staticmethod
    def read(path: str | Path) -> "Descriptions":
        """Raises FileNotFoundError, or ValueError where the file holds something else."""
        return Descriptions(read_descriptions(path).values())

    def of(self, title: str) -> str:
        """The title itself where it has no description."""
        return self._of.get(title, title)


def by_rule(item: Item) -> str:
    """Brand, what the title and the attributes tell of it, leaf category; at most MOST_CHARACTERS, never empty for an item
    with a title.

    Pack sizes, what stands in brackets, model numbers and prices are left out; what does not fit goes from the end, the
    category last.
    """
    title = _PACK.sub(" ", content(item.title, LONGEST_TITLE))
    brand = content(item.attributes.get("brand", ""))
    category = content(re.split(r"[>/|]", item.category)[-1])
    if _CODE.fullmatch(category):
        category = ""
    said = {_stem(word) for word in f"{brand} {category}".split()}
    room = MOST_CHARACTERS - len(f"{brand} {category}".strip())
    taken: list[tuple[int, str]] = []
    for found in (_attributes(item, title), _parts(title)):
        for place, words in found:
            stems = {_stem(word) for word in words.split()}
            if stems <= said:
                continue
            if len(words) + 1 > room:
                break  # a later, shorter word would stand beside one that it does not belong to
            taken.append((place, words))
            room -= len(words) + 1
            said |= stems
    in_order = " ".join(words for _, words in sorted(taken))
    return content(f"{brand} {in_order} {category}") or content(item.title)


def _attributes(item: Item, title: str) -> list[tuple[int, str]]:
    """What attributes say, and where the title does; behind it where it does not."""
    values = [value for name, value in sorted(item.attributes.items()) if name not in ("brand", "price")]
    parts = [_PACK.sub("", content(part)).strip() for value in values for part in value.split(",")]
    return [(place if (place := title.find(part)) >= 0 else len(title), part) for part in parts if part]


def _parts(title: str) -> list[tuple[int, str]]:
    """A title's words, a number together with what it belongs to."""
    found = [(match.start(), match.group().strip("'-+.")) for match in _PART.finditer(title)]
    return [(place, part) for place, part in found if part and part not in _FILLING and not _is_number_of_a_model(part)]


def describe_items(
    items: Sequence[Item], writer: Writer, out: str | Path, progress: Callable[[int, int], None] = lambda done, of: None
) -> Described:
    """Writes what `out` does not hold yet of these items, by this writer. Items that are gone from the shop stay: lists and
    logs still name them.

    progress: called with (items that are done, all items). Raises what the writer raises; what was written by then lies in `out`.
    """
    held = dict(read_descriptions(out)) if Path(out).exists() else {}
    missing = [item for item in items if not _is_current(held.get(item.id), item, writer.version)]
    fallen_back = 0
    for begin in range(0, len(missing), BATCH):
        batch = missing[begin : begin + BATCH]
        written = writer.write(batch)
        for item, (text, version) in zip(batch, written, strict=True):
            held[item.id] = Description(item.id, item.title, text, version, source_of(item))
            fallen_back += version != writer.version
        _write(out, held)
        progress(len(items) - len(missing) + begin + len(batch), len(items))
    if not missing:
        _write(out, held)
    return Described(len(items), len(missing), fallen_back)


def read_items(path: str | Path) -> list[Item]:
    """A Parquet file with the columns id, title, category and attributes (a map). Raises ValueError, FileNotFoundError."""
    try:
        table = pq.read_table(path, columns=["id", "title", "category", "attributes"])
        if len(table.column_names) < 4:
            raise ValueError(f"columns {', '.join(table.column_names)}")
        rows = zip(*(table[name].to_pylist() for name in ("id", "title", "category", "attributes")), strict=True)
        return [Item(id, title, category or "", dict(attributes or ())) for id, title, category, attributes in rows]
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} holds no items (id, title, category, attributes: map<string, string>): {error}"
        ) from error


def read_descriptions(path: str | Path) -> Mapping[str, Description]:
    """By item. Raises FileNotFoundError, ValueError."""
    try:
        table = pq.read_table(path, schema=SCHEMA)
    except pa.ArrowException as error:
        raise ValueError(f"{path} holds no descriptions ({error}); `aigq describe-items` writes such a file") from error
    columns = (table[name].to_pylist() for name in SCHEMA.names)
    return {row.id: row for row in map(Description, *columns)}


def source_of(item: Item) -> str:
    told = "\t".join([item.title, item.category, *(f"{k}={v}" for k, v in sorted(item.attributes.items()))])
    return sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _is_current(held: Description | None, item: Item, version: str) -> bool:
    return held is not None and held.writer == version and held.source == source_of(item)


def _write(path: str | Path, rows: Mapping[str, Description]) -> None:
    """In one step: a reader sees the old file or the new one."""
    ordered = sorted(rows.values())
    table = pa.table([[getattr(row, name) for row in ordered] for name in SCHEMA.names], schema=SCHEMA)
    arriving = Path(path).with_name(f".{Path(path).name}.arriving")
    pq.write_table(table, arriving, compression="zstd")
    arriving.replace(path)


def _is_number_of_a_model(word: str) -> bool:
    """`ins15-3520`, `mc990`, `un55`: letters and digits, and no measure (`15.6"`, `8gb`, `4k`) nor a short name (`ps5`, `iphone 17`)."""
    bare = word.split(" ", maxsplit=1)[0].strip("\"'")
    digits = sum(c.isdigit() for c in bare)
    return digits >= 2 and any(c.isalpha() for c in bare) and not _MEASURE.fullmatch(bare)


def _stem(word: str) -> str:
    """One form for singular and plural: enough to see that a title names its category."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
