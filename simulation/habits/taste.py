"""What a shopper is born with and keeps: a place in the taste space, likings, habits of writing, how often and when they come.

A shopper belongs to one to three communities; their own place is a mixture of the communities' places and something of their own. From
there come the categories that they care for, and partly their profile, their brands and their thrift.
"""

from array import array
from dataclasses import dataclass
from itertools import accumulate
from math import sqrt
from random import Random

from simulation.habits.catalogue import BRANDS
from simulation.habits.phrases import THEMES, pick
from simulation.habits.wants import ASKS, KINDS, PHRASES, SAVES, SHOWS, brand_tag, phrase_tag
from simulation.habits.world import AGES, COMMUNITIES, DIMENSIONS, REGIONS, World, draw, taste, total

RAREST = 0.078
"""Visits a day of those who come least, before what makes them come again."""
BUSIEST = 0.55
HOURS = (
    (1, 1, 0, 0, 0, 1, 4, 9, 9, 7, 5, 4, 4, 3, 3, 3, 3, 4, 4, 4, 4, 4, 3, 2),
    (1, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 7, 10, 10, 7, 5, 4, 4, 4, 4, 4, 3, 3, 1),
    (2, 1, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 6, 8, 10, 11, 10, 8, 4),
    (9, 6, 3, 1, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 5, 7, 9, 11, 11),
)
"""Weights of the hours of a day: early birds, lunch breaks, evenings, night owls."""
HOURS_UPTO = tuple(tuple(accumulate(hours)) for hours in HOURS)


@dataclass(frozen=True, slots=True)
class Taste:
    communities: tuple[tuple[int, float], ...]
    """Numbers and shares."""
    sums: array
    """Running sums of the weights of all categories."""
    likes: dict[int, float]
    """Factor on wants by tag, where it is not 1."""
    wording: tuple[int, ...]
    """By kind of want: which of its wordings is the habit."""
    budget: int
    """Dearest tier that they buy."""
    open_minded: float
    """How easily they catch what their communities talk about."""
    slips: float
    """Share of searches with a slip of the hand."""
    capitals: bool
    elsewhere: frozenset[int]
    """Categories that they buy in another shop: hints of these leave them cold, and no log can tell."""
    period: float
    """How fast they use things up, 1 is usual."""
    rate: float
    """Visits a day."""
    hours: tuple[int, ...]
    """Running sums."""

    def share(self, category: int) -> float:
        before = self.sums[category - 1] if category else 0
        return (self.sums[category] - before) / self.sums[-1]


def born(rng: Random, world: World) -> tuple[Taste, dict[str, str]]:
    """A taste and a profile."""
    first = _community(rng)
    others = [_community(rng) for _ in range(int(rng.random() * 3))]
    parts = [(first, 0.75), *((other, 0.25) for other in others)] if others else [(first, 1.0)]
    whole = total(share for _, share in parts)
    communities = tuple((number, share / whole) for number, share in parts)
    place = tuple(
        int(
            total(share * world.communities[number].place[at] for number, share in communities) + 9 * rng.random() - 4.5
        )
        for at in range(DIMENSIONS)
    )
    weights = taste(place, world.categories)
    sums = array("q", accumulate(weights))
    home = world.communities[first]
    thrift = 0.6 * home.thrift + 0.4 * rng.random()
    age = min(len(AGES) - 1, max(0, home.age + int(rng.random() * 5) - 2))
    likes = _likes(rng, world, first, age, thrift)
    known = {
        "gender": "female" if rng.random() < home.women else "male",
        "age": AGES[age],
        "location": REGIONS[home.region] if rng.random() < 0.5 else pick(rng, REGIONS),
    }
    luck = max(1e-4, rng.random())
    found = Taste(
        communities=communities,
        sums=sums,
        likes=likes,
        wording=tuple(0 if rng.random() < 0.9 else 1 + int(rng.random() * 1.4) for _ in KINDS),
        budget=2 if thrift < 0.35 else 1 if thrift < 0.7 else 0,
        open_minded=0.1 + 0.8 * rng.random(),
        slips=0.015 + 0.065 * rng.random(),
        capitals=rng.random() < 0.08,
        elsewhere=frozenset(draw(rng, sums) for _ in range(3)),
        period=0.6 + 0.9 * rng.random(),
        rate=min(BUSIEST, RAREST / (sqrt(luck) * sqrt(sqrt(luck)))),
        hours=pick(rng, HOURS_UPTO),
    )
    return found, known if rng.random() < 0.88 else {}


def _likes(rng: Random, world: World, community: int, age: int, thrift: float) -> dict[int, float]:
    likes = {
        ASKS: (0.2, 0.3, 0.5, 0.8, 1.5, 2.5)[age] * (0.5 + rng.random()),
        SAVES: 4 * thrift * thrift,
        SHOWS: 2 * (1 - thrift),
    }
    favoured = world.communities[community].brands
    for theme, brands in enumerate(world.brands):
        likes[brand_tag(brands[favoured[theme] % BRANDS])] = 2.5
        likes[brand_tag(pick(rng, brands))] = 3.5
        likes[phrase_tag(pick(rng, THEMES[theme].purposes))] = 5.0
    likes[phrase_tag(pick(rng, PHRASES))] = 4.0
    return likes


def _community(rng: Random) -> int:
    """Some are larger than others."""
    return int(rng.random() * (0.5 + 0.5 * rng.random()) * COMMUNITIES)
