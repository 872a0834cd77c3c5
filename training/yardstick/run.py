"""`aigq evaluate`: every contender and model on one market's test days, every figure with its interval.

All know the log up to the begin of the test days, and no more; what happened since reaches them as a case's own history.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from inference.model_bundle import ModelBundle
from inference.output import normalise
from simulation.market_folder import MarketFacts, archive_of, git_revision, read_market, truth_of
from training.log import Case, Log, Ranker
from training.log_files import exposure_cases, read_log, read_profiles
from training.rankers import contenders
from training.rankers.model import ModelRanker
from training.sample_files import read_cases
from training.yardstick.ages import AGED, AGES_DAYS, hits_by_age
from training.yardstick.bootstrap import DRAWS, Resamples
from training.yardstick.examples import examples
from training.yardstick.groups import facts as facts_of
from training.yardstick.groups import groups
from training.yardstick.judges import CategoryJudge, ClickJudge, TruthJudge, agreement
from training.yardstick.lists import PLACES, asked
from training.yardstick.measure import CEILING, Judged, Measured, measure
from training.yardstick.results import PROMPT_TOKENS, VALID, Fact, Fitted, Part, Row, processor

DAY_MS = 86_400_000
TEST_DAYS = 2
BASELINES = (
    "popularity-all popularity-7d popularity repeats session-bigrams user-bigrams item-sessions item-users category-users query-sessions"
    " query-users tfidf template two-tower blend"
).split()
"""All but zero-shot, which takes hours for all shoppers: it is run with --shoppers 200."""


class Entrant(NamedTuple):
    """A model."""

    bundle: Path
    name: str = ""
    """In tables; empty: the bundle's. Models of several markets need one name to be read together."""

    @staticmethod
    def of(option: str) -> "Entrant":
        """BUNDLE or NAME=BUNDLE."""
        name, _, bundle = option.rpartition("=")
        return Entrant(Path(bundle), name)


@dataclass(frozen=True)
class Plan:
    market: Path
    samples: Path | None
    """Folder whose cases are judged; None makes them from the market's archive."""
    models: tuple[Entrant, ...] = ()
    """The one that is judged first."""
    baselines: tuple[str, ...] = tuple(BASELINES)
    out: Path = Path("build/quality")
    shoppers: int | None = None
    """At most so many, drawn evenly."""
    lists: int = 3
    """Of each model: three of ten make thirty candidates."""
    similarity: bool = True
    draws: int = DRAWS
    ages_days: tuple[int, ...] = AGES_DAYS
    free: bool = False
    """Models write without their bundle's allow-list."""


def run(plan: Plan, tell: Callable[[str], None] = lambda line: None) -> Part:
    """Raises ValueError or FileNotFoundError before any work where market, samples, models or names are not there."""
    market = read_market(plan.market)
    contenders(plan.baselines)  # a wrong name is told before the log is read
    models = [
        ModelRanker(ModelBundle.open(path), plan.out / "written", plan.lists, plan.free, name)
        for path, name in plan.models
    ]
    log = read_log(archive_of(plan.market))
    cut_ms = market.start_ms + (market.days - TEST_DAYS) * DAY_MS
    known = log.before(cut_ms)
    rankers = contenders(plan.baselines, plan.out / "written", read_profiles(archive_of(plan.market), cut_ms))
    cases = _some(
        read_cases(plan.samples) if plan.samples else exposure_cases(archive_of(plan.market), log, cut_ms),
        plan.shoppers,
    )
    if not cases or not len(known):
        raise ValueError(
            f"{plan.market}: {len(cases)} cases and {len(known)} earlier behaviours; there is nothing to judge"
        )
    tell(f"{len(cases):,} cases of {len({c.user for c in cases}):,} shoppers; {len(known):,} behaviours to learn from")

    lists, fitted = {}, []
    for ranker in [*rankers, *models]:
        lists[ranker.name], how = _fit_and_ask(ranker, known, cases)
        fitted.append(how)
        tell(f"{ranker.name}: fitted in {how.fit_s:.1f} s, ranked in {how.rank_s:.1f} s {how.setting}")
    told = {model.name: {VALID: model.valid(cases), PROMPT_TOKENS: model.prompt_tokens(cases)} for model in models}
    if (oracle := _ceiling(plan.market, cases)) is not None:
        lists[CEILING] = oracle

    judges, facts = _judges(plan.market, known, cases, tell)
    if models and (reach := models[0].reach(cases)) is not None:
        facts["next query is on the model's allow-list"] = reach
    resamples_of = {"all": np.ones(len(cases), bool)} | groups(cases, known) | _days(cases, cut_ms)
    measured = measure(
        Judged(
            cases=cases,
            lists=lists,
            models=tuple(model.name for model in models),
            groups=resamples_of,
            extra=told,
            judges=judges,
            embeddings=plan.out / "written" / "embeddings.npz" if plan.similarity else None,
            draws=plan.draws,
        )
    )
    tell("hits against age ...")
    aged = _aged(log, cases, plan)
    name, seed = _name(market, plan), str(market.seed)
    rows = [
        Row(name, m.split, m.model, seed, m.metric, *(round(each, 5) for each in m.estimate))
        for m in [*measured.rows, *aged]
    ]
    return Part(
        market=name,
        seed=seed,
        null=market.null,
        whole=plan.shoppers is None,
        direct=models[0].name if models else "",
        models=tuple(model.name for model in models),
        base=measured.base,
        command=_command(plan),
        date=datetime.now(UTC).date().isoformat(),
        machine=processor(),
        git_revision=git_revision(),
        cases=len(cases),
        shoppers=len({case.user for case in cases}),
        facts=tuple(
            Fact(key, round(value, 4))
            for key, value in (facts | facts_of(cases, known)).items()
            if not math.isnan(value)
        ),
        fitted=tuple(fitted),
        rows=tuple(rows),
        examples=tuple(examples(cases, lists, models[0].name, (measured.base, models[0].name))) if models else (),
    )


