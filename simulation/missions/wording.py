"""How a want becomes words: a form (what is said: category, attribute, brand, model ...), then names and an order by the shopper's habits.

`texts` is the one place that knows: the law draws from its rows, and the bound for judges (`likeliest`) sums the same rows.
"""

from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from simulation.missions.shop import Category

T, AT, BT, BAT, BM, MT, PT, RT, OT, OMT = range(10)
"""Forms. T the category's name, A attribute, B brand, M model, P a word about the price, R a brand other than the wanted one, O brand of what was
bought (`apple screen protector`), OM its model."""
START, RESEARCH, COMPARE, BUY, ACCESSORY, REFILL = range(6)
"""Phases of a mission."""
_FORMS = {
    START: {T: 0.88, AT: 0.04, BT: 0.05, BM: 0.02, PT: 0.01},
    RESEARCH: {T: 0.5, AT: 0.26, BT: 0.2, PT: 0.02, RT: 0.02},
    COMPARE: {T: 0.06, AT: 0.2, BT: 0.46, BAT: 0.02, RT: 0.07, BM: 0.17, PT: 0.02},
    BUY: {BM: 0.72, MT: 0.02, BT: 0.2, BAT: 0.03, PT: 0.03},
    ACCESSORY: {T: 0.58, OT: 0.18, AT: 0.09, BT: 0.1, OMT: 0.02, PT: 0.03},
    REFILL: {T: 0.25, BT: 0.42, BM: 0.28, AT: 0.05},
}
STYLES = ({}, {BT: 1.8, BAT: 1.3, BM: 1.5, OT: 1.8, AT: 0.5}, {AT: 2.0, BAT: 1.3, BT: 0.6, PT: 1.3})
"""What a shopper is given to: nothing, brands, attributes."""
BARGAIN = {PT: 3.0}
TYPO = 0.075
_BESIDE = {
    "a": "s",
    "e": "wr",
    "i": "uo",
    "o": "ip",
    "u": "yi",
    "n": "mb",
    "m": "n",
    "r": "et",
    "s": "ad",
    "t": "ry",
    "l": "k",
    "c": "xv",
}
"""Letters of the keys beside a key."""
_FIRST = (0.15, 0.96)
"""Chance that the brand comes first, by habit."""


def _table(phase: int, style: int, bargain: bool) -> tuple[tuple[int, float], ...]:
    row = {
        f: w * STYLES[style].get(f, 1.0) * (BARGAIN.get(f, 1.0) if bargain else 1.0) for f, w in _FORMS[phase].items()
    }
    total = sum(row.values())
    return tuple((form, weight / total) for form, weight in row.items())


FORMS = tuple(
    tuple(tuple(_table(phase, style, bargain) for bargain in (False, True)) for style in range(3)) for phase in range(6)
)
"""[phase][style][bargain]: (form, probability)."""


class Habits(NamedTuple):
    style: int
    brand_first: bool
    plural: bool
    other_word: bool
    """Says `fridge`, where there is another word."""
    level: int
    """Of the purse: 0 low, 2 high."""


class Parts(NamedTuple):
    """What may stand in a query, each with its probability; one row each where a mission has settled it."""

    names: Iterable[tuple[str, float]]
    brands: Iterable[tuple[str, float]]
    attributes: Iterable[tuple[str, float]]
    models: Iterable[tuple[str, str, float]]
    """(brand, model, probability)."""
    rivals: Iterable[tuple[str, float]] = ()
    owner: str = ""
    owner_model: str = ""


class Text(NamedTuple):
    text: str
    weight: float
    form: int
    brand: str = ""
    """The rival brand that is asked for."""


def texts(forms: Iterable[tuple[int, float]], parts: Parts, habits: Habits, bargain: bool) -> list[Text]:
    """All that may be written, with probabilities that sum to 1 (less where a part is missing). A text may stand in several rows."""
    rows: list[Text] = []
    add = rows.append
    first = _FIRST[habits.brand_first]
    for form, share in forms:
        if form == BM:
            for brand, model, p in parts.models:
                add(Text(f"{brand} {model}", 0.9 * share * p, BM))
                add(Text(model, 0.1 * share * p, BM))
            continue
        for name, named in parts.names:
            weight = share * named
            if form == T:
                add(Text(name, weight, T))
            elif form == AT:
                for attribute, p in parts.attributes:
                    add(Text(f"{attribute} {name}", 0.92 * weight * p, AT))
                    add(Text(f"{name} {attribute}", 0.08 * weight * p, AT))
            elif form in (BT, RT):
                for brand, p in parts.brands if form == BT else parts.rivals:
                    rival = brand if form == RT else ""
                    add(Text(f"{brand} {name}", first * weight * p, form, rival))
                    add(Text(f"{name} {brand}", (1 - first) * weight * p, form, rival))
            elif form == BAT:
                for brand, p in parts.brands:
                    for attribute, q in parts.attributes:
                        add(Text(f"{brand} {attribute} {name}", first * weight * p * q, BAT))
                        add(Text(f"{attribute} {brand} {name}", (1 - first) * weight * p * q, BAT))
            elif form == MT:
                for _, model, p in parts.models:
                    add(Text(f"{model} {name}", weight * p, MT))
            elif form == PT:
                add(Text(f"{'cheap' if bargain or not habits.level else 'best'} {name}", weight, PT))
            elif form == OT:
                add(Text(f"{parts.owner} {name}", weight, OT))
            else:
                add(Text(f"{parts.owner_model} {name}", weight, OMT))
    return rows


def names_of(category: Category, habits: Habits) -> list[tuple[str, float]]:
    """The shopper's own word nearly always."""
    names = category.names
    own = len(names) - 1 if habits.other_word else min(1, len(names) - 1) if habits.plural else 0
    rest = 0.07 / (len(names) - 1) if len(names) > 1 else 0.0
    return [(name, 1 - rest * (len(names) - 1) if i == own else rest) for i, name in enumerate(names)]


def mistyped(query: str, rng: Random) -> str:
    """A letter left out, doubled, struck beside, or two changed about, within one word; what is too short comes out right."""
    words = query.split()
    long = [i for i, word in enumerate(words) if _may_slip(word)]
    if not long:
        return query
    at = long[int(rng.random() * len(long))]
    slips = slips_of(words[at])
    words[at] = slips[int(rng.random() * len(slips))]
    return " ".join(words)


def may_slip(query: str) -> bool:
    return any(map(_may_slip, query.split()))


def _may_slip(word: str) -> bool:
    return len(word) >= 4 and word.isalpha()


def slips_of(word: str) -> list[str]:
    places = range(1, len(word) - 1)
    left_out = [word[:i] + word[i + 1 :] for i in places]
    doubled = [word[:i] + word[i] + word[i:] for i in places if i % 2]
    changed = [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in places if word[i] != word[i + 1]]
    struck = [word[:i] + letter + word[i + 1 :] for i in places for letter in _BESIDE.get(word[i], "")]
    return left_out + doubled + changed + struck
