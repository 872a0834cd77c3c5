"""How welcome a hint is: how well it meets the likeliest of what the shopper may turn to next, times what no log tells.

A hint for the mission under way is welcome where it says as much as the shopper knows by now (broad at the start, the model at the end), with the wanted
brand and attribute; one for a complement or a refill that is due nearly as much; something out of the blue by taste and fashion. The
visit's openness and thrift scale it, words of this mission that were searched already count little, a slip in the hint puts off.
"""

from math import sqrt
from typing import TYPE_CHECKING

from simulation.missions.departments import BRAND_TIERS
from simulation.missions.meaning import Meaning
from simulation.missions.mission import Mission
from simulation.missions.plans import HOBBY, Plans, Purchase, Refill, Turn
from simulation.missions.shop import Shop
from simulation.missions.trends import Day

if TYPE_CHECKING:
    from simulation.missions.visit import MissionsVisit

# [phase][what a hint says: the category only, an attribute or a price word, a brand, a model]
_SAYS = (
    (0.9, 0.9, 0.85, 0.5),
    (0.6, 0.95, 0.85, 0.5),
    (0.35, 0.8, 1.0, 0.75),
    (0.2, 0.5, 0.75, 1.0),
    (0.9, 0.85, 0.95, 0.5),
    (0.7, 0.6, 1.0, 1.0),
)
WRONG_BRAND, WRONG_ATTRIBUTE, TOLD, SLIP, FINISHED = 0.3, 0.6, 0.3, 0.75, 0.15


def appeal_of(
    query: str, meaning: Meaning, turns: list[Turn], plans: Plans, shop: Shop, day: Day, visit: "MissionsVisit"
) -> float:
    if meaning.category < 0:
        return 0.0
    total = sum(turn.weight for turn in turns)
    best = 0.0
    for turn in turns:
        met = _met(query, meaning, turn, plans, shop, day)
        best = max(best, met * (0.25 + 0.75 * sqrt(turn.weight / total)))
    priced = 1.0
    if meaning.brand:
        priced = 1 - visit.thrift * 0.35 * BRAND_TIERS[meaning.brand]
    if meaning.price_word == "cheap":
        priced = 0.55 + 0.6 * visit.thrift
    return min(1.0, max(0.0, best * visit.openness * priced * (1.0 if meaning.clean else SLIP)))


def _met(query: str, meaning: Meaning, turn: Turn, plans: Plans, shop: Shop, day: Day) -> float:
    """0..1: how well the hint meets one turn, were it the one."""
    what, taste = turn.what, plans.taste
    if isinstance(what, Mission | Refill):
        if what.category.number != meaning.category:
            return 0.0
        phase = what.phase if isinstance(what, Mission) else 5
        met = _SAYS[phase][_says(meaning)]
        wanted = what.brand if isinstance(what, Mission) else what.product.brand
        if meaning.brand and meaning.brand not in (wanted, getattr(what, "owner", "")):
            met *= WRONG_BRAND
        if meaning.attribute and meaning.attribute != what.attribute:
            met *= WRONG_ATTRIBUTE
        return met * (TOLD if isinstance(what, Mission) and query in what.told else 1.0)
    category = shop.categories[meaning.category]
    liked = 1.0
    if meaning.brand:
        liked = 0.3 + 0.7 * dict(taste.of_brands(category)).get(meaning.brand, 0.0)
    if isinstance(what, Purchase):
        share = dict(what.shares())
        place = (
            what.category.complements.index(meaning.category) if meaning.category in what.category.complements else -1
        )
        if meaning.brand == what.product.brand:
            liked = 1.0
        return 0.95 * sqrt(share.get(place, 0.0)) * liked * _SAYS[4][_says(meaning)]
    if turn.kind == HOBBY:
        near = 0.8 if category is plans.hobbies[0] else 0.6 if category is plans.hobbies[1] else 0.0
        return near * liked * _SAYS[0][_says(meaning)]
    everything = sum(own * wanted[-1] for own, wanted in zip(taste.departments, day.categories, strict=True))
    wanted = taste.weight(category, day) / everything
    return min(0.8, 1.6 * sqrt(wanted)) * liked * (FINISHED if category.number in plans.finished else 1.0)


def _says(meaning: Meaning) -> int:
    return 3 if meaning.product >= 0 else 2 if meaning.brand else 1 if meaning.attribute or meaning.price_word else 0
