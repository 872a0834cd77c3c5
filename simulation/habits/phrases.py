"""What the shop of habits sells and the words for it: shelves, what people want of a thing, invented names, plurals, slips of the hand.

The leaf categories are real (`categories.json.gz`, CC0): a household's shelves - kitchen, comfort, music, fitness, toys - and none
of the electronics. Brands and product lines are made of syllables; no such makers are meant.
"""

import gzip
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from random import Random


@dataclass(frozen=True)
class Theme:
    """A department's shelves, and the phrases that people add to its nouns."""

    shelves: tuple[str, ...]
    purposes: tuple[str, ...]
    """noun for ..."""
    features: tuple[str, ...]
    """noun with ..."""
    looks: tuple[str, ...]
    """... noun"""


THEMES = (
    Theme(
        shelves=("Small Kitchen Appliances",),
        purposes=(
            "small kitchens",
            "one person",
            "a big family",
            "camping",
            "the office",
            "beginners",
            "gifts",
            "students",
        ),
        features=("timer", "glass lid", "removable tray", "thermometer", "storage", "extra bowl"),
        looks=("quiet", "stainless steel", "compact", "red", "retro", "professional", "black"),
    ),
    Theme(
        shelves=(
            "Heating, Cooling & Air Quality",
            "Vacuum Cleaners & Floor Care",
            "Irons, Steamers & Sewing Machines",
            "Appliance Parts & Accessories",
            "Freezers & Ice Makers",
            "Refrigerators",
        ),
        purposes=("pet hair", "small rooms", "apartments", "the bedroom", "allergies", "hardwood floors", "the garage"),
        features=("remote", "thermostat", "hepa filter", "wheels", "long cord", "night light"),
        looks=("quiet", "portable", "slim", "white", "energy saving", "heavy duty", "tall"),
    ),
    Theme(
        shelves=(
            "Guitars",
            "Amps & Effects",
            "Keyboards",
            "Musical Instrument Accessories",
            "Drums & Percussion",
            "DJ & Lighting Equipment",
            "Folk Instruments",
            "Karaoke",
            "Recording Equipment",
        ),
        purposes=("beginners", "kids", "left handed players", "travel", "church", "home studio", "small hands"),
        features=("case", "stand", "headphone jack", "usb", "pedal", "lessons"),
        looks=("vintage", "lightweight", "black", "sunburst", "professional", "mini", "wooden"),
    ),
    Theme(
        shelves=(
            "Personal Care & Beauty",
            "Strength & Weight Training",
            "Health Monitoring & Testing",
            "Yoga, Pilates & Core Training",
            "Health & Fitness Accessories",
            "Sports & Outdoor Recreation",
        ),
        purposes=("women", "men", "seniors", "sensitive skin", "home workouts", "travel", "bad knees", "runners"),
        features=("app", "carry bag", "large display", "chart", "handles", "travel lock"),
        looks=("adjustable", "heavy", "pink", "foldable", "waterproof", "digital", "soft"),
    ),
    Theme(
        shelves=(
            "Learning & Education",
            "Rideables & Outdoor Play",
            "Games, Puzzles & Cards",
            "Kids' Electronics",
            "Remote Control Toys",
            "Diecast & Toy Vehicles",
            "Robots & Robotic Kits",
            "Drones & Accessories",
            "Game Room",
        ),
        purposes=("toddlers", "3 year olds", "8 year olds", "two players", "adults", "girls", "boys", "grandparents"),
        features=("lights", "sound", "storage box", "extra batteries", "stickers", "parental control"),
        looks=("wooden", "magnetic", "classic", "giant", "rechargeable", "indoor", "blue"),
    ),
)

CONSUMED = frozenset(
    [
        "Coffee Pods", "Coffee Beans", "Coffee Filters", "Refrigerator Water Filters", "Cleaning Solutions", "Vacuum Bags", "Vacuum Belts",
        "Vacuum Filters", "Refrigerator Air Filters", "Microwave Air Filters", "Range Hood Filters", "Aromatherapy Diffuser Oils",
        "Guitar Picks", "Guitar Strings", "Drumheads", "Drumsticks", "Toothbrush Replacement Heads", "Skin Care", "Board Games",
        "Electric Shaver Replacement Heads", "Puzzles", "Drone Batteries", "Educational Games", "Water Bottles", "Party Games",
    ]
)  # fmt: skip
"""Leaf categories whose things are used up, or wanted anew: shoppers come back for them."""

