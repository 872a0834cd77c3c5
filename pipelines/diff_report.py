"""A comparison of two namespaces as a screen, and as JSON."""

import json
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.diff import Diff, Side
from pipelines.diff_reasons import MEANINGS

SHOWN_QUERIES = 4
ENOUGH_LISTS = 0.99
"""Share of its lists that must be had for a side's tokens to be compared: a list that is overtaken in the moment of its publication
may be missing in the results topic (docs/store.md)."""


def as_json(found: Diff) -> str:
    """One object: sums, and every shopper whose list is another one."""
    sums = {
        "from_ms": found.window.from_ms,
        "to_ms": found.window.to_ms,
        "here": asdict(found.here),
        "there": asdict(found.there),
        "shoppers": len(found.shoppers),
        "why": found.whys,
        "overlap_at_10": round(found.overlap, 4),
        "differ": [asdict(each) for each in found.shoppers if each.why != "same list"],
    }
    return json.dumps(sums)


def screen(found: Diff, most: int) -> RenderableType:
    """Sums first, then the reasons, then the shoppers that differ most."""
    return Group(
        Text(f"{found.window}"),
        _sums(found.here, found.there),
        *(Text(note) for side in (found.here, found.there) for note in _notes(side)),
        Text(
            f"{len(found.shoppers):,} shoppers; overlap@10 {found.overlap:.2f} over the {len(found.both):,} who have a list on "
            "both sides"
        ),
        *_reasons(found),
        *_shoppers(found, most),
    )


def _sums(here: Side, there: Side) -> Table:
    sums = Table("in the window", here.namespace, there.namespace, "difference")
    comparable = all(side.lists >= ENOUGH_LISTS * side.generations for side in (here, there))
    _row(sums, "changes came due", here.changes, there.changes)
    for ended in dict.fromkeys(["published", *here.ended, *there.ended]):
        _row(sums, f"  {ended}", here.ended.get(ended, 0), there.ended.get(ended, 0))
    _row(sums, "prompt tokens", here.prompt_tokens, there.prompt_tokens, comparable)
    _row(sums, "output tokens", here.output_tokens, there.output_tokens, comparable)
    sums.add_row("late records, ever", _by_partition(here.late_records), _by_partition(there.late_records), "")
    return sums


def _row(sums: Table, name: str, left: int, right: int, comparable: bool = True) -> None:
    change = f"{right - left:+,}" + (f" ({right / left - 1:+.0%})" if left else "")
    sums.add_row(name, f"{left:,}", f"{right:,}", change if comparable else "not comparable")


def _by_partition(counts: dict[int, int]) -> str:
    """The sum, and where they are."""
    where = ", ".join(f"partition {partition}: {count:,}" for partition, count in counts.items())
    return f"{sum(counts.values()):,}" + (f" ({where})" if where else "")


def _notes(side: Side) -> list[str]:
    """What the sums of one side do not hold."""
    notes, name = [], side.namespace
    if (conflated := side.ended.get("conflated", 0)) and side.lists:
        each = [tokens / side.lists * conflated for tokens in (side.prompt_tokens, side.output_tokens)]
        notes.append(
            f"{name}: conflated changes cost no tokens. A job that keeps up makes lists of them: up to {each[0]:+,.0f} prompt and "
            f"{each[1]:+,.0f} output tokens"
        )
    if failed := side.ended.get("malformed", 0) + side.ended.get("exhausted", 0):
        notes.append(f"{name}: {failed:,} generations became no list; what they cost is not in the tokens")
    if side.lists < side.generations:
        notes.append(
            f"{name}: the tokens are of {side.lists:,} of its {side.generations:,} lists, the others are not kept. The results topic "
            f"or its archive has all lists of the first namespace: --bootstrap, --archive"
        )
    if not side.whole:
        notes.append(
            f"{name}: some changes ended too long ago for the store to know how (it keeps the newest ten thousand or so of a shard): "
            f"its changes, other than those published, are too few"
        )
    if side.by_operators:
        notes.append(f"{name}: {side.by_operators:,} lists that operators' commands asked for are left out")
    return notes


def _reasons(found: Diff) -> list[RenderableType]:
    if not found.shoppers:
        return []
    table = Table("why", "shoppers", "the newest list of the window")
    for why, count in found.whys.items():
        table.add_row(why, f"{count:,}", MEANINGS[why])
    return [table]


def _shoppers(found: Diff, most: int) -> list[RenderableType]:
    differing = sorted((each for each in found.shoppers if each.why != "same list"), key=lambda each: each.overlap)
    if not differing:
        return []
    table = Table(
        "shopper", "why", "overlap@10", "added", "lost", title=f"the {min(most, len(differing))} that differ most"
    )
    for each in differing[:most]:
        table.add_row(
            each.user,
            each.why,
            f"{each.overlap:.2f}",
            "; ".join(each.added[:SHOWN_QUERIES]),
            "; ".join(each.lost[:SHOWN_QUERIES]),
        )
    return [table]
