"""The real leaf categories (CC0) that the shop sells, in a seed's order of how much they are wanted, and the words that shoppers have for them."""

import gzip
import json
import re
from importlib.resources import files
from math import sqrt
from random import Random
from typing import NamedTuple

from simulation.missions.departments import DEPARTMENTS, LEADERS, PARTS, SMALL, SYNONYMS

CATEGORIES_PER_DEPARTMENT = 24
HEAD = 3.0
"""The r-th category of the shop is wanted (r + HEAD)^-2.5 as much."""
VOWELS = "aeiou"
_PLAIN_NAME = re.compile(r"[A-Z][A-Za-z0-9'-]*( [A-Za-z0-9'-]+){0,3}")
# What shops use to arrange shelves and nobody buys, names that stand for a brand, and names that mean nothing by themselves.
_NO_PRODUCT = re.compile(
    r"\b(all|other|more|and|with gps|covers?|large|fonts|blocks|towers only|genealogy|recipe|deals|packages?|gift|collections|downloads?|services?"
    r"|minutes|pre-owned|pre order|upgrade|merchandise|assembly|scheduler|connection|instructional|cooking|directv|verizon|sprint|t-mobile|galaxy|ipad"
    r"|iphone|ipod|windows|tivo|chromecast|shield|sirius\w*|xm|dvds?|roku|lego|domo|disney|hello kitty|star wars?|2k16)\b",
    re.IGNORECASE,
)
_GENERIC = frozenset(
    "accessory,system,radio,adapter,connector,brush,cloth,mirror,bench,biking,golf,shaker,dynamic,condenser,wireless,collectible,boat,aircraft,"
    "small,medium,boxing,lock,clock,case,keyboard,tuner,scale,lens,wall system,cross platform,accessory kit,umbrella,reflector,remote control,body weight".split(
        ","
    )
)


class Leaf(NamedTuple):
    name: str
    term: str
    department: int
    price: float
    weight: float


def leaves_of(rng: Random) -> list[Leaf]:
    """The same categories for every seed, most wanted first in an order that the seed jitters."""
    rows = json.loads(gzip.decompress(files("simulation").joinpath("categories.json.gz").read_bytes()))
    order = {row.name: i for i, row in enumerate(DEPARTMENTS)}
    chosen = Random("categories")
    found: dict[str, tuple[float, int, str]] = {}
    for row in rows:
        path: list[str] = [step["name"] or "All" for step in row["path"]]
        department, family, name = path[0], path[min(1, len(path) - 1)], path[-1]
        if (
            department not in order
            or row["subCategories"]
            or "Merchandise" in str(path)
            or not _PLAIN_NAME.fullmatch(name)
            or _NO_PRODUCT.search(name)
        ):
            continue
        term = _singular(name)
        rank = LEADERS.index(term) if term in LEADERS else len(LEADERS) + 400 * chosen.random() * len(name.split())
        if term not in _GENERIC and term not in found:
            found[term] = (rank, order.get(family, order[department]), name)
    kept: list[tuple[float, int, str, str]] = []
    count = [0] * len(DEPARTMENTS)
    for rank, department, name, term in sorted((*facts, term) for term, facts in found.items()):
        if count[department] < CATEGORIES_PER_DEPARTMENT:
            count[department] += 1
            kept.append((rank, department, name, term))
    jittered = sorted(range(len(kept)), key=lambda i: (i + 4) * (0.6 + 0.8 * rng.random()))
    leaves: list[Leaf] = []
    for rank, at in enumerate(jittered):
        _, department, name, term = kept[at]
        low, high = DEPARTMENTS[department].low, DEPARTMENTS[department].high
        price = low + (high - low) * rng.random() * rng.random()
        if term.split()[-1] in SMALL:
            price = low * (0.5 + rng.random())
        # A square root, unlike other powers, is exactly rounded, so it is the same on every machine.
        at_rank = rank + HEAD
        leaves.append(Leaf(name, term, department, price, 1 / (at_rank * at_rank * sqrt(at_rank))))
    return leaves


def names_of_leaves(leaves: list[Leaf]) -> list[tuple[str, ...]]:
    taken = {leaf.term for leaf in leaves}
    names: list[tuple[str, ...]] = []
    for leaf in leaves:
        other = SYNONYMS.get(leaf.term, "")
        for part, short in PARTS.items():
            if not other and part in leaf.term:
                other = leaf.term.replace(part, short)
        row = [leaf.term]
        for name in (_plural(leaf.term), other):
            if name and name not in taken:
                taken.add(name)
                row.append(name)
        names.append(tuple(row))
    return names


def _singular(name: str) -> str:
    words = name.lower().replace("-", " ").replace("'", "").split()
    last = words[-1]
    if last.endswith("ies") and len(last) > 5:
        last = last[:-3] + "y"
    elif last.endswith(("ches", "shes", "xes", "sses", "nses")):
        last = last[:-2]
    elif last.endswith("s") and not last.endswith(("ss", "us", "is", "gps")):
        last = last[:-1]
    return " ".join([*words[:-1], last])


def _plural(term: str) -> str:
    if term.endswith(
        ("mice", "gps", "equipment", "software", "luggage", "paper", "care", "currency", "wear", "mini dv", "s")
    ):
        return ""
    if term.endswith(("ch", "sh", "x", "ss")):
        return term + "es"
    return term[:-1] + "ies" if term[-1] == "y" and term[-2] not in VOWELS else term + "s"
