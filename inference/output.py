"""The model's text becomes a shopper's list: valid, distinct and allowed queries, in the order the model gave them.

The order is what the model was trained for (interest strength, AIGQ sec. 3.3), so nothing here ranks; a query that breaks
a rule is dropped and the next one moves up. A text that does not hold a list is `Malformed`: it becomes a dead letter and
the shopper keeps the last good list.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

MalformedReason = Literal["empty", "truncated", "too_few"]
DropReason = Literal["blank", "undecodable", "markup", "length", "script", "duplicate", "blocked", "unsupported"]

SEPARATORS = re.compile(r";;|[\r\n]+")
"""Between two queries: what the shipped model was trained to write, and what a general LLM writes."""
NEAR_DUPLICATE = 0.8
"""Share of common words (Jaccard) from which two queries count as one; also what training penalises as repetition."""
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True)
class QueryRules:
    """What a query must be to be shown."""

    want: int = 10
    """Queries in a list: "the next 10 queries"."""
    fewest: int = 5
    """A text with fewer good queries is malformed: half a list is worse than the last good one, which is whole."""
    shortest: int = 2
    longest: int = 80
    """Characters. A search box shows about 30; the longest real queries of the logs stay below 80."""
    most_words: int = 12
    scripts: frozenset[str] = frozenset({"LATIN"})
    """Scripts of the shop's language, as Unicode names letters (LATIN, CYRILLIC, CJK ...); empty allows all."""
    blocked: frozenset[str] = frozenset()
    """Normalised words and phrases that no query may hold; see `read_block_list`."""
    supported: frozenset[str] | None = None
    """Normal forms of the only queries that may be shown (`allow_list.py`); None: any."""

    def errors(self) -> list[str]:
        """What is wrong with these values, all at once; empty where nothing is."""
        wrong = []
        if not 1 <= self.fewest <= self.want:
            wrong.append(f"a list needs 1 <= fewest <= want, is fewest {self.fewest}, want {self.want}")
        if not 1 <= self.shortest <= self.longest:
            wrong.append(f"a query needs 1 <= shortest <= longest characters, is {self.shortest} .. {self.longest}")
        if self.most_words < 1:
            wrong.append(f"most_words must be above 0, is {self.most_words}")
        return wrong


@dataclass(frozen=True, slots=True)
class QueryList:
    queries: tuple[str, ...]
    """At most `want`, in the model's order; every one keeps every rule."""
    dropped: tuple[DropReason, ...] = ()
    """Why the others were left out, in order."""


@dataclass(frozen=True, slots=True)
class Malformed:
    reason: MalformedReason
    detail: str
    dropped: tuple[DropReason, ...] = ()


def parse_list(text: str, rules: QueryRules, finish: Literal["stop", "length"] = "stop") -> QueryList | Malformed:
    """The list in a model's output. Never raises.

    `finish` is why the model stopped: `length` means it was cut off, so what stands after the last separator is half a
    query. A text that was cut off after its `want`-th good query still holds a whole list; before that it is `truncated`.
    """
    pieces = SEPARATORS.split(text)
    if finish == "length":
        pieces.pop()
    queries: list[str] = []
    seen: list[frozenset[str]] = []
    dropped: list[DropReason] = []
    for piece in pieces:
        if len(queries) == rules.want:
            break
        query = clean(piece)
        words = frozenset(normalise(query).split())
        reason = _drop_reason(query, words, seen, rules)
        if reason is None:
            queries.append(query)
            seen.append(words)
        elif reason != "blank":
            dropped.append(reason)
    if finish == "length" and len(queries) < rules.want:
        return Malformed("truncated", f"cut off after {len(queries)} of {rules.want} queries", tuple(dropped))
    if not queries and not dropped:
        return Malformed("empty", "no query in the output")
    if len(queries) < rules.fewest:
        detail = f"{len(queries)} good queries of at least {rules.fewest}; dropped: {', '.join(dropped)}"
        return Malformed("too_few", detail, tuple(dropped))
    return QueryList(tuple(queries), tuple(dropped))


def clean(text: str) -> str:
    """A query as it is shown: composed characters, no control characters, single spaces."""
    composed = unicodedata.normalize("NFC", text)
    # Categories C*: control, format (bidi overrides, zero width), surrogates, private use, unassigned.
    return " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in composed).split())


@lru_cache(maxsize=65_536)
def normalise(query: str) -> str:
    """Two queries that a shopper would call the same have one normal form: case, width, punctuation and spaces do not count."""
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", query).casefold()))


def near_duplicates(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether the words of two queries are (nearly) the same, in any order."""
    return len(a & b) >= NEAR_DUPLICATE * len(a | b)


def read_block_list(path: str | Path) -> frozenset[str]:
    """Words and phrases that no list may show: a text file, one a line, `#` starts a comment.

    Raises OSError or UnicodeDecodeError where the file cannot be read; a job stops at that before it starts.
    """
    return block_list(Path(path).read_text(encoding="utf-8").splitlines())


def block_list(lines: Iterable[str]) -> frozenset[str]:
    phrases = (normalise(line.split("#", 1)[0]) for line in lines)
    return frozenset(phrase for phrase in phrases if phrase)


def _drop_reason(query: str, words: frozenset[str], seen: list[frozenset[str]], rules: QueryRules) -> DropReason | None:
    if not query:
        return "blank"
    if "\ufffd" in query:
        return "undecodable"
    # Every special token is written <...>, and no shopper searches with angle brackets.
    if "<" in query or ">" in query:
        return "markup"
    if not (words and rules.shortest <= len(query) <= rules.longest and len(query.split()) <= rules.most_words):
        return "length"
    if rules.scripts and not all(_script(c) in rules.scripts for c in query if c.isalpha()):
        return "script"
    if any(near_duplicates(words, other) for other in seen):
        return "duplicate"
    if _is_blocked(normalise(query), rules.blocked):
        return "blocked"
    if rules.supported is not None and normalise(query) not in rules.supported:
        return "unsupported"
    return None


@lru_cache(maxsize=4_096)
def _script(letter: str) -> str:
    """Script of a letter: the first word of its Unicode name (the standard library has no script property)."""
    return unicodedata.name(letter, "UNKNOWN").split(" ", 1)[0].split("-", 1)[0]


def _is_blocked(normalised: str, blocked: frozenset[str]) -> bool:
    """Whether a blocked word or phrase stands in the query as whole words."""
    if not blocked:
        return False
    words = normalised.split()
    runs = (" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1))
    return any(run in blocked for run in runs)
