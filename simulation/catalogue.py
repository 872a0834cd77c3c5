"""What the simulated shop sells: real leaf categories of a retailer (CC0), brands and features by department.

The shop is the same for every seed: seeds draw shoppers. All its choices hang on a hash of the category's id, so there is
nothing random here.
"""

import gzip
import json
import re
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from itertools import accumulate
from math import sqrt

CATEGORIES_PER_DEPARTMENT = 18
FLATNESS = 3.0
"""The r-th category is searched (r + FLATNESS)^-1.5 as much; docs/simulation.md says what that is calibrated to."""

# Department, or the part of it that has brands of its own: brands, most bought first | features that a shopper may ask for.
DEPARTMENTS = {
    "Computers & Tablets": "hp,dell,apple,lenovo,asus,logitech,microsoft,sandisk|refurbished,wireless,touchscreen,gaming,black,portable",
    "Appliances": "whirlpool,lg,samsung,ge,kitchenaid,dyson,bissell,cuisinart|stainless steel,compact,white,energy star,quiet,large",
    "Connected Home & Housewares": "brother,epson,canon,nest,panasonic,honeywell,insignia,belkin|wireless,black,compact,smart,home,digital",
    "Furniture & Decor": "sauder,bush,ashley,bell o,insignia,linon|wood,black,white,small,modern,oak",
    "Housewares": "coleman,weber,rubbermaid,petsafe,lodge,oxo|outdoor,large,small,wood,folding,black",
    "Household Essentials": "samsonite,energizer,duracell,philips,swissgear,ge|travel,led,rechargeable,small,black,carry on",
    "Health, Fitness & Beauty": "fitbit,garmin,philips,conair,remington,omron,polar,bowflex|cordless,waterproof,black,travel,digital,pink",
    "Video Games": "sony,nintendo,microsoft,turtle beach,razer,activision,ea,pdp|used,wireless,new,kids,limited edition,white",
    "Cameras & Camcorders": "canon,nikon,sony,gopro,olympus,fujifilm,panasonic,kodak|waterproof,compact,hd,professional,black,zoom",
    "Musical Instruments": "yamaha,fender,gibson,roland,casio,shure,pearl,ibanez|beginner,used,student,black,portable,professional",
    "Car Electronics & GPS": "pioneer,garmin,kenwood,alpine,jvc,tomtom,jl audio,boss|bluetooth,double din,waterproof,portable,12 volt,wireless",
    "Cell Phones": "samsung,apple,motorola,htc,lg,otterbox,nokia,blackberry|unlocked,prepaid,black,white,wireless,waterproof",
    "TV & Home Theater": "samsung,sony,lg,vizio,insignia,panasonic,roku,sharp|55 inch,40 inch,4k,smart,wall mount,refurbished",
    "Audio": "bose,sony,beats,jbl,klipsch,sennheiser,skullcandy,polk|wireless,bluetooth,noise cancelling,portable,waterproof,black",
    "Toys, Games & Drones": "lego,hasbro,mattel,leapfrog,dji,vtech,fisher price,nerf|kids,remote control,educational,battery,outdoor,new",
}
# What is searched most in such shops, in this order; the other categories follow by a hash and by the length of their names.
_LEADERS = (
    "laptop,smart tv,ps4 console,over ear headphone,smartwatch,chromebook,sound bar,ps4 game,keyboard,security camera,led tv,"
    "built in dishwasher,madden nfl,lens,single serve coffee maker,projector,bluetooth headset,micro sdxc,countertop microwave,"
    "halo,e reader,dash camera,hdmi cable,speaker system,ukulele,tripod,car charger,xbox one headset,electric toothbrush,"
    "luggage,macbook,marine gps,battlefield,board game,toaster,hair straightener,wireless charger,robot,gaming desktop,sofa"
).split(",")
_MOVED = {"laptop": "Computers & Tablets"}
"""The one leaf that is called Laptops stands under PC gaming."""
# What shops use to arrange shelves and nobody buys, and names that already hold a brand.
_NO_PRODUCT = re.compile(
    r"\b(all|other|and|covers?|large|medium|small|fonts|blocks|towers only|genealogy|recipe|deals|packages?|gift|collections|downloads?|trade|services?|minutes|pre-owned|upgrade|merchandise"
    r"|directv|verizon|sprint|t-mobile|galaxy|ipad|iphone|ipod|windows|"
    + "|".join(sorted({brand for row in DEPARTMENTS.values() for brand in row.split("|")[0].split(",")}))
    + r")\b",
    re.IGNORECASE,
)
_PLAIN_NAME = re.compile(r"[A-Z][A-Za-z0-9'-]*( [A-Za-z0-9'-]+){0,3}")


