"""In the null market a shopper's own history says nothing; in the market that it is made of, it says much."""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from simulation.market_folder import START_MS, MarketFacts, archive_of, truth_of
from simulation.null_market import Dealer, most_searched
from simulation.play import HINT, normal
from simulation.write_market import write_market
from tests.simulation.test_play import play
from tests.simulation.tiny_law import Tiny
from transforms.archive_layout import EVENTS, EXPOSURES, files_of


@pytest.fixture(scope="module")
def markets(tmp_path_factory) -> dict[bool, Path]:
    folder = tmp_path_factory.mktemp("markets")
    made = {null: folder / f"null-{null}" for null in (False, True)}
    for null, path in made.items():
        write_market(MarketFacts("tests.simulation.tiny_law:Tiny", 3, 1.0, 250, 8, START_MS, null), path, workers=2)
    return made


@cache
def searches(folder: Path) -> list[tuple[str, int, str]]:
    """(user, day, query) of searches by themselves, by time."""
    names = ["id", "user", "time_ms", "kind", "query"]
    files = [pq.ParquetFile(file.path).read(columns=names) for file in files_of(archive_of(folder), EVENTS)]
    return [
        (row["user"], (row["time_ms"] - START_MS) // 86_400_000, normal(row["query"]))
        for table in files
        for row in table.to_pylist()
        if row["kind"] == "search" and not row["id"].endswith(HINT)
    ]


def gain(folder: Path, best: Callable[[Counter, dict, list], str]) -> tuple[float, float]:
    """Share of next searches of the last three days that the rule hits, less what the most popular query hits: 95 % interval over shoppers."""
    popular: Counter[str] = Counter()
    follows: dict[str, Counter[str]] = defaultdict(Counter)
    own: dict[str, list[str]] = defaultdict(list)
    differences: dict[str, list[int]] = defaultdict(list)
    for user, day, query in searches(folder):
        if day >= 5 and own[user]:
            by_rule = best(popular, follows, own[user])
            differences[user].append((by_rule == query) - (popular.most_common(1)[0][0] == query))
        popular[query] += 1
        if own[user]:
            follows[own[user][-1]][query] += 1
        own[user].append(query)
    sums, counts = (np.array([f(each) for each in differences.values() if each]) for f in (sum, len))
    assert counts.sum() > 800
    drawn = np.random.default_rng(1).integers(0, len(sums), (2_000, len(sums)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


def bigram(popular: Counter, follows: dict, own: list) -> str:
    return follows[own[-1]].most_common(1)[0][0] if follows[own[-1]] else popular.most_common(1)[0][0]


def repeat(popular: Counter, follows: dict, own: list) -> str:
    return own[-1]


@pytest.mark.parametrize("rule", [bigram, repeat])
def test_history_tells_nothing_in_the_null_market_and_much_in_the_other(markets: dict[bool, Path], rule):
    low, _ = gain(markets[False], rule)
    assert low > 0
    low, _ = gain(markets[True], rule)
    assert low <= 0


def test_each_day_keeps_its_contents(markets: dict[bool, Path]):
    for day in range(8):
        was, now = (Counter(q for _, d, q in searches(markets[null]) if d == day) for null in (False, True))
        assert was == now


def test_shoppers_times_and_ids_stay(markets: dict[bool, Path]):
    for kind, names in ((EVENTS, ["id", "user", "kind", "time_ms"]), (EXPOSURES, ["id", "user", "time_ms"])):
        was, now = (
            [
                pq.ParquetFile(file.path).read(columns=names).to_pylist()
                for file in files_of(archive_of(markets[null]), kind)
            ]
            for null in (False, True)
        )
        assert was == now


def test_a_clicked_hint_is_still_followed_by_its_search():
    (day,) = play(Tiny(1, 1.0, START_MS), days=1)
    did, saw = Dealer(1).deal(day.did, day.saw)
    assert Counter(bool(each.exposure.clicked) for each in saw) == Counter(
        bool(each.exposure.clicked) for each in day.saw
    )
    hints = {
        each.exposure.id + HINT: each.exposure.hints[each.exposure.clicked[0]] for each in saw if each.exposure.clicked
    }
    begun = {each.event.id: each.event.query for each in did if not each.by_themselves}
    assert begun == hints
    assert begun != {each.event.id: each.event.query for each in day.did if not each.by_themselves}


def test_the_ceiling_is_the_days_own_popularity(markets: dict[bool, Path]):
    rows = pq.read_table(truth_of(markets[True], "ceiling")).to_pylist()
    last = Counter(query for _, day, query in searches(markets[True]) if day == 7)
    assert rows[-1]["queries"][0] in {query for query, count in last.items() if count == max(last.values())}
    assert rows[-1]["probabilities"][0] == max(last.values()) / last.total()
    assert most_searched([]) == ()
