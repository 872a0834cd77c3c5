from collections.abc import Iterator

import pytest

from simulation.law import DAY_MS, Step
from simulation.market_folder import START_MS
from simulation.play import HINT, PlayedDay, Shoppers, normal, rows_of
from simulation.ranker_training import ShopLog
from simulation.write_market import _logged, _split
from tests.simulation.tiny_law import OtherLatents, Tiny, TinyLife, TinyVisit, Unwelcome


def play(law: Tiny, numbers=range(60), days: int = 5) -> list[PlayedDay]:
    shoppers, log = Shoppers(law, law.seed, numbers, START_MS, days), ShopLog(["group 0", "group 1", "group 2"])
    played = []
    for day in range(days):
        played.append(shoppers.play(day, log.statistics()))
        did, _ = _split(played[-1].did, START_MS + (day + 1) * DAY_MS)
        saw, _ = _split(played[-1].saw, START_MS + (day + 1) * DAY_MS)
        log.add_day(_logged(did, saw), rows_of(played[-1].examples))
    return played


def exposures(played: list[PlayedDay]):
    return [each.exposure for day in played for each in day.saw]


def events(played: list[PlayedDay]):
    return [each.event for day in played for each in day.did]


def test_the_ranker_never_learns_a_latent():
    """Two laws whose shoppers do the same, and want something else: the same hints, propensities and examples."""
    one, other = play(Unwelcome(1, 1.0, START_MS)), play(OtherLatents(1, 1.0, START_MS))
    assert exposures(one) == exposures(other)
    assert [day.examples for day in one] == [day.examples for day in other]
    assert one[-1].saw[0].likeliest != other[-1].saw[0].likeliest


def test_the_ranker_learns_from_the_log():
    """The same shoppers and another log: other hints."""
    assert exposures(play(Tiny(1, 1.0, START_MS))) != exposures(play(Unwelcome(1, 1.0, START_MS)))


def test_a_clicked_hint_is_followed_by_its_search():
    played = play(Tiny(1, 1.0, START_MS))
    searches = {event.id: event for event in events(played)}
    clicked = [each for each in exposures(played) if each.clicked]
    assert len(clicked) > 20
    for each in clicked:
        search = searches[each.id + HINT]
        assert (search.user, normal(search.query)) == (each.user, each.hints[each.clicked[0]])
        assert each.time_ms < search.time_ms <= each.time_ms + 60_000
    assert len([id for id in searches if id.endswith(HINT)]) == len(clicked)


def test_ids_are_unique_and_shoppers_go_forward_in_time():
    played = play(Tiny(1, 1.0, START_MS))
    ids = [event.id for event in events(played)] + [each.id for each in exposures(played)]
    assert len(ids) == len(set(ids))
    last: dict[str, int] = {}
    for event in events(played):
        assert event.time_ms >= last.get(event.user, 0)
        last[event.user] = event.time_ms


def test_a_shopper_does_the_same_whoever_else_is_played_in_the_process():
    law = Unwelcome(1, 1.0, START_MS)
    shoppers = Shoppers(law, 1, [7], START_MS, 3), Shoppers(law, 1, [3, 7, 9], START_MS, 3)
    statistics = ShopLog(["group 0"]).statistics()
    for day in range(3):
        alone, among = (each.play(day, statistics) for each in shoppers)
        assert alone.did == [each for each in among.did if each.shopper == 7]
        assert alone.saw == [each for each in among.saw if each.shopper == 7]


def test_the_ceiling_is_asked_for_on_the_last_two_days_only_and_normalised():
    played = play(Tiny(1, 1.0, START_MS))
    for each in (saw for day in played for saw in day.saw):
        assert bool(each.likeliest) == (each.time_ms >= START_MS + 3 * DAY_MS)
    (query, probability), *others = played[-1].saw[0].likeliest
    assert (query, probability) == (normal(query), 0.8)
    assert len(others) == 29


def test_the_ceiling_is_what_shoppers_do():
    """Calibrated: where the law says 0.8, about four in five next searches by themselves are that one."""
    hits = pages = 0
    for day in play(Unwelcome(1, 1.0, START_MS), range(200)):
        next_search = {}
        for each in reversed(day.did):
            if each.event.kind == "search":
                next_search[each.shopper, each.number] = normal(each.event.query)
        for saw in (each for each in day.saw if each.likeliest):
            pages += 1
            hits += next_search[saw.shopper, saw.number + 1] == saw.likeliest[0][0]
    assert pages > 300
    assert hits / pages == pytest.approx(0.8, abs=4 * (0.16 / pages) ** 0.5)


class _Broken(Tiny):
    def life(self, number: int) -> TinyLife:
        return _BrokenLife(self, number)


class _BrokenLife(TinyLife):
    def visits(self, day: int) -> Iterator[TinyVisit]:
        return (_BrokenVisit(self, visit.now_ms) for visit in super().visits(day))


class _BrokenVisit(TinyVisit):
    def steps(self) -> Iterator[Step]:
        yield Step(self.now_ms - 1, "back in time")


def test_a_law_that_goes_back_in_time_is_refused():
    with pytest.raises(ValueError, match=r"tiny-00.* goes back in time"):
        play(_Broken(1, 1.0, START_MS), days=1)
