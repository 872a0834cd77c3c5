"""The read side: a shopper's hints in one round trip to the store."""

import time
from dataclasses import dataclass

from schemas import QueryRun
from store.client import ShopperStore


@dataclass(frozen=True)
class Hint:
    query: str
    run_id: str
    """The run that the query comes from."""
    age_s: float
    """Seconds since the interest that the run answers to."""


@dataclass(frozen=True)
class Lookup:
    """Reads lists; decides nothing. `max_age_s` is checked on read: time to live in the store only collects garbage."""

    store: ShopperStore
    max_age_s: float = 30 * 86_400

    def hints(self, user: str, most: int = 10, now_ms: int | None = None) -> tuple[Hint, ...]:
        """Up to `most` distinct queries: the newest list in its order, then what older lists add. Empty if there is none.

        Raises store.client.StoreUnavailable where the store does not answer within its deadline.
        """
        return merge(self.store.runs(user), most, now_ms or int(time.time() * 1000), self.max_age_s)


def merge(runs: list[QueryRun], most: int, now_ms: int, max_age_s: float) -> tuple[Hint, ...]:
    """Runs newest first -> distinct queries (case and spaces aside), newest list first, none older than `max_age_s`."""
    hints: dict[str, Hint] = {}
    for run in runs:
        age_s = (now_ms - run.as_of_ms) / 1000
        if age_s <= max_age_s:
            for query in run.queries:
                hints.setdefault(" ".join(query.casefold().split()), Hint(query, run.run_id, age_s))
    return tuple(hints.values())[:most]
