"""`aigq evaluate --log`: every contender and model on a real log, day by day, with intervals; docs/real-log.md says how it is judged.

What comes out is a part as `aigq evaluate` writes them, so both stand on one page, and what only a real log has: popularity frozen against
daily on every search, and ten cases.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from inference.model_bundle import ModelBundle
from simulation.market_folder import git_revision
from training.log import Case
from training.rankers.likeliest import Likeliest
from training.rankers.model import ModelRanker
from training.yardstick.bootstrap import DRAWS, Resamples
from training.yardstick.every_search import FrozenAndDaily, frozen_and_daily
from training.yardstick.examples import Example, Words, examples
from training.yardstick.groups import facts as facts_of
from training.yardstick.lists import PLACES, Queries, Truths
from training.yardstick.measure import Judged, Measured, measure
from training.yardstick.metrics import PRIMARY, Values, hit_metrics
from training.yardstick.prequential import BASELINES, BLEND, FILLING, Answered, Window, judged_cases, prequential
from training.yardstick.real_log import ALL, ONE, LogFacts, RealLog
from training.yardstick.results import BLENDED, VALID, Fact, Fitted, Part, Row, processor
from training.yardstick.run import Entrant
from training.yardstick.written import WrittenLists

DAY_MS = 86_400_000
COMPARED = (PRIMARY, "HR@30", "HR@3", "NDCG@10", "MRR")


@dataclass(frozen=True)
class Plan:
    log: RealLog
    models: tuple[Entrant, ...] = ()
    """The one that is judged first."""
    baselines: tuple[str, ...] = BASELINES
    out: Path = Path("build/quality")
    learn_days: int = 25
    """Before the first judged day; a model has read these and no more."""
    warm_days: int = 7
    """Of those, before the blends begin to learn."""
    last_days: int = 22
    """For frozen against daily, a second period: the log's last days."""
    lists: int = 3
    """Of each model: three of ten make thirty candidates."""
    draws: int = DRAWS
    free: bool = False
    likeliest: bool = False
    """A model's candidates are the likeliest queries of its allow-list, not the lists that it would be served with."""


class Beats(msgspec.Struct, frozen=True):
    """A model, alone or in the blend, over a baseline, paired."""

    model: str
    baseline: str
    metric: str
    value: float
    low: float
    high: float


class Week(msgspec.Struct, frozen=True):
    """HR@10 of one contender on the cases of one week."""

    model: str
    number: int
    """From 1; the model was trained before the first."""
    cases: int
    value: float
    low: float
    high: float


class RealLogResult(msgspec.Struct, frozen=True):
    """real-log.json. No word of the log is in it."""

    facts: LogFacts
    part: Part
    first_day: str
    """Judged, UTC."""
    seconds: float
    """Of the whole run, models included."""
    every_search: tuple[FrozenAndDaily, ...]
    beats: tuple[Beats, ...]
    examples: tuple[Example, ...]
    weeks: tuple[Week, ...] = ()
    """Of the cases: how a frozen model ages beside what is counted daily."""


def run(plan: Plan, tell: Callable[[str], None] = lambda line: None) -> tuple[RealLogResult, list[Words]]:
    """Raises ValueError or FileNotFoundError before any work where the log is too short, or models or names are not there."""
    began = time.monotonic()
    facts, log = plan.log.facts, plan.log.log
    window = Window(facts.start_ms + plan.warm_days * DAY_MS, facts.start_ms + plan.learn_days * DAY_MS)
    if unknown := set(plan.baselines) - set(BASELINES):
        raise ValueError(f"no baseline {', '.join(sorted(unknown))} here; there are {', '.join(BASELINES)}")
    if not 0 < plan.warm_days < plan.learn_days < facts.days:
        raise ValueError(
            f"{facts.name} has {facts.days} days: {plan.warm_days} before blends learn and {plan.learn_days} before the first judged day "
            "must be above 0, rising and fewer"
        )
    models = [_model(plan, *entrant) for entrant in plan.models]
    cases = judged_cases(log, window.from_ms)
    if not cases:
        raise ValueError(f"{facts.name}: from day {plan.learn_days} on nobody searches who did anything before")
    tell(f"{len(cases):,} cases of {len({case.user for case in cases}):,} shoppers")
    written, writing_s = [], {}
    for model in models:
        asked_at = time.monotonic()
        written.append(WrittenLists(model, cases, PLACES))
        writing_s[model.name] = time.monotonic() - asked_at
        tell(f"{model.name}: wrote in {writing_s[model.name]:.0f} s")
    answered = prequential(log, window, plan.baselines, written, tell)
    parts = {user: ALL if user in plan.log.all_categories else ONE for user in log.users}
    groups = _groups(answered.cases, parts)
    names = tuple(model.name for model in models)
    blended = tuple(name for name in answered.lists if name.startswith(f"{BLEND} + "))
    measured = measure(
        Judged(
            cases=answered.cases,
            lists=answered.lists,
            models=(*names, *blended),
            groups=groups,
            extra={m.name: {VALID: m.valid(answered.cases)} for m in models if isinstance(m, ModelRanker)},
            draws=plan.draws,
        )
    )
    paired, beats = _paired(answered, names, groups, plan.draws)
    day = _day(window.from_ms)
    tell("popularity, frozen and daily, on every search ...")
    last_ms = facts.start_ms + max(plan.learn_days, facts.days - plan.last_days) * DAY_MS
    every = [each for ms in sorted({window.from_ms, last_ms}) for each in frozen_and_daily(log, ms, _day(ms), plan.draws)]  # fmt: skip
    rows = [
        Row(facts.name, m.split, m.model, "", m.metric, *(round(each, 5) for each in m.estimate))
        for m in [*measured.rows, *paired]
    ]
    settings = [
        Fitted(name, setting, 0.0, 0.0) for name, setting in answered.settings.items() if name in answered.lists
    ]
    settings += [
        Fitted(
            name, "frozen; likeliest queries" if plan.likeliest else "frozen; lists as served", 0.0, round(seconds, 1)
        )
        for name, seconds in writing_s.items()
    ]
    part = Part(
        market=facts.name,
        seed="",
        null=False,
        real=True,
        direct=names[0] if names else "",
        models=names,
        base=measured.base,
        command=" ".join(
            [
                "aigq evaluate --log FILE",
                *(f"--model {f'{name}=' if name else ''}BUNDLE" for _, name in plan.models),
                *(["--likeliest"] if plan.likeliest else []),
            ]
        ),
        date=datetime.now(UTC).date().isoformat(),
        machine=processor(),
        git_revision=git_revision(),
        cases=len(answered.cases),
        shoppers=len({case.user for case in answered.cases}),
        facts=_facts(plan.log, answered, groups, window),
        fitted=tuple(settings),
        rows=tuple(rows),
    )
    judged = next(iter(blended), BLEND if BLEND in answered.lists else measured.base)
    shown = [name for name in dict.fromkeys([FILLING, "user-bigrams", BLEND, *names, *blended]) if name in answered.lists]  # fmt: skip
    ten = examples(answered.cases, answered.lists, judged, shown, parts)
    seconds = round(time.monotonic() - began, 1)
    weeks = _by_week(answered, shown, window.from_ms, plan.draws)
    without_words = tuple(each.example for each in ten)
    return RealLogResult(facts, part, day, seconds, tuple(every), tuple(beats), without_words, tuple(weeks)), ten


