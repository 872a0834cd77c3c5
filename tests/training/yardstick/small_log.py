"""A search log made up in the form of a real one: an extract of one category, a few shoppers of all, campaign codes, things that follow from others."""

import csv
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

START = datetime(2011, 8, 11, tzinfo=UTC)
CODE = "20110801_GOW3"
FOLLOWS = {f"game {n}": f"guide {n}" for n in range(12)}
"""What a shopper searches who comes back the day after."""
COLUMNS = ("user", "sku", "category", "query", "click_time", "query_time")


def rows(days: int = 16, a_day: int = 30, seed: int = 1) -> list[tuple[str, ...]]:
    """By time. Each day has new shoppers; a third of them come back the next day and search what follows."""
    rng = Random(seed)
    made: list[tuple[datetime, tuple[str, ...]]] = []
    for day in range(days):
        for n in range(a_day):
            user, game = f"u{day}x{n}", rng.randrange(len(FOLLOWS))
            category = "c2" if n == 0 else "c1"
            made.append(_row(user, day, rng, f"Game {game}", f"s{game}", category))
            if n % 3 == 0:
                made.append(_row(user, day + 1, rng, f"guide  {game}", f"g{game}", "c1"))
        made.append(_row(f"linked{day}", day, rng, CODE, "s1", "c1"))
    return [row for at, row in sorted(made) if at < START + timedelta(days=days)]


def write(folder: Path, made: list[tuple[str, ...]] | None = None) -> Path:
    """The three files; returns that of the searches."""
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "searches.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows() if made is None else made)
    titles = [("s" + str(n), f"Game {n} for the box") for n in range(12)] + [("g" + str(n), f"Guide {n}") for n in range(12)]  # fmt: skip
    lines = "sku,title\n" + "".join(f"{sku},{title}\n" for sku, title in titles)
    (folder / "products.csv.gz").write_bytes(gzip.compress(lines.encode()))
    names = [{"id": "c1", "name": "Games"}, {"id": "c2", "name": "Phones"}]
    (folder / "categories.json.gz").write_bytes(gzip.compress(json.dumps(names).encode()))
    return folder / "searches.csv.gz"


def _row(user: str, day: int, rng: Random, query: str, sku: str, category: str) -> tuple[datetime, tuple[str, ...]]:
    at = START + timedelta(days=day, milliseconds=rng.randrange(80_000_000))
    return at, (user, sku, category, query, _text(at + timedelta(seconds=40)), _text(at))


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