def _fit_and_ask(ranker: Ranker, log: Log, cases: Sequence[Case]) -> tuple[list[tuple[str, ...]], Fitted]:
    begun = time.perf_counter()
    ranker.fit(log)
    between = time.perf_counter()
    lists = asked(ranker, cases, PLACES)
    chosen = str(ranker) if type(ranker).__str__ is not object.__str__ else ""
    return lists, Fitted(ranker.name, chosen, round(between - begun, 2), round(time.perf_counter() - between, 2))


def _ceiling(market: Path, cases: Sequence[Case]) -> list[tuple[str, ...]] | None:
    """The law's own likeliest queries at each case; None where the market has no such truth. A case without a page has none."""
    path = truth_of(market, "ceiling")
    if not path.exists():
        return None
    table = pq.read_table(path, columns=["user", "time_ms", "queries"])
    rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    best = {(user, time_ms): queries for user, time_ms, queries in rows}
    return [tuple(dict.fromkeys(map(normalise, best.get((c.user, c.as_of_ms), ()))))[:PLACES] for c in cases]


def _judges(
    market: Path, known: Log, cases: Sequence[Case], tell: Callable[[str], None]
) -> tuple[list[CategoryJudge], dict[str, float]]:
    judges: list[CategoryJudge] = []
    facts: dict[str, float] = {}
    try:
        clicks = ClickJudge(known)
        judges.append(clicks)
        facts["judge by clicks: accuracy on held-out queries of the log"] = clicks.held_out_accuracy
    except ValueError as error:
        tell(str(error))
    if truth_of(market, "categories").exists():
        truth = TruthJudge.read(truth_of(market, "categories"))
        for judge in judges:
            facts["judge by clicks: accuracy on the next queries"] = agreement(judge, truth, [c.next for c in cases])
        judges.append(truth)
    return judges, facts


def _aged(log: Log, cases: Sequence[Case], plan: Plan) -> list[Measured]:
    hits = hits_by_age(log, cases, [name for name in AGED if name in plan.baselines], plan.ages_days)
    if not hits:
        return []
    user = {name: i for i, name in enumerate(dict.fromkeys(case.user for case in cases))}
    means = Resamples(np.array([user[case.user] for case in cases]), plan.draws).means(
        np.stack(list(hits.values()), axis=1)
    )
    place = {key: i for i, key in enumerate(hits)}
    rows = []
    for (name, age), column in place.items():
        rows.append(Measured("all", name, f"HR@10 at age {age} d", means.estimate(column)))
        if age and (name, 0) in place:
            lost = means.difference(place[name, 0], means, column)
            rows.append(Measured("all", name, f"HR@10 lost by {age} d", lost))
    return rows


def _days(cases: Sequence[Case], cut_ms: int) -> dict[str, np.ndarray]:
    day = np.array([(case.as_of_ms - cut_ms) // DAY_MS for case in cases])
    return {f"test day {n + 1}": day == n for n in range(TEST_DAYS)}


def _some(cases: Sequence[Case], shoppers: int | None) -> list[Case]:
    users = sorted({case.user for case in cases})
    if shoppers is not None and shoppers < len(users):
        users = np.random.default_rng(0).choice(users, shoppers, replace=False).tolist()
    kept = set(users)
    return sorted((case for case in cases if case.user in kept), key=lambda case: (case.user, case.as_of_ms))


def _name(market: MarketFacts, plan: Plan) -> str:
    name = f"{market.law}, drift {market.drift:g}{', null' if market.null else ''}"
    return f"{name}, {plan.shoppers} shoppers" if plan.shoppers else name


def _command(plan: Plan) -> str:
    parts = ["aigq evaluate", str(plan.market.name), *(["--samples", plan.samples.name] if plan.samples else [])]
    parts += [f"--model {f'{name}=' if name else ''}{path.parent.name}/{path.name}" for path, name in plan.models]
    return " ".join([*parts, f"--shoppers {plan.shoppers}" if plan.shoppers else ""]).strip()
