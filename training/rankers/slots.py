"""What queries are made of, mined from a log alone: head words of a category, brands, attributes, model numbers.

A query's category is the one whose items are clicked after it. Its head is the run of words that most of the category's queries
share and others do not; what stands around it are modifiers. A modifier with which titles begin is a brand, one that stands
elsewhere in them is an attribute, a word with a digit is a model number.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from inference.output import normalise
from training.log import Log

LONGEST = 4
"""Words of a head; a modifier has one less."""
CLICKED_WITHIN_MS = 600_000
HEADS = 3
"""Of one category: shoppers call a thing by more than one name."""
SYNONYM_SHARE = 0.08
"""Of the category's searches that a further head must cover."""
FEWEST = 3
"""Searches of a modifier."""


class Parsed(NamedTuple):
    category: str
    form: str
    """Order of its parts: h(ead), b(rand), a(ttribute), m(odel): "bh" is a brand before the head."""
    head: str = ""
    brand: str = ""
    attribute: str = ""
    model: str = ""

    def part(self, slot: str) -> str:
        return {"h": self.head, "b": self.brand, "a": self.attribute, "m": self.model}[slot]


class Titled(NamedTuple):
    """What a clicked title tells."""

    brand: str
    attributes: tuple[str, ...]
    models: tuple[str, ...]


class Slots:
    """Made from a log; reads queries and titles, known or new."""

    def __init__(self, log: Log) -> None:
        clicked = clicked_after(log)
        self.category_of: dict[str, str] = {}
        by_category: dict[str, Counter[str]] = defaultdict(Counter)
        for query, categories in clicked.items():
            category, count = max(categories.items(), key=lambda pair: (pair[1], pair[0]))
            if 2 * count > categories.total():
                self.category_of[query] = category
            for category, count in categories.items():
                by_category[category][query] += count
        self.heads: dict[str, tuple[str, ...]] = _heads(by_category)
        self.of_head: dict[str, str] = {head: category for category, heads in self.heads.items() for head in heads}
        titles = Counter(log.text[~log.is_search].tolist())
        self._runs_of_titles: Counter[str] = Counter()
        self._starts_of_titles: Counter[str] = Counter()
        for text, count in titles.items():
            words = normalise(log.texts[text]).split()
            for run in set(_runs(words, LONGEST)):
                self._runs_of_titles[run] += count
            for length in range(1, LONGEST):
                self._starts_of_titles[" ".join(words[:length])] += count
        self.modifiers = self._modifiers(log)
        self._parsed: dict[str, Parsed | None] = {}
        self._titled: dict[tuple[str, str], Titled] = {}

    def parse(self, query: str) -> Parsed | None:
        """A normalised query's parts; None where it holds something else."""
        if query not in self._parsed:
            self._parsed[query] = self._read(query)
        return self._parsed[query]

    def read_title(self, title: str, category: str) -> Titled:
        key = (title, category)
        if key not in self._titled:
            words = normalise(title).split()
            runs = list(_runs(words, LONGEST - 1))
            slots = [(run, self.modifiers.get(run)) for run in runs]
            starts = [" ".join(words[:length]) for length in range(LONGEST - 1, 0, -1)]
            brands = [run for run in starts if self.modifiers.get(run) == "b"]
            brands += [run for run, slot in slots if slot == "b"]
            models = tuple(word for word in words if _is_model(word) and self.modifiers.get(word) != "a")
            attributes = tuple(run for run, slot in slots if slot == "a")
            self._titled[key] = Titled(brands[0] if brands else "", attributes, models)
        return self._titled[key]

    def _modifiers(self, log: Log) -> dict[str, str]:
        """What stands beside a head -> b or a."""
        counts: Counter[str] = Counter()
        searches = Counter(log.text[log.is_search].tolist())
        for text, count in searches.items():
            found = self._around_head(log.texts[text])
            if found:
                for rest in (found[1], found[2], f"{found[1]} {found[2]}".strip()):
                    if rest and len(rest.split()) < LONGEST:
                        counts[rest] += count
        slots: dict[str, str] = {}
        for rest, count in sorted(counts.items(), key=lambda pair: (len(pair[0].split()), pair[0])):
            in_titles = self._runs_of_titles[rest]
            if count < FEWEST or (" " in rest and not in_titles):
                continue
            words = rest.split()
            parts = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
            if any(a in slots and b in slots and slots[a] != slots[b] for a, b in parts):
                continue  # a brand and an attribute, not one of either
            slots[rest] = "b" if 2 * self._starts_of_titles[rest] > max(1, in_titles) else "a"
        return slots

    def _around_head(self, query: str) -> tuple[str, str, str, str] | None:
        """Category, what stands before the head, what stands behind it, and the head: the longest one."""
        words = query.split()
        for length in range(min(LONGEST, len(words)), 0, -1):
            for start in range(len(words) - length + 1):
                head = " ".join(words[start : start + length])
                if head in self.of_head:
                    return self.of_head[head], " ".join(words[:start]), " ".join(words[start + length :]), head
        return None

    def _read(self, query: str) -> Parsed | None:
        found = self._around_head(query)
        if found:
            category, before, behind, head = found
            parts = [*(self._split(before) or [("?", before)]), ("h", head), *(self._split(behind) or [("?", behind)])]
        else:
            category, head = self.category_of.get(query, ""), ""
            parts = self._split(query) or [("?", query)]
        parts = [part for part in parts if part[1]]
        form = "".join(slot for slot, _ in parts)
        if not category or "?" in form or len(set(form)) != len(form):
            return None
        of = dict(parts)
        return Parsed(category, form, head, of.get("b", ""), of.get("a", ""), of.get("m", ""))

    def _split(self, words: str) -> list[tuple[str, str]] | None:
        """Into known modifiers and model numbers, each slot once."""
        if not words:
            return []
        if words in self.modifiers:
            return [(self.modifiers[words], words)]
        if " " not in words:
            return [("m", words)] if _is_model(words) and words in self._runs_of_titles else None
        each = words.split()
        for i in range(len(each) - 1, 0, -1):
            first, rest = " ".join(each[:i]), " ".join(each[i:])
            if (a := self._slot(first)) and (tail := self._split(rest)):
                return [(a, first), *tail]
        return None

    def _slot(self, words: str) -> str | None:
        model = " " not in words and _is_model(words) and words in self._runs_of_titles
        return self.modifiers.get(words) or ("m" if model else None)


