"""A market on disk: an archive that everything that reads logs can read, what is sold, what was bought, and the truth for judges.

    FOLDER/market.json                  how it was made, and counts; written last: a folder without it is unfinished
    FOLDER/archive/{events,exposures}   the archive's layout, one partition, log clock ingest_ms
    FOLDER/items.parquet                id, title, category, attributes
    FOLDER/purchases.parquet            user, time_ms, item_id
    FOLDER/truth/ceiling.parquet        exposure_id, user, time_ms, queries, probabilities: the law's own best, for pages of the last two days
    FOLDER/truth/appeal.parquet         exposure_id, hint, place, appeal, probability (of a click, true)
    FOLDER/truth/categories.parquet     query (normalised), category

Nothing that trains a model reads truth/.
"""

import os
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import msgspec

from simulation.law import DAY_MS, Law

START_MS = 1_764_547_200_000
"""2025-12-01T00:00Z, a Monday."""
EVENTS_TOPIC, EXPOSURES_TOPIC = "behaviour", "exposures"
LAWS = {"missions": "simulation.missions:Missions", "habits": "simulation.habits:Habits"}
"""Name -> module:class. Each is made from (seed, drift, start_ms)."""
BEING_WRITTEN = ".writing"


class Counts(msgspec.Struct, frozen=True):
    searches: int = 0
    searches_by_themselves: int = 0
    """Not begun by a clicked hint."""
    clicks: int = 0
    purchases: int = 0
    exposures: int = 0
    clicked_exposures: int = 0
    shoppers: int = 0
    """Who did anything."""
    distinct_queries: int = 0
    """Normalised."""


class MarketFacts(msgspec.Struct, frozen=True):
    """How a market was made."""

    law: str
    seed: int
    drift: float
    shoppers: int
    days: int
    start_ms: int
    null: bool
    """Contents were reassigned at random within each day."""
    counts: Counts = Counts()
    revision: str = ""
    """Of the code, as git names it; empty where it is not in a git repository."""

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.days * DAY_MS


def archive_of(folder: str | Path) -> str:
    """The archive's root, for --archive and everything that reads one."""
    return str(Path(folder) / "archive")


def truth_of(folder: str | Path, name: str) -> Path:
    """ceiling, appeal or categories. For judges."""
    return Path(folder) / "truth" / f"{name}.parquet"


def read_market(folder: str | Path) -> MarketFacts:
    """Raises ValueError for a folder that is no market, or an unfinished one."""
    path = Path(folder) / "market.json"
    if not path.exists():
        raise ValueError(
            f"{folder} has no market.json: no market, or one that was never finished. `aigq simulate` makes one"
        )
    return msgspec.json.decode(path.read_bytes(), type=MarketFacts)


def begin_market(folder: Path) -> Path:
    """The folder to write into, beside `folder`. What an interrupted run left there goes. Raises ValueError where `folder` is there."""
    if folder.exists():
        raise ValueError(f"{folder} is there already; a market is never overwritten: delete it, or take another --out")
    writing = folder.with_name(folder.name + BEING_WRITTEN)
    shutil.rmtree(writing, ignore_errors=True)
    (writing / "truth").mkdir(parents=True)
    return writing


def finish_market(writing: Path, folder: Path, facts: MarketFacts) -> None:
    (writing / "market.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
    os.rename(writing, folder)


def law_of(path: str, seed: int, drift: float, start_ms: int) -> Law:
    """path: a name of LAWS, or module:class. Raises ValueError for another."""
    module, _, name = LAWS.get(path, path).partition(":")
    if not name:
        raise ValueError(f"no law {path!r}; there are {', '.join(LAWS)}")
    return getattr(import_module(module), name)(seed, drift, start_ms)


def git_revision() -> str:
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
