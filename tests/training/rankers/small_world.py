"""A small shop where everything that a contender could learn is strong: which query narrows which, what is bought along with what, whose
brand is whose, and how queries are made of words. It resembles no real log; the markets of `simulation/` do.
"""

import heapq
from collections.abc import Iterator
from random import Random

from schemas import BehaviourEvent, Item

DAY_MS = 86_400_000
TERMS = {
    "Laptops": "laptop",
    "Laptop Bags": "laptop bag",
    "Mice": "mouse",
    "Monitors": "monitor",
    "Printers": "printer",
    "Ink": "ink",
    "Televisions": "tv",
    "Soundbars": "soundbar",
    "TV Mounts": "tv mount",
    "Headphones": "headphones",
    "Phones": "phone",
    "Phone Cases": "phone case",
    "Chargers": "charger",
    "Cameras": "camera",
    "Lenses": "lens",
    "Tripods": "tripod",
    "Consoles": "console",
    "Controllers": "controller",
    "Headsets": "headset",
    "Microwaves": "microwave",
    "Blenders": "blender",
    "Toasters": "toaster",
    "Routers": "router",
    "Memory Cards": "memory card",
}
"""Leaf categories; each is followed by the next one when something is bought along."""
NAMES = tuple(TERMS)
BRANDS = ("hp", "samsung", "sony", "canon", "dell", "logitech")
FEATURES = ("refurbished", "wireless", "gaming", "portable", "compact")


def events(seed: int, shoppers: int, start_ms: int, days: int) -> Iterator[BehaviourEvent]:
    """By time."""
    lives = (_life(f"shopper-{seed}-{number}", start_ms, start_ms + days * DAY_MS) for number in range(shoppers))
    return heapq.merge(*lives, key=lambda event: (event.time_ms, event.id))


def _life(user: str, start_ms: int, end_ms: int) -> Iterator[BehaviourEvent]:
    rng = Random(user)
    brand, feature = _one(rng, BRANDS), _one(rng, FEATURES)
    profile = {"gender": "F" if rng.random() < 0.5 else "M", "age": str(20 + int(50 * rng.random()))}
    subject, now = int(len(NAMES) * rng.random() ** 2), start_ms + int(5 * DAY_MS * rng.random())
    while now < end_ms:
        for _ in range(1 + int(3 * rng.random())):
            name = NAMES[subject % len(NAMES)]
            for query in _queries(rng, brand, feature, TERMS[name]):
                yield BehaviourEvent(f"{user}-{now}", user, "search", now, query=query, profile=profile)
                now += 20_000 + int(40_000 * rng.random())
                if rng.random() < 0.5:
                    title = f"{brand.title()} - {feature.title()} {name.removesuffix('s')} - Black"
                    item = Item(f"{brand}-{subject}", title, name)
                    yield BehaviourEvent(f"{user}-{now}", user, "click", now, item=item, profile=profile)
                    now += 20_000
            subject += 1 if rng.random() < 0.7 else int(len(NAMES) * rng.random())
        now += int((0.5 + 4 * rng.random()) * DAY_MS)


def _queries(rng: Random, brand: str, feature: str, term: str) -> Iterator[str]:
    """Broad, then narrower."""
    if rng.random() < 0.6:
        yield term
    form = rng.random()
    if form < 0.5:
        yield f"{brand} {term}"
    elif form < 0.8:
        yield f"{feature} {term}"
    else:
        yield f"{brand} {feature} {term}"


def _one(rng: Random, choices: tuple[str, ...]) -> str:
    return choices[int(len(choices) * rng.random())]
