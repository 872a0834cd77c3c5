"""Through a log as time went: what follows is found, what is later is not known, and all have as many places."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.training.yardstick.small_log import FOLLOWS, rows, write
from training.log import Case, Log
from training.yardstick.every_search import frozen_and_daily
from training.yardstick.lists import PLACES
from training.yardstick.prequential import (
    BASELINES,
    BLEND,
    FROZEN,
    Answered,
    Window,
    judged_cases,
    prequential,
)
from training.yardstick.real_log import import_file, read_log_folder, write_log_folder
from training.yardstick.written import WrittenLists

DAY_MS = 86_400_000
START_MS = 1_313_020_800_000
WINDOW = Window(START_MS + 3 * DAY_MS, START_MS + 6 * DAY_MS)


def log_of_rows(folder: Path, made: list[tuple[str, ...]] | None = None) -> Log:
    write_log_folder(import_file(write(folder / "csv", made), None, None), folder / "log", "small")
    return read_log_folder(folder / "log").log


class Knows:
    """A model that writes the next query, which no contender may see: given to it beside the cases."""

    name = "oracle"

    def __init__(self, cases: Sequence[Case]):
        self.next = {(case.user, case.as_of_ms): case.next for case in cases}

    def fit(self, log: Log) -> None: ...

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        assert not any(case.next for case in cases)
        return [(self.next[case.user, case.as_of_ms], "nobody searched this") for case in cases]


class Rambles(Knows):
    name = "rambler"

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        return [tuple(f"nobody searched {n}" for n in range(count)) for _ in cases]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return log_of_rows(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def answered(log: Log) -> Answered:
    cases = judged_cases(log, WINDOW.from_ms)
    models = [WrittenLists(Knows(cases), cases, PLACES), WrittenLists(Rambles(cases), cases, PLACES)]
    return prequential(log, WINDOW, BASELINES, models)


def hit_rate(answered: Answered, name: str, places: int = 1, from_day: int = 0) -> float:
    pairs = zip(answered.cases, answered.lists[name], strict=True)
    late = START_MS + from_day * DAY_MS
    return float(np.mean([case.next in ranked[:places] for case, ranked in pairs if case.as_of_ms >= late]))


def test_every_search_of_somebody_known_is_a_case(answered: Answered, log: Log) -> None:
    assert len(answered.cases) == 10 * 10, "a third of thirty come back on each of ten days"
    assert all(case.seen for case in answered.cases)
    assert all(case.next == FOLLOWS[_last(case)] for case in answered.cases)
    assert [case.as_of_ms for case in answered.cases] == sorted(case.as_of_ms for case in answered.cases)


def test_what_follows_is_found(answered: Answered) -> None:
    assert hit_rate(answered, "user-bigrams") > 0.95
    assert hit_rate(answered, BLEND, 3) > 0.95
    assert hit_rate(answered, "popularity-7d") < 0.3


def test_all_have_the_same_number_of_candidates(answered: Answered) -> None:
    assert set(answered.lists) == {*BASELINES, "oracle", "rambler", "blend + oracle", "blend + rambler"}
    for i in range(len(answered.cases)):
        full = min(PLACES, len(answered.lists["popularity-7d"][i]))
        for name, lists in answered.lists.items():
            if name != FROZEN:
                assert len(lists[i]) >= full, name
            assert len(set(lists[i])) == len(lists[i]) <= PLACES


def test_a_model_that_knows_is_learned_to_be_trusted_and_one_that_rambles_does_no_harm(answered: Answered) -> None:
    assert hit_rate(answered, "oracle") == 1
    assert hit_rate(answered, "blend + oracle", 3) > 0.95
    assert hit_rate(answered, "rambler", 10) == 0
    assert hit_rate(answered, "blend + rambler", 10) >= hit_rate(answered, BLEND, 10) - 0.05


def test_later_events_change_no_earlier_list(tmp_path: Path, answered: Answered) -> None:
    """The queries of the last days are dealt out anew, and new ones come: the days before are judged as before."""
    made, cut = rows(), "2011-08-23 00:00:00"
    late = [row for row in made if row[-1] >= cut]
    dealt = [(*row[:3], other[3] + " anew", *row[4:]) for row, other in zip(late, reversed(late), strict=True)]
    log = log_of_rows(tmp_path, [row for row in made if row[-1] < cut] + dealt)
    names = tuple(BASELINES)
    again = prequential(log, WINDOW, names)
    early = [i for i, case in enumerate(answered.cases) if case.as_of_ms < START_MS + 12 * DAY_MS]
    assert len(early) == 60
    for name in names:
        assert [again.lists[name][i] for i in early] == [answered.lists[name][i] for i in early], name
    assert again.cases[-1] != answered.cases[-1]


def test_a_blend_learns_nothing_from_what_a_model_wrote_before_the_test(log: Log) -> None:
    """Cases of the warm-up are known to nobody's written lists: the model's column is empty there, not zero."""
    cases = judged_cases(log, WINDOW.from_ms)
    written = WrittenLists(Knows(cases), cases, PLACES)
    early = [case for case in judged_cases(log, 0) if case.as_of_ms < WINDOW.from_ms]
    assert written.has(cases[0])
    assert not any(written.has(case) for case in early)
    assert written.rank([msgspec.structs.replace(early[0], next="")], PLACES) == [()]


def test_an_unknown_baseline_is_told(log: Log) -> None:
    with pytest.raises(ValueError, match="no contender nonsense"):
        prequential(log, WINDOW, ("nonsense",))


def test_daily_popularity_wins_by_what_came_up_since(tmp_path: Path) -> None:
    """From the 9th day on all search one new thing: the frozen list never has it, the daily one from the second day on."""
    made = rows(days=8)
    times = [row for row in rows(days=12) if row[-1] >= "2011-08-19"]
    log = log_of_rows(tmp_path, made + [(*row[:3], "a new thing", *row[4:]) for row in times])
    (found, *_) = frozen_and_daily(log, START_MS + 8 * DAY_MS, "2011-08-19", 100, ["popularity-7d"])
    first_day = sum(row[-1] < "2011-08-20" for row in times) / len(times)
    assert found.searches == len(times)
    assert found.frozen.value == 0
    assert found.daily.value == pytest.approx(1 - first_day)
    assert found.gain.low > 0
    assert len(found.by_week) == 1


def _last(case: Case) -> str:
    return [b.text for b in case.seen if b.kind == "search"][-1]
