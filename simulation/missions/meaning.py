"""What a query asks for, read from its words alone: category, brand, attribute, model; slips of the hand are forgiven.

The appeal of a hint and the category of a query are read from this, so they do not depend on who wrote the query when.
"""

from functools import lru_cache
from typing import NamedTuple

from simulation.missions.shop import Shop
from simulation.missions.wording import slips_of

PRICE_WORDS = ("cheap", "best")


class Meaning(NamedTuple):
    category: int = -1
    """-1 where the query names nothing that is sold."""
    brand: str = ""
    attribute: str = ""
    product: int = -1
    price_word: str = ""
    clean: bool = True
    """Without a slip."""


NOTHING = Meaning()


class Reader:
    def __init__(self, shop: Shop):
        self._products = shop.products
        self._categories = {name: c.number for c in shop.categories for name in c.names}
        self._brands = {brand for c in shop.categories for brand in c.brands}
        self._attributes = {attribute for c in shop.categories for attribute in c.attributes}
        self._models = {p.model: p.number for p in shop.products}
        phrases = [*self._categories, *self._brands, *self._attributes, *self._models, *PRICE_WORDS]
        self._longest = max(len(phrase.split()) for phrase in phrases)
        words = sorted({word for phrase in phrases for word in phrase.split()})
        self._words = frozenset(words)
        self._meant: dict[str, str] = {}
        for word in words:
            if len(word) >= 4:
                for slip in slips_of(word):
                    self._meant.setdefault(slip, word)
        self.read = lru_cache(100_000)(self._read)

    def _read(self, query: str) -> Meaning:
        """query: normalised."""
        typed = query.split()
        words = [word if word in self._words else self._meant.get(word, word) for word in typed]
        clean = words == typed
        category, words = self._take(words, self._categories)
        model, words = self._take(words, self._models)
        product = self._models.get(model, -1)
        brand, words = self._take(words, self._brands)
        attribute, words = self._take(words, self._attributes)
        price_word = next((word for word in words if word in PRICE_WORDS), "")
        number = self._categories.get(category, -1)
        if product >= 0:
            made = self._products[product]
            number, brand = (made.category, made.brand) if number < 0 else (number, brand or made.brand)
            if number != made.category:  # an accessory for it
                product = -1
        return Meaning(number, brand, attribute, product, price_word, clean) if number >= 0 else NOTHING

    def _take(self, words: list[str], phrases: dict[str, int] | set[str]) -> tuple[str, list[str]]:
        """The longest phrase among the words, the first of such, and the words without it."""
        for size in range(min(len(words), self._longest), 0, -1):
            for at in range(len(words) - size + 1):
                phrase = " ".join(words[at : at + size])
                if phrase in phrases:
                    return phrase, words[:at] + words[at + size :]
        return "", words
