"""A comparison of two namespaces as a screen, and as JSON."""

import json
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.diff import Diff

SHOWN_QUERIES = 4


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
    """Sums first, then the shoppers that differ most."""
    here, there = found.here, found.there
    sums = Table("in the window", here.namespace, there.namespace, "difference")
    for name in ("generations", "prompt_tokens", "output_tokens"):
        left, right = getattr(here, name), getattr(there, name)
        change = f"{right - left:+,}" + (f" ({right / left - 1:+.0%})" if left else "")
        sums.add_row(name.replace("_", " "), f"{left:,}", f"{right:,}", change)
    whys = ", ".join(f"{why} {count:,}" for why, count in found.whys.items())
    said: list[RenderableType] = [
        Text(f"{found.window}"),
        sums,
        Text(
            f"{len(found.shoppers):,} shoppers: {whys or 'none'}; overlap@10 {found.overlap:.2f} over the {len(found.both):,} "
            f"who have a list on both sides"
        ),
    ]
    differing = sorted((each for each in found.shoppers if each.why != "same list"), key=lambda each: each.overlap)
    if differing:
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
        said.append(table)
    return Group(*said)
