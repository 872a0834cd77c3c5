"""What can be asked for within a category, in which words, and how often: wants.

A want is a meaning (`best air fryer for camping`); it has one to three wordings, of which a shopper by habit uses one. Popularity
within a category follows Zipf's law; at a drift above 0 every want's popularity sways over the days, each in its own rhythm.
"""

from dataclasses import dataclass
from random import Random

from simulation.habits.catalogue import BRANDS, TIERS, Brand, Line
from simulation.habits.phrases import THEMES, heard, pick, singular

KINDS = ("noun", "look", "purpose", "feature", "brand", "line", "question", "price")
NOUN, LOOK, PURPOSE, FEATURE, BRAND, LINE, QUESTION, PRICE = range(len(KINDS))
EARLY = (-0.9, 0.1, 0.1, 0.3, -0.15, 0.0, 0.2, 0.2)
"""Added to a want's luck (0 .. 1) before wants are ranked, by kind: bare nouns are mostly the most popular."""
ASKS, SAVES, SHOWS = range(3)
"""Tags of those who ask questions, look for a low price, look for a luxury; brands' and phrases' tags follow."""
_BRAND_TAGS = 8
_PHRASE_TAGS = _BRAND_TAGS + len(THEMES) * BRANDS
PHRASES = tuple(
    dict.fromkeys(phrase for theme in THEMES for phrase in (*theme.purposes, *theme.features, *theme.looks))
)
NO_TAG = -1
SWAY = 0.5
"""How far a drift of 1 moves a want's popularity up and down, as a share of its mean."""


def brand_tag(brand: Brand) -> int:
    return _BRAND_TAGS + brand.number


def phrase_tag(phrase: str) -> int:
    """One tag for a phrase in all categories: who needs it here may need it there."""
    return _PHRASE_TAGS + PHRASES.index(phrase)


@dataclass(frozen=True, slots=True, eq=False)
class Want:
    category: int
    place: int
    """Among the wants of its category."""
    kind: int
    wordings: tuple[str, ...]
    tag: int
    """What a shopper may like about it; NO_TAG where there is nothing special."""
    tier: int
    """Price tier that it asks for; 1 where it asks for none."""
    line: Line | None
    brand: Brand | None
    phrase: str
    weight: float
    """Popularity within the category, any scale."""
    rhythm: float
    """Sways a day."""
    phase: float

    def popularity(self, day: int, drift: float) -> float:
        at = (self.phase + self.rhythm * day) % 1.0
        wave = 4 * at - 1 if at < 0.5 else 3 - 4 * at
        return self.weight * max(0.05, 1 + SWAY * drift * wave)


def wants_of(rng: Random, category: int, theme: int, noun: str, brands: list[Brand], lines: list[Line]) -> list[Want]:
    """All that is asked for in a category whose noun is given in the plural."""
    words, one = THEMES[theme], singular(noun)
    drafts: list[tuple[int, tuple[str, ...], int, int, Line | None, Brand | None, str]] = [
        (NOUN, (noun, one), NO_TAG, 1, None, None, "")
    ]
    for look in _some(rng, words.looks, 4):
        drafts.append((LOOK, (f"{look} {one}", f"{look} {noun}"), phrase_tag(look), 1, None, None, look))
    for purpose in _some(rng, words.purposes, 4):
        forms = (f"{one} for {purpose}", f"{noun} for {purpose}")
        drafts.append((PURPOSE, forms, phrase_tag(purpose), 1, None, None, purpose))
    for feature in _some(rng, words.features, 3):
        drafts.append(
            (FEATURE, (f"{one} with {feature}", f"{feature} {one}"), phrase_tag(feature), 1, None, None, feature)
        )
    for brand in brands:
        forms = (f"{brand.name} {one}", f"{heard(brand.name)} {one}", f"{one} {brand.name}")
        drafts.append((BRAND, forms, brand_tag(brand), brand.tier, None, brand, ""))
    for line in lines:
        forms = (f"{line.brand.name} {line.name}", f"{heard(line.brand.name)} {line.name}", f"{line.name} {one}")
        drafts.append((LINE, forms, brand_tag(line.brand), line.brand.tier, line, line.brand, ""))
    purpose = pick(rng, words.purposes)
    drafts.append((QUESTION, (f"which {one} is best", f"what is a good {one}"), ASKS, 1, None, None, ""))
    drafts.append((QUESTION, (f"best {one} for {purpose}", f"which {one} for {purpose}"), ASKS, 1, None, None, purpose))
    drafts.append((QUESTION, (f"how to choose {noun}", f"how do i choose a {one}"), ASKS, 1, None, None, ""))
    drafts.append((PRICE, (f"cheap {noun}", f"cheap {one}"), SAVES, 0, None, None, TIERS[0]))
    drafts.append(
        (PRICE, (f"{noun} on sale", f"{one} under {pick(rng, (20, 30, 50, 100))}"), SAVES, 0, None, None, TIERS[0])
    )
    drafts.append((PRICE, (f"top rated {noun}", f"best {noun}"), SHOWS, 2, None, None, TIERS[2]))
    ranked = sorted(((rng.random() + EARLY[draft[0]], place) for place, draft in enumerate(drafts)))
    ranks = {place: rank for rank, (_, place) in enumerate(ranked)}
    wants = []
    for place, (kind, forms, tag, tier, line, brand, phrase) in enumerate(drafts):
        rank = ranks[place] + 1
        weight = 1 / (rank * rank * rank)
        rhythm, phase = 1 / (18 + 50 * rng.random()), rng.random()
        wordings = tuple(dict.fromkeys(forms))
        wants.append(Want(category, place, kind, wordings, tag, tier, line, brand, phrase, weight, rhythm, phase))
    return wants


def _some(rng: Random, many: tuple[str, ...], count: int) -> list[str]:
    return [one for _, one in sorted((rng.random(), one) for one in many)[:count]]
