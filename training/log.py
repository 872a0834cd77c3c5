"""A behaviour log in columns, for rules and models that learn from all shoppers at once; and moments at which lists are judged.

A `Log` ends somewhere; whoever is fitted on it knows nothing of what came later. That is how every contender gets the same cut-off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from schemas import Behaviour


@dataclass(frozen=True)
class Log:
    """Behaviours of all shoppers, by time. Columns of one length."""

    users: tuple[str, ...]
    """Names; `user` points into them."""
    user: np.ndarray
    """int32."""
    time_ms: np.ndarray
    """int64, never falling."""
    is_search: np.ndarray
    """bool: a search, else a click."""
    texts: tuple[str, ...]
    """Distinct texts; `text` points into them. Of a search: the normalised query (inference.output.normalise); of a click: the title."""
    text: np.ndarray
    """int32."""
    categories: tuple[str, ...]
    """Distinct leaf categories, "" among them; `category` points into them (a search has "")."""
    category: np.ndarray
    """int32."""
    by_themselves: np.ndarray
    """bool: false for a search that a clicked hint began."""

    def __len__(self) -> int:
        return len(self.time_ms)

    def before(self, time_ms: int) -> "Log":
        """What happened earlier than `time_ms`."""
        end = int(np.searchsorted(self.time_ms, time_ms))
        return Log(
            self.users,
            self.user[:end],
            self.time_ms[:end],
            self.is_search[:end],
            self.texts,
            self.text[:end],
            self.categories,
            self.category[:end],
            self.by_themselves[:end],
        )


class Case(msgspec.Struct, frozen=True):
    """A moment at which a shopper sees the search box, and what that shopper then did.

    Everything in `seen` happened before `as_of_ms`, and everything in `next`, `later` and `clicked` at or after it.
    """

    user: str
    as_of_ms: int
    profile: dict[str, str]
    seen: tuple[Behaviour, ...]
    """As the nearline job would freeze them: the newest ones, oldest first."""
    next: str
    """The first search by themselves after `as_of_ms` on that day, normalised: the truth of the primary metric."""
    later: tuple[str, ...]
    """All distinct searches by themselves of that day from `as_of_ms` on, normalised, by time; `next` is the first."""
    clicked: tuple[str, ...] = ()
    """Hints that were clicked that day from `as_of_ms` on, normalised: reported apart, never part of the truth."""


class Ranker(Protocol):
    """A contender: a rule, a trained baseline, or the model."""

    name: str

    def fit(self, log: Log) -> None:
        """Learns from a log that ends at the cut-off. May be called again with a longer one (statistics rebuilt daily)."""
        ...

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        """For each case at most `count` distinct normalised queries, best first, from what was fitted and from the case's `seen` and `profile`.
        It never looks at `next`, `later` or `clicked`: `hidden` takes them away first."""
        ...


def hidden(case: Case) -> Case:
    """The case as a contender may see it."""
    return msgspec.structs.replace(case, next="", later=(), clicked=())
