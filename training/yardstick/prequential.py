"""Through a log as time went: each day is judged by contenders that know what was there when it began, then they learn from it.

    warm_ms           the blends begin to learn
    from_ms           the first judged day; a model was trained on what is before it, and stays
    each day          all statistics and the popularity window are made anew, from everything before that day
    every 14 days     what a rule learns from and its setting are chosen anew, on the two days before
    every 7 days      the blends' trees, from all days since warm_ms

A case is a search of a shopper of whom something is known. Blends also learn from some searches of unknown shoppers, as popularity has little
else to be learned from; these are not judged.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from training.log import Case, Log, Ranker
from training.log_files import search_cases
from training.rankers import contenders
from training.rankers.moments import DAY_MS, compact
from training.rankers.statistics import Statistics
from training.rankers.tfidf import Tfidf
from training.rankers.tuned import TunedRanker
from training.yardstick.daily_blend import DailyBlend
from training.yardstick.lists import PLACES, asked
from training.yardstick.written import WrittenLists

CHOOSE_DAYS, TRAIN_DAYS = 14, 7
TAUGHT_A_DAY = 40
"""Searches of unknown shoppers that blends learn from."""
MIN_SHOPPERS = 2
"""A query that fewer searched is no candidate of the blends' own."""
FILLING = "popularity-7d"
"""Fills every list, so that all have as many candidates."""
FROZEN = "popularity-7d frozen"
SOURCES = ("popularity", "repeats", "user-bigrams", "item-users", "query-users", "tfidf")
"""Of the blend."""
BLEND = "blend"
BASELINES = ("popularity-all", FILLING, FROZEN, *SOURCES, BLEND)


@dataclass(frozen=True)
class Window:
    """Begins of days, ms."""

    warm_ms: int
    from_ms: int


@dataclass(frozen=True)
class Answered:
    cases: Sequence[Case]
    """The judged ones, by time."""
    lists: dict[str, list[tuple[str, ...]]]
    """Contender -> PLACES queries for each of the cases."""
    settings: dict[str, str]
    """Contender -> what was chosen when it was fitted last."""


def judged_cases(log: Log, from_ms: int) -> list[Case]:
    """Every search by themselves from `from_ms` on of a shopper of whom something is known."""
    return [case for case in search_cases(log, from_ms) if case.seen]


def prequential(
    log: Log,
    window: Window,
    baselines: Sequence[str] = BASELINES,
    written: Sequence[WrittenLists] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> Answered:
    """`written` by models: each is a contender alone, filled with popularity, and, where `blend` is one, `blend + NAME`.

    Raises ValueError for a baseline that there is not.
    """
    wanted = set(baselines)
    rankers: dict[str, Ranker] = {r.name: r for r in contenders(_fitted_daily(wanted))}
    (frozen,) = contenders([FILLING])
    blends = _blends(rankers, written) if BLEND in wanted else []
    days = _days(log, window)
    judged: list[Case] = []
    lists: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for number, day_ms in enumerate(sorted(days)):
        known, of_day = compact(log.before(day_ms)), days[day_ms]
        for ranker in rankers.values():
            _fit(ranker, known, choose=number % CHOOSE_DAYS == 0)
        statistics = Statistics.of(known, {}, MIN_SHOPPERS) if blends else None
        testing = day_ms >= window.from_ms
        if testing and FROZEN not in lists:
            frozen.fit(known)
        filling = asked(rankers[FILLING], of_day.judged, PLACES)
        today: dict[str, list[tuple[str, ...]]] = {FROZEN: asked(frozen, of_day.judged, PLACES)} if testing else {}
        if testing:
            today |= {name: asked(ranker, of_day.judged, PLACES) for name, ranker in rankers.items()}
            today |= {model.name: asked(model, of_day.judged, PLACES) for model in written}
        for blend in blends:
            assert statistics is not None
            blend.begin_day(statistics)
            if testing and (day_ms - window.from_ms) // DAY_MS % TRAIN_DAYS == 0:
                blend.train()
            offered = blend.offer(of_day.judged)
            if testing:
                today[blend.name] = blend.rank(offered, PLACES)
            blend.learn(offered)
            blend.learn(blend.offer(of_day.taught))
        judged += of_day.judged if testing else []
        for name, answers in today.items():
            lists[name] += [_filled(*pair) for pair in zip(answers, filling, strict=True)]
        tell(f"day {number + 1} of {len(days)}: {len(judged):,} cases judged")
    extra = {*(model.name for model in written), *(blend.name for blend in blends)}
    settings = {name: str(each) for name, each in rankers.items() if isinstance(each, TunedRanker)}
    return Answered(judged, {name: each for name, each in lists.items() if name in wanted | extra}, settings)


@dataclass
class _Day:
    judged: list[Case]
    taught: list[Case]


def _days(log: Log, window: Window) -> dict[int, _Day]:
    """Begin of each day from `warm_ms` on that has a search -> its cases. The choice of whom blends learn from hangs on that day alone."""
    cases: dict[int, list[Case]] = defaultdict(list)
    for case in search_cases(log, window.warm_ms):
        cases[case.as_of_ms - case.as_of_ms % DAY_MS].append(case)
    made = {}
    for day_ms, of_day in cases.items():
        new = [case for case in of_day if not case.seen]
        picked = np.random.default_rng(day_ms // DAY_MS).permutation(len(new))[:TAUGHT_A_DAY]
        made[day_ms] = _Day([case for case in of_day if case.seen], [new[i] for i in sorted(picked)])
    return made


def _fitted_daily(wanted: set[str]) -> list[str]:
    names = {FILLING, *(wanted - {FROZEN, BLEND}), *(SOURCES if BLEND in wanted else ())}
    return sorted(names)


def _blends(rankers: dict[str, Ranker], written: Sequence[WrittenLists]) -> list[DailyBlend]:
    sources = [rankers[name] for name in SOURCES]
    return [DailyBlend(BLEND, sources), *(DailyBlend(f"{BLEND} + {each.name}", sources, each) for each in written)]


def _fit(ranker: Ranker, known: Log, choose: bool) -> None:
    if isinstance(ranker, TunedRanker) and not choose:
        ranker.recount(known)
        return
    if isinstance(ranker, Tfidf):
        ranker.tune = choose
    ranker.fit(known)


def _filled(answers: tuple[str, ...], filling: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(islice(dict.fromkeys([*answers, *filling]), PLACES))
