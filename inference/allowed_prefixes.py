"""The allow-list while the model writes: a trie of the allowed queries' tokens, and where in it each answer stands.

At every step an answer may go on with the tokens that lead to an allowed query it has not listed yet, and with the separator
or the end where such a query is complete. A branch that leads to listed queries only is closed, so an answer never repeats a
query (nor its words in another order, which `output.py` would drop) and never comes to a dead end.

The trie holds each query in the one tokenisation that the model was trained to write (`prompt.answer`): a separator is one
token and ends the pieces that BPE joins, so a query has the same tokens anywhere in an answer, and other ways to spell the
same text are not to be had.
"""

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from inference.allow_list import AllowList
from inference.output import QueryRules, normalise
from inference.prompt import SEPARATOR, content
from inference.vocabulary import END, token_id

LOST = -1
"""An answer that is not of this trie, e.g. with a beginning that somebody else wrote: it may only end its query."""


class Prefixes:
    """The trie, in arrays: about 70 bytes a node. Node 0 is the beginning of a query; children of a node lie side by side,
    by token."""

    def __init__(self, paths: Sequence[Sequence[int]], words: Sequence[frozenset[str]], separator: int, end: int, fewest: int = QueryRules.fewest):  # fmt: skip
        """paths: tokens of each query. words: what makes two of them the same. fewest: queries before the end is allowed."""
        self.separator, self.end, self.fewest = separator, end, fewest
        both = np.array([separator, end])
        self.stops = {(True, True): both, (True, False): both[:1], (False, True): both[1:]}
        """(whether there is more to list, whether the end may come) -> the tokens that may end a query."""
        self._number(paths)
        by_words: dict[frozenset[str], list[int]] = defaultdict(list)
        for path, these in zip(paths, words, strict=True):
            by_words[these].append(self._node(path))
        self.same = {node: tuple(nodes) for nodes in by_words.values() for node in nodes}
        """Complete query -> all that count as the same, itself included."""
        self.below = self._count_below()

    @staticmethod
    def of(allowed: AllowList, tokenizer: Tokenizer) -> "Prefixes":
        """Raises ValueError where the list allows nothing."""
        # The normal form too: which of the two a model learned to write depends on its samples.
        texts = sorted({content(text) for row in allowed.rows for text in (row.text, row.query)} - {""})
        if not texts:
            raise ValueError(
                "the allow-list allows no query, so nothing could be written; count it with fewer --shoppers"
            )
        paths = [encoding.ids for encoding in tokenizer.encode_batch([f" {text}" for text in texts])]
        words = [frozenset(normalise(text).split()) for text in texts]
        return Prefixes(paths, words, token_id(tokenizer, SEPARATOR), token_id(tokenizer, END))

    def child(self, node: int, token: int) -> int:
        """LOST where the token does not lead on."""
        first, last = self._first[node], self._first[node + 1]
        place = bisect_left(self._token, token, first, last)
        return place if place < last and self._token[place] == token else LOST

    def children(self, node: int) -> tuple[int, int]:
        """First child and behind the last."""
        return self._first[node], self._first[node + 1]

    def _number(self, paths: Sequence[Sequence[int]]) -> None:
        """Nodes breadth first, so that children lie side by side."""
        grown: list[dict[int, int]] = [{}]
        for path in paths:
            node = 0
            for token in path:
                if token not in grown[node]:
                    grown[node][token] = len(grown)
                    grown.append({})
                node = grown[node][token]
        order, tokens, parents, first = [0], [LOST], [LOST], []
        for number, node in enumerate(order):  # grows as it goes
            first.append(len(order))
            for token in sorted(grown[node]):
                order.append(grown[node][token])
                tokens.append(token)
                parents.append(number)
        self._token = array("q", tokens)
        self.parent = array("i", parents)
        """LOST above the beginning."""
        self._first = array("i", [*first, len(order)])
        # The same memory: bisect and indexing are several times faster on the array, slices of it are on numpy's view.
        self.tokens = np.frombuffer(self._token, dtype=np.int64)
        """The token that leads to each node."""

    def _node(self, path: Sequence[int]) -> int:
        node = 0
        for token in path:
            node = self.child(node, token)
        return node

    def _count_below(self) -> "array[int]":
        """Complete queries at and below each node."""
        below = array("i", [node in self.same for node in range(len(self._token))])
        for node in range(len(below) - 1, 0, -1):
            below[self.parent[node]] += below[node]
        return below


class Standing:
    """One answer as it is written, token by token."""

    def __init__(self, prefixes: Prefixes, written: Sequence[int]):
        self._prefixes = prefixes
        self._written = written
        """Grows from outside."""
        self._read = 0
        self._node = 0
        self._queries = 0
        self._done: set[int] = set()
        """Complete queries that are listed, or count as the same as one that is."""
        self._listed: dict[int, int] = {}
        """Node -> how many of them lie at and below it."""
        self._closed: dict[int, list[int]] = defaultdict(list)
        """Node -> its children that lead to listed queries only."""

    def follow(self) -> None:
        """Takes in what was written since."""
        prefixes, read = self._prefixes, self._read
        if read == len(self._written):
            return
        for token in self._written[read:]:
            if token in (prefixes.separator, prefixes.end):
                self._list(self._node)
                self._node = 0
            elif self._node != LOST:
                self._node = prefixes.child(self._node, token)
        self._read = len(self._written)

    def next_tokens(self) -> list[np.ndarray]:
        """Tokens that may come next, in some arrays."""
        prefixes, node = self._prefixes, self._node
        if node == LOST:
            return [prefixes.stops[True, True]]
        first, last = prefixes.children(node)
        tokens = prefixes.tokens[first:last]
        if closed := self._closed.get(node):
            tokens = np.delete(tokens, [child - first for child in closed])
        stops = self._stops(node)
        return [tokens, stops] if stops is not None else [tokens]

    def _stops(self, node: int) -> np.ndarray | None:
        """Of separator and end, what may come next; nothing within a query, or where it was listed before."""
        prefixes, same = self._prefixes, self._prefixes.same.get(node)
        if same is None or node in self._done:
            return None
        more = prefixes.below[0] - self._listed.get(0, 0) > len(same)
        may_end = self._queries + 1 >= prefixes.fewest or not more
        return prefixes.stops[more, may_end]

    def _list(self, node: int) -> None:
        """A query is complete: the branches that lead to nothing else any more are closed."""
        prefixes = self._prefixes
        self._queries += 1
        if node in self._done:
            return
        for each in prefixes.same.get(node, ()):
            self._done.add(each)
            closed, above = LOST, each
            while above != LOST:
                if closed != LOST:
                    self._closed[above].append(closed)
                listed = self._listed[above] = self._listed.get(above, 0) + 1
                closed = above if listed == prefixes.below[above] else LOST
                above = prefixes.parent[above]


class Places(NamedTuple):
    """Row and token of everything that may come next in a batch."""

    rows: np.ndarray
    tokens: np.ndarray


def places(standings: Mapping[int, Standing]) -> Places:
    """Of every row of a batch; each row has at least one."""
    arrays: list[np.ndarray] = []
    rows: list[int] = []
    for row, standing in standings.items():
        standing.follow()
        found = standing.next_tokens()
        arrays += found
        rows += [row] * len(found)
    return Places(np.repeat(rows, [len(each) for each in arrays]), np.concatenate(arrays))
