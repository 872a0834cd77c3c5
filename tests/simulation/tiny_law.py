"""A law of a few lines, for tests of the frame: shoppers go round a ring of queries, each from a place and with a step of their own."""

from collections.abc import Iterator, Sequence
from random import Random

from schemas import Item
from simulation.law import DAY_MS, Chance, Step

RING = 30
MINUTE_MS = 60_000


def query(i: int) -> str:
    return f"thing {i % RING:02d}"


class Tiny:
    name = "tiny"
    welcome = 0.9
    """Appeal of the hint that the shopper would search next."""

    def __init__(self, seed: int, drift: float, start_ms: int):
        self.seed, self.start_ms = seed, start_ms

    def items(self) -> Iterator[Item]:
        return iter([item(i) for i in range(RING)])

    def category(self, query: str) -> str:
        return f"Group {int(query.rsplit(maxsplit=1)[-1]) // 5}" if query.startswith("thing ") else ""

    def life(self, number: int) -> "TinyLife":
        return TinyLife(self, number)


class TinyLife:
    def __init__(self, law: Tiny, number: int):
        self.law, self.user, self.profile = law, f"tiny-{number:04d}", {"age": str(20 + number % 50)}
        self.rng = Random(f"{law.seed} {number}")
        self.wants = int(RING * self.rng.random() * self.rng.random())

    def visits(self, day: int) -> Iterator["TinyVisit"]:
        if self.rng.random() < 0.7:
            yield TinyVisit(self, self.law.start_ms + day * DAY_MS + int(self.rng.random() * (DAY_MS - 1)))


class TinyVisit:
    def __init__(self, life: TinyLife, now_ms: int):
        self.life, self.now_ms = life, now_ms
        self.pages = 1 + int(life.rng.random() * 2)

    def next_page(self) -> int | None:
        self.pages -= 1
        self.now_ms += MINUTE_MS
        return None if self.pages < 0 else self.now_ms

    def appeal(self, text: str) -> float:
        return self.life.law.welcome if text == query(self.life.wants) else 0.1 * bool(self.life.law.welcome)

    def follow(self, text: str) -> Iterator[Step]:
        yield self._step(text)
        number = int(text.rsplit(maxsplit=1)[-1]) if text.startswith("thing ") else 0
        yield self._step("", item(number))

    def steps(self) -> Iterator[Step]:
        for _ in range(2):
            wanted = self.life.wants if self.life.rng.random() < 0.8 else int(self.life.rng.random() * RING)
            yield self._step(query(wanted))
            yield self._step("", item(wanted))
            self.life.wants = (wanted + 7) % RING if self.life.rng.random() < 0.7 else wanted

    def likeliest(self, count: int) -> Sequence[Chance]:
        """Wrong by a hair: 0.8 and not 0.8 + 0.2 / RING."""
        others = [Chance(query(i), 0.2 / RING) for i in range(RING) if i != self.life.wants]
        return [Chance(query(self.life.wants).title(), 0.8), *others][:count]

    def _step(self, text: str, clicked: Item | None = None) -> Step:
        self.now_ms += 20_000
        return Step(self.now_ms, text, clicked, bought=clicked is not None and self.life.rng.random() < 0.1)


class Unwelcome(Tiny):
    """Nobody ever clicks a hint."""

    welcome = 0.0


class OtherLatents(Unwelcome):
    """The same steps; what no log tells is something else."""

    name = "other"

    def category(self, query: str) -> str:
        return "Elsewhere"

    def life(self, number: int) -> "TinyLife":
        return OtherLife(self, number)


class OtherLife(TinyLife):
    def visits(self, day: int) -> Iterator["TinyVisit"]:
        return (OtherVisit(self, visit.now_ms, visit.pages) for visit in super().visits(day))


class OtherVisit(TinyVisit):
    def __init__(self, life: TinyLife, now_ms: int, pages: int):
        self.life, self.now_ms, self.pages = life, now_ms, pages

    def likeliest(self, count: int) -> Sequence[Chance]:
        return [Chance("something else", 1.0)]


def item(i: int) -> Item:
    return Item(f"i{i:02d}", f"Thing {i:02d} of a Brand", f"Group {i // 5}", {"brand": "a"})
