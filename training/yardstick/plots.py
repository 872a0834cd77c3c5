"""Pictures of a market's figures: contenders with their intervals, groups, and hits against age. Small SVG, the same bytes for the same rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.yardstick.bootstrap import Estimate
from training.yardstick.measure import CEILING
from training.yardstick.metrics import PRIMARY
from training.yardstick.results import Row

GROUPS = {"warm": "s", "tail": "^", "cold": "v", "one category": "s", "all categories": "^"}
"""Marker of each; the last two are a real log's."""
GREY, BLUE = "#8a8f98", "#2864b4"


def draw(rows: Sequence[Row], out: Path, name: str) -> list[str]:
    """Writes the pictures into `out`; returns their names."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    stem = "-".join(filter(None, "".join(c if c.isalnum() else "-" for c in name.lower()).split("-")))
    drawn = []
    with plt.rc_context({"svg.hashsalt": "aigq", "svg.fonttype": "none", "font.size": 8}):
        for kind, picture in (("hits", _hits), ("ages", _ages)):
            if (figure := picture(plt, rows)) is not None:
                file = f"{stem}-{kind}.svg"
                figure.savefig(out / file, format="svg", metadata={"Date": None}, bbox_inches="tight")
                plt.close(figure)
                drawn.append(file)
    return drawn


def _hits(plt: Any, rows: Sequence[Row]) -> Any:
    """Left: every contender's HR@10 with its interval. Right: by group."""
    of = {(row.split, row.model): row.estimate for row in rows if row.metric == PRIMARY}
    models = sorted((model for split, model in of if split == "all"), key=lambda model: of["all", model].value)
    if not models:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 0.6 + 0.24 * len(models)), sharey=True)
    for place, model in enumerate(models):
        _dot(left, of["all", model], place, GREY if model == CEILING else BLUE, "o")
        for group, marker in GROUPS.items():
            if (group, model) in of:
                right.plot(of[group, model].value, place, marker, color=BLUE, ms=4, label=group if not place else None)
    left.set_yticks(range(len(models)), models)
    left.set_xlabel(f"{PRIMARY}, 95 % interval")
    right.set_xlabel(f"{PRIMARY} by group")
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False)
    for axes in (left, right):
        axes.set_xlim(left=0)
        axes.grid(axis="x", lw=0.4)
    return figure


def _ages(plt: Any, rows: Sequence[Row]) -> Any:
    start = f"{PRIMARY} at age "
    found: dict[str, list[tuple[int, Estimate]]] = {}
    for row in rows:
        if row.split == "all" and row.metric.startswith(start):
            found.setdefault(row.model, []).append((int(row.metric.removeprefix(start).split()[0]), row.estimate))
    if not found:
        return None
    figure, axes = plt.subplots(figsize=(4.5, 2.6))
    for place, (model, points) in enumerate(found.items()):
        points.sort()
        bars = [[e.value - e.low for _, e in points], [e.high - e.value for _, e in points]]
        beside = [age + place * 0.2 for age, _ in points]  # or one interval hides the other
        axes.errorbar(beside, [e.value for _, e in points], bars, marker="o", ms=3, lw=1, label=model)
    axes.set_xlabel("days since the statistics ended")
    axes.set_ylabel(PRIMARY)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _dot(axes: Any, estimate: Estimate, place: int, colour: str, marker: str) -> None:
    axes.plot([estimate.low, estimate.high], [place, place], color=colour, lw=1)
    axes.plot(estimate.value, place, marker, color=colour, ms=4)
