"""The figures of a list, case by case: arrays over cases, NaN where a figure says nothing of a case.

HR@k: the next search by themselves is among the first k. NDCG@10 and recall: over all distinct searches by themselves of the rest of
the day. Definitions in docs/yardstick.md.
"""

from collections.abc import Mapping

import numpy as np

from training.yardstick.lists import NONE, PLACES, Truths

PRIMARY = "HR@10"
HIT_PLACES = (10, 3, 1, 30)
NEEDS_ALL_PLACES = frozenset({"HR@30", "recall@30", "MRR"})
"""Compared only between contenders that fill as many places."""

Values = dict[str, np.ndarray]


def hit_metrics(ranked: np.ndarray, truths: Truths) -> Values:
    """From lists (n, places) and what happened."""
    values: Values = {}
    place = first_place(ranked, truths.next)
    for k in HIT_PLACES:
        values[f"HR@{k}"] = (place < k).astype(float)
    values["MRR"] = np.where(place < PLACES, 1.0 / (1 + place), 0.0)
    gains = _gains(ranked, truths.later)
    wanted = np.maximum((truths.later != NONE).sum(axis=1), 1)
    values["NDCG@10"] = _ndcg(gains[:, :10], wanted)
    for k in (10, 30):
        values[f"recall@{k}"] = gains[:, :k].sum(axis=1) / wanted
    clicked = (truths.clicked != NONE).any(axis=1)
    hit = _gains(ranked[:, :10], truths.clicked).any(axis=1)
    values["clicked hints HR@10"] = np.where(clicked, hit, np.nan)
    values["candidates"] = (ranked != NONE).sum(axis=1).astype(float)
    return values


def category_metrics(ranked: np.ndarray, truths: Truths, category: np.ndarray, judge: str) -> Values:
    """`category`: of every query by number, 0 where the judge knows none. A case whose truth has none says nothing."""
    wanted = category[truths.next]
    found = np.where(ranked == NONE, 0, category[ranked])
    same = (found == wanted[:, None]) & (found > 0)
    values = {f"category HR@{k} ({judge})": np.where(wanted > 0, same[:, :k].any(axis=1), np.nan) for k in (10, 30)}
    first = np.sort(found[:, :10], axis=1)
    fresh = (first > 0) & np.diff(first, axis=1, prepend=0).astype(bool)
    return values | {f"unique categories@10 ({judge})": fresh.sum(axis=1).astype(float)}


def similarity_metrics(ranked: np.ndarray, truths: Truths, embedding: np.ndarray) -> Values:
    """Cosine of the first ten to the next search: mean over the ten, and the nearest. `embedding` (queries, width) of length 1."""
    wanted = embedding[truths.next]
    total, nearest = np.zeros(len(ranked)), np.full(len(ranked), -1.0)
    count = (ranked[:, :10] != NONE).sum(axis=1)
    for column in ranked[:, :10].T:
        there = column != NONE
        cosine = np.einsum("nd,nd->n", embedding[np.where(there, column, 0)], wanted)
        total += np.where(there, cosine, 0.0)
        nearest = np.where(there, np.maximum(nearest, cosine), nearest)
    return {
        "similarity@10": np.where(count > 0, total / np.maximum(count, 1), 0.0),
        "similarity nearest@10": np.where(count > 0, nearest, 0.0),
    }


def only_comparable(by_contender: Mapping[str, Values], least: float = 0.99) -> dict[str, Values]:
    """Takes figures over all places from contenders that fill fewer places than the fullest one in more than a hundredth of the cases:
    ten candidates are not compared with thirty."""
    fullest = np.max([values["candidates"] for values in by_contender.values()], axis=0)
    made = {}
    for name, values in by_contender.items():
        full = np.mean(values["candidates"] >= fullest) >= least
        nothing = np.full(len(fullest), np.nan)
        taken = {m for m in values if m in NEEDS_ALL_PLACES or m.startswith("category HR@30")}
        made[name] = values if full else values | dict.fromkeys(taken, nothing)
    return made


def first_place(ranked: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Place of a query in its list, 0 is the first; PLACES where it is not there."""
    same = ranked == query[:, None]
    return np.where(same.any(axis=1), same.argmax(axis=1), PLACES)


def _gains(ranked: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    found = np.zeros(ranked.shape, bool)
    for column in wanted.T:
        found |= (ranked == column[:, None]) & (column != NONE)[:, None]
    return found


def _ndcg(gains: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    discounts = 1 / np.log2(np.arange(2, gains.shape[1] + 2))
    ideal = np.cumsum(discounts)[np.minimum(wanted, gains.shape[1]) - 1]
    return (gains * discounts).sum(axis=1) / ideal
