"""Lists of every contender for the same cases -> rows: each figure, for each group, with its interval; gains over the best baseline; and
what a channel adds to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from training.log import Case
from training.yardstick.bootstrap import DRAWS, Estimate, Means, Resamples
from training.yardstick.judges import CategoryJudge, numbered, one_category_holds_nearly_all
from training.yardstick.lists import PLACES, Queries, Truths, added
from training.yardstick.metrics import (
    PRIMARY,
    Values,
    category_metrics,
    first_place,
    hit_metrics,
    only_comparable,
    similarity_metrics,
)
from training.yardstick.results import GAIN_OVER_POPULARITY, gain_over_it
from training.yardstick.similarity import WIDTH, embeddings

ALL = "all"
"""The split that is everybody: comparisons in other figures than the primary one are made there alone."""
CEILING = "ceiling"
"""Not a contender: the law's own likeliest queries, which know the shopper's mind."""
POPULARITY = "popularity"
EBR = "two-tower"
COVERED = "category HR@30"
"""Of each judge; what AIGQ's table 1 compares with EBR."""
COMPARED = ("HR@10", "HR@3", "HR@1", "NDCG@10", "HR@30")
RESERVED = {10: 3, 30: 10}
"""Budget of candidates -> places of it that an added channel gets; the base keeps the rest."""


class Measured(NamedTuple):
    split: str
    model: str
    metric: str
    estimate: Estimate


@dataclass(frozen=True)
class Judged:
    """What was said about which cases, and who judges."""

    cases: Sequence[Case]
    lists: Mapping[str, Sequence[tuple[str, ...]]]
    """Contender -> its lists, one a case; CEILING may be among them."""
    models: tuple[str, ...]
    """Contenders that are models; the others, but for CEILING, are baselines."""
    groups: Mapping[str, np.ndarray]
    """Split -> mask over cases; ALL is one."""
    extra: Mapping[str, Values] = field(default_factory=dict)
    judges: Sequence[CategoryJudge] = ()
    embeddings: Path | None = None
    """Where vectors of queries are kept; None: no similarity."""
    draws: int = DRAWS


@dataclass(frozen=True)
class Measurement:
    base: str
    """The baseline that is best by the primary metric: the one to beat. Chosen on the test itself, which favours it."""
    rows: list[Measured]


def measure(judged: Judged) -> Measurement:
    queries = Queries()
    truths = Truths.of(judged.cases, queries)
    ranked = {name: queries.rows(lists, PLACES) for name, lists in judged.lists.items()}
    values = {name: hit_metrics(each, truths) | judged.extra.get(name, {}) for name, each in ranked.items()}
    _judge(judged, queries, truths, ranked, values)
    values = only_comparable(values)
    baselines = [name for name in values if name not in (*judged.models, CEILING)]
    base = max(baselines, key=lambda name: float(values[name][PRIMARY].mean())) if baselines else ""
    channels = [name for name in values if name not in (base, CEILING)] if base else []
    rows: list[Measured] = []
    with_channel = {name: _with_channel(ranked[base], ranked[name], truths) for name in channels}
    resamples = Resamples(truths.shopper, judged.draws)
    for split, mask in judged.groups.items():
        if not mask.any():
            continue
        means = {name: _means(resamples, of_name, mask) for name, of_name in values.items()}
        rows += _figures(split, means)
        if base:
            rows += _gains(split, means, base)
        if split == ALL:
            rows += _over_other_models(split, means, judged.models)
        for name in channels:
            both = _means(resamples, with_channel[name], mask)
            for budget in RESERVED:
                metric = f"HR@{budget}"
                gain = both.means.difference(both.column[metric], means[base].means, means[base].column[metric])
                rows.append(Measured(split, name, f"{metric} gain of the best baseline with it", gain))
    return Measurement(base, [row for row in rows if row.estimate.known])


class _Columns(NamedTuple):
    means: Means
    column: dict[str, int]


def _means(resamples: Resamples, values: Values, mask: np.ndarray) -> _Columns:
    columns = np.where(mask[:, None], np.stack(list(values.values()), axis=1), np.nan)
    return _Columns(resamples.means(columns), {metric: i for i, metric in enumerate(values)})


def _figures(split: str, means: Mapping[str, _Columns]) -> list[Measured]:
    return [
        Measured(split, name, metric, of_name.means.estimate(i))
        for name, of_name in means.items()
        for metric, i in of_name.column.items()
    ]


def _gains(split: str, means: Mapping[str, _Columns], base: str) -> list[Measured]:
    rows = []
    for name, of_name in means.items():
        for metric in COMPARED if split == ALL else (PRIMARY,):
            if name != base:
                gain = of_name.means.difference(of_name.column[metric], means[base].means, means[base].column[metric])
                rows.append(Measured(split, name, f"{metric} gain over best baseline", gain))
        if EBR in means and name not in (EBR, CEILING):
            other = means[EBR]
            for metric, column in of_name.column.items():
                if metric.startswith(COVERED) and metric in other.column:
                    gain = of_name.means.difference(column, other.means, other.column[metric])
                    rows.append(Measured(split, name, f"{metric} gain over {EBR}", gain))
        if POPULARITY in means and name not in (POPULARITY, CEILING):
            other = means[POPULARITY]
            gain = of_name.means.difference(of_name.column[PRIMARY], other.means, other.column[PRIMARY])
            rows.append(Measured(split, name, GAIN_OVER_POPULARITY, gain))
    return rows


def _over_other_models(split: str, means: Mapping[str, _Columns], models: Sequence[str]) -> list[Measured]:
    """Each model against those behind it."""
    rows = []
    for metric in COMPARED:
        for one, other in combinations(models, 2):
            first, second = means[one], means[other]
            gain = first.means.difference(first.column[metric], second.means, second.column[metric])
            rows.append(Measured(split, other, gain_over_it(metric, one), gain))
    return rows


def _with_channel(base: np.ndarray, channel: np.ndarray, truths: Truths) -> Values:
    """Hits of the base when some places of its budget go to a channel."""
    values: Values = {}
    for budget, reserved in RESERVED.items():
        merged = added(base[:, :budget], channel, reserved)
        values[f"HR@{budget}"] = (first_place(merged, truths.next) < budget).astype(float)
    return values


def _judge(
    judged: Judged, queries: Queries, truths: Truths, ranked: Mapping[str, np.ndarray], values: dict[str, Values]
) -> None:
    texts = list(queries.numbers)
    shown = True
    for judge in judged.judges:
        categories = judge.categories(texts)
        shown = not one_category_holds_nearly_all([categories[i] for i in truths.next])
        if shown:
            numbers = numbered(categories)
            for name, each in ranked.items():
                values[name] |= category_metrics(each, truths, numbers, judge.name)
    if judged.embeddings and shown:
        # Only what is compared is encoded: the first ten of each list, and the truths.
        used = np.unique(np.concatenate([truths.next, *(each[:, :10].ravel() for each in ranked.values())]))
        used = used[used >= 0]
        vectors = np.zeros((len(texts), WIDTH), np.float32)
        vectors[used] = embeddings([texts[i] for i in used], judged.embeddings)
        for name, each in ranked.items():
            values[name] |= similarity_metrics(each, truths, vectors)
