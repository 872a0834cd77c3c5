"""What changes by the day for everybody: popularity sways, and crazes catch on and spread from community to community.

A craze is one want. It starts in one community and spreads like an infection: those who caught it infect their own and near communities,
tire of it, and do not catch it again. `drift` is how many start a day and how far popularity sways; at 0 every day is as the first.
"""

from dataclasses import dataclass
from itertools import accumulate
from random import Random

from simulation.habits.phrases import pick
from simulation.habits.wants import Want
from simulation.habits.world import COMMUNITIES, World, draw, taste, total

BIRTHS = 0.5
"""Crazes a day at a drift of 1."""
FIRST_DAY, LAST_DAY = -25, 400
"""Days on which crazes start."""
LONGEST = 25
"""Days that a craze lasts."""
SEED, SPREAD, TIRE = 0.06, 0.5, 0.2
"""Share of a community that has it on the first day; infections a day; share of the infected who tire, a day."""
NEAR, FAR = 0.5, 0.3
"""Infections between communities, as a share of those within one: the three nearest, and others."""


@dataclass(frozen=True, slots=True)
class Craze:
    want: Want
    begins: int
    """Day."""
    infected: tuple[tuple[float, ...], ...]
    """By day since it began, by community: share that has it."""


class Fashion:
    def __init__(self, world: World, seed: int, drift: float) -> None:
        self._world, self._drift = world, drift
        self._contact = _contacts(world)
        self._popularity: dict[tuple[int, int], list[float]] = {}
        self._by_day: dict[int, list[list[tuple[Want, float]]]] = {}
        rng = Random(f"habits {seed} crazes")
        sums = [list(accumulate(taste(one.place, world.categories))) for one in world.communities]
        self._born: dict[int, list[tuple[Want, int]]] = {}
        self._crazes: dict[tuple[int, int], Craze] = {}
        for day in range(FIRST_DAY, LAST_DAY):
            expected = BIRTHS * drift
            births = int(expected) + (rng.random() < expected - int(expected))
            for _ in range(births):
                community = int(rng.random() * COMMUNITIES)
                want = pick(rng, world.categories[draw(rng, sums[community])].wants)
                self._born.setdefault(day, []).append((want, community))

    def popularity(self, day: int, category: int) -> list[float]:
        """Of a category's wants, in their order."""
        key = (day if self._drift else 0, category)
        if key not in self._popularity:
            wants = self._world.categories[category].wants
            self._popularity[key] = [want.popularity(day, self._drift) for want in wants]
        return self._popularity[key]

    def crazes(self, day: int, community: int) -> list[tuple[Want, float]]:
        """Wants, and the share of the community that has caught them."""
        if day not in self._by_day:
            self._by_day[day] = self._of_day(day)
        return self._by_day[day][community]

    def _of_day(self, day: int) -> list[list[tuple[Want, float]]]:
        found: list[list[tuple[Want, float]]] = [[] for _ in range(COMMUNITIES)]
        for begins in range(day - LONGEST + 1, day + 1):
            for place, (want, community) in enumerate(self._born.get(begins, ())):
                if (begins, place) not in self._crazes:
                    self._crazes[begins, place] = Craze(want, begins, self._course(community))
                for number, share in enumerate(self._crazes[begins, place].infected[day - begins]):
                    if share > 0.002:
                        found[number].append((want, share))
        return found

    def _course(self, first: int) -> tuple[tuple[float, ...], ...]:
        infected = [SEED if number == first else 0.0 for number in range(COMMUNITIES)]
        immune, days = [0.0] * COMMUNITIES, []
        for _ in range(LONGEST):
            days.append(tuple(infected))
            pressure = [total(c * i for c, i in zip(row, infected, strict=True)) for row in self._contact]
            caught = [min(1.0, SPREAD * p) * (1 - i - m) for p, i, m in zip(pressure, infected, immune, strict=True)]
            immune = [m + TIRE * i for m, i in zip(immune, infected, strict=True)]
            infected = [i - TIRE * i + new for i, new in zip(infected, caught, strict=True)]
        return tuple(days)


def _contacts(world: World) -> list[list[float]]:
    rows = []
    for one in world.communities:
        near = sorted(
            (-sum(a * b for a, b in zip(one.place, other.place, strict=True)), number)
            for number, other in enumerate(world.communities)
            if other is not one
        )
        closest = {number for _, number in near[:3]}
        rows.append(
            [1.0 if other is one else NEAR if at in closest else FAR for at, other in enumerate(world.communities)]
        )
    return rows
