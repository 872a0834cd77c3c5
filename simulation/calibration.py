"""Figures that tell how like a real log a market is; computed in the same way from either.

All are about searches by themselves, normalised, without campaign codes. The last 22 days are the test, the time before them is what was known;
`popularity` is the 7 days before each test day, rebuilt daily, or `frozen` at the test's begin.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import msgspec

from simulation.law import DAY_MS

TEST_DAYS = 22
POPULARITY_DAYS = 7
VISIT_PAUSE_MS = 30 * 60_000
RANKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 3000, 5000, 10_000, 20_000)


class Search(NamedTuple):
    user: str
    time_ms: int
    query: str
    """Normalised."""


@dataclass(frozen=True)
class ObservedLog:
    name: str
    searches: list[Search]
    """By themselves, by time."""
    times: dict[str, list[int]]
    """Of every event of a user (searches and clicks), by time (ms)."""
    pages: int = 0
    """Home pages; 0 where the log has none."""
    clicked_pages: int = 0
    ceiling_hr10: float | None = None
    """Expected hits of the law's own ten likeliest queries, where a law is known."""


class Figures(msgspec.Struct, frozen=True):
    """Shares are 0 .. 1, None where a log has nothing to tell."""

    name: str
    shoppers: int
    days: float
    searches: int
    distinct_queries: int
    events_a_visit: float
    """A visit ends where 30 minutes pass without an event."""
    visits_a_shopper: float
    searched_twice: float
    """Share of shoppers with two or more searches."""
    test_searches: int
    top30: float
    """Test searches among the 30 most popular of 7 days before."""
    seen: float
    """Test searches that somebody searched before that day."""
    with_history: int
    """Test searches of shoppers who had searched before."""
    own_repeats: float | None
    """Of those, such that repeat an own earlier query."""
    last_repeats: float | None
    """Of those, such that repeat the last one or share half of its words (Jaccard)."""
    popularity_hr10: float
    with_repeats_hr10: float
    """The last three own queries first, then popularity."""
    frozen_hr10: float
    frozen_by_week: tuple[float, ...]
    daily_by_week: tuple[float, ...]
    by_rank: tuple[float, ...]
    """Share of all searches that the queries up to each of RANKS have."""
    pages: int
    page_click_rate: float | None
    clicked_pages: int
    ceiling_hr10: float | None


def figures_of(log: ObservedLog) -> Figures:
    """Raises ValueError where the log is shorter than the test and a week."""
    first_ms = log.searches[0].time_ms - log.searches[0].time_ms % DAY_MS
    last_ms = log.searches[-1].time_ms
    test_ms = last_ms - last_ms % DAY_MS - (TEST_DAYS - 1) * DAY_MS
    if test_ms - first_ms < POPULARITY_DAYS * DAY_MS:
        raise ValueError(
            f"{log.name} has {(last_ms - first_ms) / DAY_MS:.1f} days; {TEST_DAYS + POPULARITY_DAYS} or more are needed"
        )
    hits, counts = _Hits(), Counter(each.query for each in log.searches)
    visits = sum(_visits(times) for times in log.times.values())
    by_user = Counter(each.user for each in log.searches)
    _prequential(log.searches, test_ms, hits)
    weeks = [(hits.by_week[week, False], hits.by_week[week, True], hits.of_week[week]) for week in sorted(hits.of_week)]
    whole_weeks = [week for week in weeks if week[2] > hits.tests / 10]
    ordered = [count for _, count in counts.most_common()]
    return Figures(
        name=log.name,
        shoppers=len(log.times),
        days=(last_ms - first_ms) / DAY_MS,
        searches=len(log.searches),
        distinct_queries=len(counts),
        events_a_visit=sum(map(len, log.times.values())) / visits,
        visits_a_shopper=visits / len(log.times),
        searched_twice=sum(count > 1 for count in by_user.values()) / len(by_user),
        test_searches=hits.tests,
        top30=hits.top30 / hits.tests,
        seen=hits.seen / hits.tests,
        with_history=hits.with_history,
        own_repeats=_share(hits.own, hits.with_history),
        last_repeats=_share(hits.last, hits.with_history),
        popularity_hr10=hits.top10 / hits.tests,
        with_repeats_hr10=hits.repeats10 / hits.tests,
        frozen_hr10=sum(frozen for frozen, _, _ in weeks) / hits.tests,
        frozen_by_week=tuple(frozen / count for frozen, _, count in whole_weeks),
        daily_by_week=tuple(daily / count for _, daily, count in whole_weeks),
        by_rank=tuple(sum(ordered[:rank]) / len(log.searches) for rank in RANKS),
        pages=log.pages,
        page_click_rate=_share(log.clicked_pages, log.pages),
        clicked_pages=log.clicked_pages,
        ceiling_hr10=log.ceiling_hr10,
    )


class _Hits:
    def __init__(self) -> None:
        self.tests = self.top30 = self.top10 = self.seen = self.repeats10 = 0
        self.with_history = self.own = self.last = 0
        self.by_week: Counter[tuple[int, bool]] = Counter()
        """(week of the test, rebuilt daily): hits among ten."""
        self.of_week: Counter[int] = Counter()


def _prequential(searches: Sequence[Search], test_ms: int, hits: _Hits) -> None:
    """Goes through the log as time did: each day is judged by what was known at its begin, an own search by what came before it."""
    days: dict[int, list[Search]] = defaultdict(list)
    for each in searches:
        days[each.time_ms // DAY_MS].append(each)
    week: deque[Counter[str]] = deque(maxlen=POPULARITY_DAYS)
    known: set[str] = set()
    own: dict[str, list[str]] = defaultdict(list)
    frozen: set[str] = set()
    for day in range(min(days), max(days) + 1):
        popular = _most_common(week, 30)
        ten, thirty = set(popular[:10]), set(popular)
        since_test = day - test_ms // DAY_MS
        if since_test == 0:
            frozen = ten
        for user, _, query in days[day]:
            mine = own[user]
            if since_test >= 0:
                _judge(hits, query, mine, popular, since_test // 7, (query in frozen, query in ten))
                hits.top30 += query in thirty
                hits.seen += query in known
            mine.append(query)
        known.update(query for _, _, query in days[day])
        week.append(Counter(query for _, _, query in days[day]))


def _judge(
    hits: _Hits, query: str, mine: list[str], popular: list[str], week: int, frozen_and_daily: tuple[bool, bool]
) -> None:
    hits.tests += 1
    hits.top10 += frozen_and_daily[1]
    hits.of_week[week] += 1
    hits.by_week[week, False] += frozen_and_daily[0]
    hits.by_week[week, True] += frozen_and_daily[1]
    newest = list(dict.fromkeys(reversed(mine)))[:3]
    hits.repeats10 += query in [*newest, *(each for each in popular if each not in newest)][:10]
    if mine:
        hits.with_history += 1
        hits.own += query in mine
        words, last = set(query.split()), set(mine[-1].split())
        hits.last += len(words & last) >= 0.5 * len(words | last)


def _most_common(week: Sequence[Counter[str]], count: int) -> list[str]:
    total: Counter[str] = Counter()
    for each in week:
        total.update(each)
    return sorted(total, key=lambda query: (-total[query], query))[:count]


def _visits(times: list[int]) -> int:
    return 1 + sum(after - before > VISIT_PAUSE_MS for before, after in pairwise(times))


def _share(some: int, of: int) -> float | None:
    return some / of if of else None