DISLIKED = re.compile(
    r"^(All|More|Other)\b|Services|Accessories|Installation|Brands|Delay|Multi Effects|Asian Cooking|Hispanic Cooking|Italian|^Dynamic$|^Wireless$"
    r"|^Hello|Boats$|^Cars-Trucks|^Biking|^Golf|^Boxing|^Wah|Carts and|^Curlers$|^Steamers$|^Freezerless"
)
"""Leaves that are no noun a shopper would type."""
PLAIN = re.compile(r"[A-Za-z' -]+")
PLURALS = (
    ("shelves", "shelf"),
    ("ies", "y"),
    ("sses", "ss"),
    ("shes", "sh"),
    ("ches", "ch"),
    ("xes", "x"),
    ("ss", "ss"),
    ("s", ""),
)
UNCOUNTABLE = frozenset(["skin care", "bakeware", "cookware", "cutlery", "golf", "biking", "boxing"])
ONSETS = "b br c cl d dr f fl g gr h j k kl l m n p pl qu r s sk st t tr v w z".split()
VOWELS = "a e i o u ai ea oo ie y".split()
CODAS = "l ll n nd r rn s x m rt ck ph ve sk tt".split()
BY_EAR = (("ph", "f"), ("ck", "k"), ("qu", "kw"), ("ll", "l"), ("tt", "t"), ("ie", "ee"), ("ea", "ee"), ("y", "i"), ("ai", "ay"), ("x", "ks"), ("c", "k"), ("oo", "u"), ("z", "s"))  # fmt: skip
"""How a brand is written by those who only heard it."""


def leaves() -> list[tuple[str, int, str]]:
    """(leaf category, theme, shelf), in the file's order, each name once."""
    theme_of = {shelf: number for number, theme in enumerate(THEMES) for shelf in theme.shelves}
    found: dict[str, tuple[str, int, str]] = {}
    for row in json.loads(gzip.decompress(files("simulation").joinpath("categories.json.gz").read_bytes())):
        path = [part["name"] for part in row["path"]]
        if row["subCategories"] or len(path) < 3 or path[0] == "Name Brands" or path[1] not in theme_of:
            continue
        name = row["name"].strip()
        if PLAIN.fullmatch(name) and len(name) > 3 and not DISLIKED.search(name):
            found.setdefault(name, (name, theme_of[path[1]], path[1]))
    return list(found.values())


def singular(plural: str) -> str:
    if plural not in UNCOUNTABLE:
        for ending, instead in PLURALS:
            if plural.endswith(ending):
                return plural[: -len(ending)] + instead
    return plural


def pick(rng: Random, many):
    return many[int(rng.random() * len(many))]


def shuffled(rng: Random, many) -> list:
    """In an order of `random()` alone: Random.shuffle may change between Pythons."""
    return [one for _, one in sorted(((rng.random(), one) for one in many), key=lambda pair: pair[0])]


def invented(rng: Random, taken: set[str], syllables: int) -> str:
    """A name that nobody has yet; it is added to `taken`."""
    while True:
        name = "".join(pick(rng, ONSETS) + pick(rng, VOWELS) for _ in range(syllables - 1))
        name += pick(rng, ONSETS) + pick(rng, VOWELS) + pick(rng, CODAS)
        if len(name) <= 5 + 3 * (syllables - 1) and name not in taken and heard(name) not in taken:
            taken.update((name, heard(name)))
            return name


def heard(name: str) -> str:
    """The name as its hearers write it; it always differs."""
    for written, spoken in BY_EAR:
        if written in name:
            return name.replace(written, spoken, 1)
    return name + ("n" if name[-1] in "aeiou" else "e")


def slip(rng: Random, query: str) -> str:
    """A slip of the hand in one of the longer words: a letter left out, doubled, or swapped with the next."""
    words = query.split(" ")
    long = [place for place, word in enumerate(words) if len(word) > 3]
    if not long:
        return query
    place, kind = pick(rng, long), rng.random()
    word = words[place]
    at = 1 + int(rng.random() * (len(word) - 2))
    if kind < 0.4:
        word = word[:at] + word[at + 1 :]
    elif kind < 0.7:
        word = word[: at + 1] + word[at:]
    else:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    words[place] = word
    return " ".join(words)