def clicked_after(log: Log) -> dict[str, Counter[str]]:
    """Query -> categories of what was clicked after it, before the shopper's next search."""
    order = np.argsort(log.user, kind="stable")
    is_search = log.is_search[order]
    last = np.maximum.accumulate(np.where(is_search, np.arange(len(order)), -1))
    rows = np.flatnonzero(~is_search & (last >= 0))
    search, click = order[last[rows]], order[rows]
    near = (log.user[search] == log.user[click]) & (log.time_ms[click] - log.time_ms[search] <= CLICKED_WITHIN_MS)
    keys = log.text[search[near]].astype(np.int64) * len(log.categories) + log.category[click[near]]
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for key, count in zip(*np.unique(keys, return_counts=True), strict=True):
        category = log.categories[key % len(log.categories)]
        if category:
            found[log.texts[key // len(log.categories)]][category] += int(count)
    return found


def _heads(by_category: dict[str, Counter[str]]) -> dict[str, tuple[str, ...]]:
    """Of each category the runs of words that cover its searches and stand for it alone."""
    total: Counter[str] = Counter()
    for queries in by_category.values():
        for query, count in queries.items():
            for run in set(_runs(query.split(), LONGEST)):
                total[run] += count
    chosen: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for category in sorted(by_category, key=lambda name: (-by_category[name].total(), name)):
        left = Counter(by_category[category])
        heads: list[str] = []
        while len(heads) < HEADS and left:
            mass: Counter[str] = Counter()
            alone: Counter[str] = Counter()
            for query, count in left.items():
                alone[query] += count
                for run in set(_runs(query.split(), LONGEST)):
                    mass[run] += count

            def worth(run: str, mass: Counter[str] = mass, alone: Counter[str] = alone) -> float:
                """Cover x precision, more where it is searched alone, more for a longer run."""
                own = alone[run] / mass[run]
                return mass[run] * mass[run] / total[run] * (0.3 + own) * (1 + 0.2 * len(run.split()))

            best = max((run for run in mass if run not in taken), key=lambda run: (worth(run), run), default="")
            if not best or mass[best] < SYNONYM_SHARE * by_category[category].total() or alone[best] == 0:
                break
            heads.append(best)
            taken.add(best)
            left = Counter({q: n for q, n in left.items() if f" {best} " not in f" {q} "})
        if heads:
            chosen[category] = tuple(heads)
    return chosen


def _runs(words: list[str], longest: int) -> Iterator[str]:
    for start in range(len(words)):
        for end in range(start + 1, min(len(words), start + longest) + 1):
            yield " ".join(words[start:end])


def _is_model(word: str) -> bool:
    return len(word) > 2 and any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