@dataclass(frozen=True)
class Category:
    name: str
    """As the shop writes it: `Canister Vacuums`."""
    term: str
    """As a shopper writes it: `canister vacuum`."""
    department: str
    brands: tuple[str, ...]
    """Sold here, most bought first."""
    features: tuple[str, ...]
    companions: tuple[int, ...] = ()
    """Positions in the catalogue of what is bought along with it, most often first."""


@dataclass(frozen=True)
class Catalogue:
    categories: tuple[Category, ...]
    """Most popular first."""
    popularity: tuple[float, ...]
    """Running totals of the categories' weights."""


@cache
def catalogue() -> Catalogue:
    """The one shop. Where two departments have a category of one name, the department that stands first above has it."""
    rows = json.loads(gzip.decompress(files("simulation").joinpath("categories.json.gz").read_bytes()))
    found: dict[str, tuple[int, str, str, str]] = {}
    order = list(DEPARTMENTS)
    for row in sorted(rows, key=lambda row: order.index(d) if (d := row["path"][0]["name"]) in order else 99):
        path: list[str] = [step["name"] or "All" for step in row["path"]]
        department, name = path[0], path[-1]
        sold = department in DEPARTMENTS and not row["subCategories"] and "Merchandise" not in str(path)
        if sold and _PLAIN_NAME.fullmatch(name) and not _NO_PRODUCT.search(name):
            term = _term(name)
            department = _MOVED.get(term) or department
            rank = _LEADERS.index(term) if term in _LEADERS else (1 + _hash(row["id"])) * len(name.split()) ** 2
            found.setdefault(term, (rank, department, path[1], name))
    by_rank = sorted((rank, department, family, name, term) for term, (rank, department, family, name) in found.items())
    kept: list[tuple[int, str, str, str, str]] = []
    for row in by_rank:
        if sum(row[1] == other[1] for other in kept) < CATEGORIES_PER_DEPARTMENT:
            kept.append(row)
    categories = []
    for i, (_, department, family, name, term) in enumerate(kept):
        brands, features = (part.split(",") for part in DEPARTMENTS.get(family, DEPARTMENTS[department]).split("|"))
        related = sorted(
            (j for j in range(len(kept)) if j != i and kept[j][1] == department),
            key=lambda j: (kept[j][2] != family, _hash(f"{term} {kept[j][4]}") * (j + 10)),
        )
        categories.append(
            Category(name, term, department, _some(brands, term, 4), _some(features, term, 3), tuple(related[:3]))
        )
    # A square root, unlike other powers, is exactly rounded, so it is the same on every machine.
    weights = accumulate(1 / ((rank + FLATNESS) * sqrt(rank + FLATNESS)) for rank in range(len(categories)))
    return Catalogue(tuple(categories), tuple(weights))


def _term(name: str) -> str:
    """One thing, in lower case: `Memory Cards` is searched as `memory card`."""
    words = name.lower().replace("-", " ").split()
    last = words[-1]
    if name.endswith("GPS"):
        return " ".join(words)
    if last.endswith("ies") and len(last) > 5:
        last = last[:-3] + "y"
    elif last.endswith(("ches", "shes", "xes", "sses", "nses")):
        last = last[:-2]
    elif last.endswith("s") and not last.endswith(("ss", "us", "is")):
        last = last[:-1]
    return " ".join([*words[:-1], last])


def _some(names: list[str], term: str, most: int) -> tuple[str, ...]:
    """`most` of the names, another choice for each term, in the order of the table."""
    left = sorted(range(len(names)), key=lambda i: _hash(f"{term} {names[i]}"))[:most]
    return tuple(names[i] for i in sorted(left))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest())
