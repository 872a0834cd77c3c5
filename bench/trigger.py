"""What the trigger policy saves and what it loses: lists against next-query hits, for every policy of a grid, on simulated markets of both laws.

Shoppers of a seed that no model was trained on live 36 days; the last six are counted. At each search by themselves the newest list
that lay ready (READY_MS after its as-of) is read: a hit if the search is among its ten queries. A list at every event spends the most
and hits the most; both targets are shares of that. Lists are written by a ranker of statistics (`user-bigrams`), fitted on the first
30 days, that reads the shopper's history as it was when the list was made: a language model at every event takes days.
The same at each home page, the moment at which the product's list is seen, is measured beside it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.result import ROOT, Target, write
from interest import TriggerPolicy
from pipelines.trigger_lives import DAY_MS, Trigger, lists_read, lives_of, make_lists, triggers
from pipelines.tune_trigger import Row, rows_of
from schemas.codec import decoder_for
from simulation.market_folder import START_MS, MarketFacts, archive_of, read_market
from simulation.write_market import write_market
from training.log_files import read_log
from training.rankers import contenders

LAWS = ("missions", "habits")
RANKER = "user-bigrams"
LEARNED_DAYS, COUNTED_DAYS = 30, 6
DRIFT = 1.0
"""Of the fashion; no policy's."""
PLACES = 10
DEFAULT = "the job's default"
SECOND_MS = 1_000


@dataclass(frozen=True)
class Measured:
    """One market."""

    law: str
    revision: str
    """Of the code that made the market."""
    shoppers: int
    events: int
    """Counted ones; so are looks."""
    ranker: str
    looks: dict[str, int]
    lists_read: dict[str, float]
    """Share of the lists of a list an event that any look reads before the next is there."""
    rows: dict[str, tuple[Row, ...]]
    """At `searches` and at `pages`. Shares are of a list an event."""
    to_default: dict[str, tuple[Row, ...]]
    """The same, shares of the default: whether another policy is better, paired."""


class Kept(NamedTuple):
    """The default at searches, where it is worst of both laws."""

    hits_kept: float
    lists_share: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="prove that it runs: few shoppers, no figures to quote")
    parser.add_argument("--seed", type=int, default=11, help="of the markets; 1 to 3 are for training and its judges")
    parser.add_argument("--shoppers", type=int, default=3_000)
    parser.add_argument(
        "--markets", type=Path, default=ROOT / "build" / "markets", help="folder for markets; one that is there is used"
    )
    options = parser.parse_args()
    shoppers = 60 if options.small else options.shoppers
    measured = [measure(market(options.markets, law, options.seed, shoppers), options.seed) for law in LAWS]
    figures = {"default": asdict(TriggerPolicy()), "markets": [asdict(each) for each in measured]}
    write("trigger", figures, targets(measured), options.seed, options.small)


def targets(measured: Sequence[Measured]) -> list[Target]:
    worst = kept(measured)
    read = max(each.lists_read["searches"] for each in measured)
    return [
        Target(
            "hits_kept",
            worst.hits_kept,
            ">= 0.95",
            "what follows within a visit depends on the newest query, and drift does not tell which queries matter",
        ),
        Target(
            "lists_share",
            worst.lists_share,
            "<= 0.25",
            f"searches are every second event: of a list an event, {read:.0%} are read by a search, and each may hit",
        ),
    ]


def kept(measured: Sequence[Measured]) -> Kept:
    rows = [row for each in measured for row in each.rows["searches"] if row.name == DEFAULT]
    return Kept(
        round(min(row.hits_kept.value for row in rows), 4), round(max(row.lists_share.value for row in rows), 4)
    )


def grid() -> list[Trigger]:
    """A list an event, a list a session, the default, and what is the default but for what its name says."""
    base = TriggerPolicy()
    changed = {
        **{f"drift {drift:g}": replace(base, drift=drift) for drift in (0.2, 0.3, 0.4, 0.5)},
        "click 0.2": replace(base, click_weight=0.2),
        "category 1": replace(base, category_share=1.0),
        "evidence 1.4": replace(base, evidence=1.4),
        "cooldown 120 s": replace(base, cooldown_ms=120 * SECOND_MS),
        "cooldown 600 s": replace(base, cooldown_ms=600 * SECOND_MS),
        "settle 60 s": replace(base, settle_ms=60 * SECOND_MS, max_wait_ms=300 * SECOND_MS),
    }
    return [*triggers(base, [], []), Trigger(DEFAULT, base), *(Trigger(*each) for each in changed.items())]


def market(folder: Path, law: str, seed: int, shoppers: int) -> Path:
    """The folder of the market, simulated if it is not there. Raises ValueError where another one is in its place."""
    facts = MarketFacts(law, seed, DRIFT, shoppers, LEARNED_DAYS + COUNTED_DAYS, START_MS, False)
    path = folder / f"{law}-{seed}-{shoppers}"
    if not path.exists():
        print(f"simulating {path}", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_market(facts, path, workers=1)
    found = read_market(path)
    if msgspec.structs.replace(found, counts=facts.counts, revision="") != facts:
        raise ValueError(f"{path} is another market: {found}; give another --markets folder, or take it away")
    return path


def measure(folder: Path, seed: int) -> Measured:
    """One market under every policy of the grid."""
    facts, archive, tried = read_market(folder), archive_of(folder), grid()
    from_ms = facts.start_ms + LEARNED_DAYS * DAY_MS
    (ranker,) = contenders([RANKER])
    ranker.fit(read_log(archive).before(from_ms))
    lives = lives_of(str(archive), decoder_for("auto"), tried, 1.0, from_ms)
    at = {"searches": [replace(life, looks=life.searches) for life in lives], "pages": lives}
    default = next(each for each in tried if each.name == DEFAULT)
    rows, to_default, read = {}, {}, {}
    for look, those in at.items():
        lists = make_lists(those, lambda cases: ranker.rank(cases, PLACES))
        rows[look] = tuple(rows_of(those, tried, lists, seed))
        to_default[look] = tuple(rows_of(those, [default, *tried], lists, seed)[1:])
        read[look] = round(lists_read(those, tried[0].name), 4)
        print(f"{facts.law}, {look}: {len(lists):,} lists read", file=sys.stderr, flush=True)
    return Measured(
        law=facts.law,
        revision=facts.revision,
        shoppers=len(lives),
        events=sum(life.events for life in lives),
        ranker=str(ranker),
        looks={look: sum(len(life.looks) for life in those) for look, those in at.items()},
        lists_read=read,
        rows=rows,
        to_default=to_default,
    )


if __name__ == "__main__":
    main()
