"""A mission: one thing that is wanted, from a first look to a purchase or to giving up, over one visit or several.

Phases: START (the first search; a shopper who begins with a model is near buying), RESEARCH (broad, or narrowed by an attribute), COMPARE (brands and
attributes, a rival brand now and then), BUY (the model that was clicked last), ACCESSORY (what goes with a purchase, often under its brand), REFILL
(what is used up, in the same words as before). Clicks come before words: they lean to the brand and the model that later queries name.
"""

from collections.abc import Sequence
from random import Random

from simulation.missions.shop import Category, Product
from simulation.missions.wording import (
    ACCESSORY,
    AT,
    BAT,
    BM,
    BT,
    BUY,
    COMPARE,
    FORMS,
    MT,
    OT,
    REFILL,
    RESEARCH,
    START,
    Habits,
    Parts,
    Text,
    names_of,
    texts,
)

TOLD_NOW, TOLD_BEFORE = 0.02, 0.03
"""What remains of the weight of words that were searched in this visit; in an earlier one."""
LOOKED, GAVE_UP = 0.75, 0.1
"""Chances that a mission ends with its first look; with any later search that is followed by no purchase."""
STAY, BOUGHT, DROPPED = range(3)


class Mission:
    __slots__ = ("attribute", "brand", "category", "last_ms", "owner", "owner_model", "phase", "product", "told")

    def __init__(self, category: Category, brand: str, attribute: str, product: Product, phase: int):
        self.category, self.brand, self.attribute, self.product, self.phase = category, brand, attribute, product, phase
        self.owner = self.owner_model = ""
        """Brand and model of the purchase that this goes with."""
        self.told: dict[str, int] = {}
        """Text -> number of the visit in which it was searched last."""
        self.last_ms = 0

    def words(self, habits: Habits, bargain: bool, visit: int) -> list[Text]:
        """What the next search of this mission may be; weights sum to 1."""
        rivals: Sequence[tuple[str, float]] = ()
        if self.phase in (RESEARCH, COMPARE):
            others = [
                (b, w)
                for b, w in zip(self.category.brands, self.category.brand_weights, strict=True)
                if b != self.brand
            ]
            total = sum(w for _, w in others)
            rivals = [(brand, weight / total) for brand, weight in others]
        parts = Parts(
            names_of(self.category, habits),
            ((self.brand, 1.0),),
            ((self.attribute, 1.0),),
            ((self.brand, self.product.model, 1.0),),
            rivals,
            self.owner,
            self.owner_model,
        )
        rows = texts(FORMS[self.phase][habits.style][bargain], parts, habits, bargain)
        told = self.told
        if told:
            rows = [
                row._replace(weight=row.weight * (TOLD_NOW if told[row.text] == visit else TOLD_BEFORE))
                if row.text in told
                else row
                for row in rows
            ]
        total = sum(row.weight for row in rows)
        return [Text(text, weight / total, form, brand) for text, weight, form, brand in rows]

    def liked(self, product: Product, rng: Random) -> None:
        """After a click."""
        if product.brand == self.brand or rng.random() < 0.3:
            self.product, self.brand = product, product.brand
            if product.attribute in self.category.attributes and rng.random() < 0.5:
                self.attribute = product.attribute

    def advance(self, form: int, clicks: int, eager: float, rng: Random) -> int:
        """After a search and its clicks. eager: factor on buying, of the visit. Returns STAY, BOUGHT or DROPPED."""
        dice, phase = rng.random(), self.phase
        if phase == REFILL:
            return BOUGHT if dice < 0.7 * eager else DROPPED if dice > 0.85 else STAY
        if phase == BUY:
            return BOUGHT if clicks and dice < 0.5 * eager else DROPPED if dice > 0.87 else STAY
        if phase == ACCESSORY:
            if clicks and dice < 0.35 * eager:
                return BOUGHT
            self.phase = BUY if clicks and dice < 0.7 else ACCESSORY
            return DROPPED if dice > 0.75 else STAY
        if phase == START:  # many only have a look
            narrow = form in (AT, BT, BAT, OT)
            self.phase = BUY if form in (BM, MT) else COMPARE if narrow or dice < 0.45 else RESEARCH
        elif phase == RESEARCH:
            self.phase = COMPARE if dice < 0.3 + 0.25 * (clicks > 0) else RESEARCH
        else:
            self.phase = BUY if dice < 0.15 + 0.35 * (clicks > 0) else COMPARE
        return DROPPED if rng.random() < (LOOKED if phase == START else GAVE_UP) else STAY
