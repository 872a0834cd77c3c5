"""What a behaviour says about interest: its category, as the part `#Laptops`, and its content terms, as the parts `usb`, `hub`.

No word begins with #, so the two cannot meet. The names are short because every shopper's state holds some forty.
"""

import re

WORDS = re.compile(r"\w\w+")
STOP_WORDS = frozenset("a an and at by for from in is it of on or the to with w".split())
"""Words that tell nothing about a product. Single characters tell little more and are no words at all."""


def shares(text: str, category: str, category_share: float, most: int) -> tuple[tuple[str, float], ...]:
    """How one behaviour's weight is spread over parts; sums to 1, or is empty where the text has no content.

    A part stands between line feeds, as it does in a state's string of parts. Not cached: a cache of 65,536 texts was no faster,
    what it holds is cold memory.
    """
    words = terms(text, most)
    if not category:
        return tuple((f"\n{word}\n", 1 / len(words)) for word in words)
    name = "\n#" + category.replace("\n", " ") + "\n"
    if not words:
        return ((name, 1.0),)
    each = (1 - category_share) / len(words)
    return (name, category_share), *((f"\n{word}\n", each) for word in words)


def terms(text: str, most: int) -> tuple[str, ...]:
    """The first `most` distinct content terms of a text, in order."""
    return tuple([word for word in dict.fromkeys(WORDS.findall(text.lower())) if word not in STOP_WORDS][:most])
