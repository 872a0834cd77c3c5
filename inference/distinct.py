"""A list never repeats a query: while the model writes, the token that would complete a query it has already listed is not to
be had, and it takes the next best instead.

A small decoder that looks for the likeliest next query is prone to find the same one in slot after slot (docs/decisions/0004).
Taking away only the last token of a repeat leaves the model's order as it is.

`vllm_distinct.py` is vLLM's way in, `training/decode.py` torch's.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer

from inference.prompt import SEPARATOR
from inference.vocabulary import END, token_id


class Listed:
    """The queries of one answer as it is written, token by token."""

    def __init__(self, stops: frozenset[int], written: Sequence[int]):
        self._stops = stops
        """Tokens that end a query: the separator, and the end of the answer."""
        self._written = written
        """Grows from outside."""
        self._read = 0
        self._query: list[int] = []
        self._last_of: dict[tuple[int, ...], set[int]] = {}
        """Beginning of a listed query -> the tokens that would complete it."""

    def banned(self) -> set[int] | frozenset[int]:
        """Tokens that may not come next.

        The last token of a repeat; but a query of one token may begin another (`laptop`, `laptop case`), so it may be written
        again and only may not end there.
        """
        for token in self._written[self._read :]:
            if token in self._stops:
                if self._query:
                    self._last_of.setdefault(tuple(self._query[:-1]), set()).add(self._query[-1])
                self._query = []
            else:
                self._query.append(token)
        self._read = len(self._written)
        if not self._query:
            return frozenset()
        if len(self._query) == 1 and self._query[0] in self._last_of.get((), ()):
            return self._last_of.get(tuple(self._query), set()) | self._stops
        return self._last_of.get(tuple(self._query), frozenset())


def stops_of(tokenizer: Tokenizer) -> frozenset[int]:
    return frozenset({token_id(tokenizer, SEPARATOR), token_id(tokenizer, END)})
