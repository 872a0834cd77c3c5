"""What a law of shoppers must offer, so that one frame can play any law: open a home page, show it hints, write down what follows.

A law knows everything about its shoppers and tells the frame only what a shop could see (`Step`). Two things are for judges alone,
who never train a model: `appeal`, how welcome a hint truly is, and `likeliest`, the best that could be said of the next search.

All randomness comes from `random.Random(text).random()` and `math.sqrt`, which give the same on every machine; shopper n of a seed
lives the same life however many others there are, apart from the hints that are shown.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from schemas import Item

DAY_MS = 86_400_000


class Step(NamedTuple):
    """One thing that a shop sees. Exactly one of `query` and `item` is there."""

    time_ms: int
    query: str = ""
    """A search, as typed."""
    item: Item | None = None
    """A click on a product; `attributes` hold its brand, features and price."""
    bought: bool = False
    """The clicked product was bought. No behaviour event says so; it goes to `purchases.parquet`."""


class Chance(NamedTuple):
    query: str
    """As the shopper would write it, without slips of the hand."""
    probability: float


class Visit(Protocol):
    """One stay in the shop. The frame calls `next_page()`; shows hints there and may call `follow`; then takes `steps()`; and begins again,
    until `next_page` says None."""

    def next_page(self) -> int | None:
        """Time at which the shopper next sees the home page's search box (ms); None when the visit is over. The first is the visit's
        begin; later ones come between searches, because shoppers return to the home page."""
        ...

    def appeal(self, query: str) -> float:
        """0 .. 1, true and latent: how well this hint meets what the shopper wants at this page. It holds things that no log tells."""
        ...

    def follow(self, query: str) -> Iterator[Step]:
        """What the shopper does after a click on this hint: the search of it, as it stands, then clicks. It moves what the shopper wants."""
        ...

    def steps(self) -> Iterator[Step]:
        """What the shopper does by themselves, until the next page: searches and clicks; possibly nothing after a hint."""
        ...

    def likeliest(self, count: int) -> Sequence[Chance]:
        """The shopper's next search by themselves, if no hint is clicked: the likeliest queries by the law, given everything, latents too; best
        first. It draws nothing and changes nothing. Probabilities sum to at most 1."""
        ...


class Life(Protocol):
    """One shopper."""

    user: str
    profile: dict[str, str]

    def visits(self, day: int) -> Iterator[Visit]:
        """Of day 0, 1, 2 ..., to be asked in this order, by time. Visits of one shopper do not overlap; all steps of a visit lie within a day and
        a half after the day's begin."""
        ...


class Law(Protocol):
    """A world. Made from a seed, a drift and a start; the same three give the same world."""

    name: str

    def items(self) -> Iterator[Item]:
        """Everything that is sold."""
        ...

    def category(self, query: str) -> str:
        """Leaf category that a query (normalised) truly asks for; empty where it asks for none. For judges."""
        ...

    def life(self, number: int) -> Life: ...
