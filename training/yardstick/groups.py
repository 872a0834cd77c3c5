"""Warm, tail and cold: every case belongs to one of them."""

from collections.abc import Sequence

import numpy as np

from inference.output import normalise
from training.log import Case, Log

COLD_BEHAVIOURS = 3
"""Cold: the shopper has fewer behaviours than this before the moment."""
TAIL_SHOPPERS = 10
"""Tail: not cold, and fewer shoppers than this had searched the next query by themselves when the log ended."""
GROUPS = ("all", "warm", "tail", "cold")


def groups(cases: Sequence[Case], log: Log) -> dict[str, np.ndarray]:
    """Masks over cases; `log` ends at the cut-off."""
    shoppers = shoppers_of_queries(log)
    cold = np.array([len(case.seen) < COLD_BEHAVIOURS for case in cases], dtype=bool)
    rare = np.array([shoppers.get(case.next, 0) < TAIL_SHOPPERS for case in cases], dtype=bool)
    return {"all": np.ones(len(cases), bool), "warm": ~cold & ~rare, "tail": ~cold & rare, "cold": cold}


def shoppers_of_queries(log: Log) -> dict[str, int]:
    """How many shoppers searched each query by themselves."""
    rows = np.flatnonzero(log.is_search & log.by_themselves)
    pairs = np.unique(log.text[rows].astype(np.int64) * len(log.users) + log.user[rows])
    queries, counts = np.unique(pairs // max(1, len(log.users)), return_counts=True)
    return {log.texts[query]: int(count) for query, count in zip(queries, counts, strict=True)}


def facts(cases: Sequence[Case], log: Log) -> dict[str, float]:
    """What of the truths could be known at all: shares of cases."""
    known = shoppers_of_queries(log)
    own = [case.next in {normalise(b.text) for b in case.seen if b.kind == "search"} for case in cases]
    return {
        "next query was in the log": float(np.mean([case.next in known for case in cases])),
        "next query is an own earlier one": float(np.mean(own)),
    }
