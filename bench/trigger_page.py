"""Table and plot of docs/trigger-policy.md from bench/results/trigger.json: `python -m bench.trigger_page`."""

import json
from pathlib import Path
from typing import Any

from bench.report import END
from bench.result import RESULTS, ROOT

RESULT = RESULTS / "trigger.json"
PAGE = ROOT / "docs" / "trigger-policy.md"
PLOT = ROOT / "docs" / "plots" / "trigger.svg"
BEGIN = "<!-- table: python -m bench.trigger_page -->"
PICTURE = "![Hits kept against lists, both laws, at searches and at home pages](plots/trigger.svg)"
LOOKS = {"searches": "at each search", "pages": "at each home page"}
COLOURS = ("tab:blue", "tab:orange")
MARKED = {"every event": "s", "every session": "v", "the job's default": "D"}


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(), measured(RESULT)))
    if RESULT.exists():
        plot(json.loads(RESULT.read_text())["figures"]["markets"], PLOT)


def measured(result: Path) -> str:
    """What stands between the page's marks."""
    if not result.exists():
        return "Not measured yet."
    read = json.loads(result.read_text())
    table_and_plot = [table(read["figures"]["markets"]), PICTURE]
    misses = [f"`{t['name']}` is {t['value']:g} ({t['bound']}): {t['cause']}." for t in read["targets"] if not t["met"]]
    return "\n\n".join([*misses, *table_and_plot])


def with_table(page: str, rows: str) -> str:
    """The page with the rows between its two marks. Raises ValueError where a mark is missing."""
    before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
    return f"{page[:before]}\n{rows}\n{page[after:]}"


def table(markets: list[dict[str, Any]]) -> str:
    heads = [f"{m['law']}: {head}" for m in markets for head in ("lists", "hits kept", "hits kept, home pages")]
    lines = [f"| policy | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for number, row in enumerate(markets[0]["rows"]["searches"]):
        cells = [row["name"]]
        for market in markets:
            at_search, at_page = (market["rows"][look][number] for look in LOOKS)
            cells += [f"{at_search['lists_share'][0]:.3f}", _kept(at_search), _kept(at_page)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _kept(row: dict[str, Any]) -> str:
    value, low, high = row["hits_kept"]
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def plot(markets: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "trigger"  # the same figures give the same file
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(10, 4.5), sharex=True, sharey=True)
    for axes, (look, title) in zip(both, LOOKS.items(), strict=True):
        for market, colour in zip(markets, COLOURS, strict=True):
            for row in market["rows"][look]:
                kept = row["hits_kept"]
                axes.errorbar(
                    row["lists_share"][0],
                    kept[0],
                    yerr=[[kept[0] - kept[1]], [kept[2] - kept[0]]],
                    fmt=MARKED.get(row["name"], "o"),
                    color=colour,
                    markersize=7 if row["name"] in MARKED else 3,
                    elinewidth=0.5,
                    label=f"{market['law']}: {row['name']}" if row["name"] in MARKED else None,
                )
        axes.axvline(0.25, color="grey", linestyle=":")
        axes.axhline(0.95, color="grey", linestyle=":")
        axes.set_title(title)
        axes.set_xlabel("lists, share of a list an event")
        axes.grid(alpha=0.3)
    both[0].set_ylabel("hits kept, share of a list an event")
    both[0].legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