def _model(plan: Plan, bundle: Path, name: str) -> ModelRanker | Likeliest:
    if plan.likeliest:
        return Likeliest(ModelBundle.open(bundle), name)
    return ModelRanker(ModelBundle.open(bundle), plan.out / "written", plan.lists, plan.free, name)


def _groups(cases: Sequence[Case], parts: Mapping[str, str]) -> dict[str, np.ndarray]:
    of_case = np.array([parts[case.user] for case in cases])
    return {"all": np.ones(len(cases), bool)} | {part: of_case == part for part in (ONE, ALL)}


def _facts(real: RealLog, answered: Answered, groups: Mapping[str, np.ndarray], window: Window) -> tuple[Fact, ...]:
    found = {f"cases, {name}": float(mask.sum()) for name, mask in groups.items()}
    found |= facts_of(answered.cases, real.log.before(window.from_ms))
    return tuple(Fact(name, round(value, 4)) for name, value in found.items())


def _paired(answered: Answered, models: Sequence[str], groups: Mapping[str, np.ndarray], draws: int) -> tuple[list[Measured], list[Beats]]:  # fmt: skip
    """Each model as one more source of the blend over the blend without it; and each, alone and in the blend, over every baseline."""
    queries = Queries()
    truths = Truths.of(answered.cases, queries)
    values: dict[str, Values] = {
        name: hit_metrics(queries.rows(lists, PLACES), truths) for name, lists in answered.lists.items()
    }
    resamples = Resamples(truths.shopper, draws)
    baselines = [name for name in values if name in BASELINES]
    rows, beats = [], []
    for split, mask in groups.items():
        if not mask.any():
            continue
        means = {
            name: resamples.means(np.where(mask[:, None], np.stack([of_name[m] for m in COMPARED], axis=1), np.nan))
            for name, of_name in values.items()
        }
        for model in models:
            both = f"{BLEND} + {model}"
            for column, metric in enumerate(COMPARED):
                if both in means and BLEND in means:
                    gain = means[both].difference(column, means[BLEND], column)
                    rows.append(Measured(split, model, BLENDED.replace(PRIMARY, metric), gain))
                if split != "all":
                    continue
                for name in filter(means.__contains__, (model, both)):
                    for other in baselines:
                        gain = means[name].difference(column, means[other], column)
                        beats.append(Beats(name, other, metric, *(round(each, 5) for each in gain)))
    return rows, beats


def _by_week(answered: Answered, names: Sequence[str], from_ms: int, draws: int) -> list[Week]:
    week = np.array([(case.as_of_ms - from_ms) // (7 * DAY_MS) for case in answered.cases])
    queries = Queries()
    truths = Truths.of(answered.cases, queries)
    hits = [hit_metrics(queries.rows(answered.lists[name], PLACES), truths)[PRIMARY] for name in names]
    resamples = Resamples(truths.shopper, draws)
    found = []
    for number in np.unique(week).tolist():
        mask = week == number
        means = resamples.means(np.where(mask[:, None], np.stack(hits, axis=1), np.nan))
        for column, name in enumerate(names):
            estimate = (round(each, 5) for each in means.estimate(column))
            found.append(Week(name, number + 1, int(mask.sum()), *estimate))
    return found


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()
