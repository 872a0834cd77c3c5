"""`aigq calibration`: markets beside a real log, as a table, as JSON and as plots."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from rich.table import Table

from inference.output import normalise
from schemas.search_log import import_log, is_campaign_code
from simulation.calibration import RANKS, TEST_DAYS, Figures, ObservedLog, Search, figures_of
from simulation.market_folder import archive_of, read_market, truth_of
from simulation.play import HINT, normal
from transforms.archive_layout import EVENTS, EXPOSURES, files_of

REAL_LOG_VARIABLE, REAL_LOG_DEFAULT = "AIGQ_REAL_LOG", Path("../shared/data/bestbuy")
REAL_FILES = ("search_clicks.csv.gz", "products.csv.gz", "categories.json.gz")


def calibrate(markets: Sequence[Path], real_log: Path | None) -> list[Figures]:
    """The real log first, where there is one. Raises ValueError for what is no finished market, or too short."""
    logs = [] if real_log is None else [figures_of(observed_real_log(real_log))]
    return logs + [figures_of(observed_market(folder)) for folder in markets]


def find_real_log() -> Path | None:
    """The folder that AIGQ_REAL_LOG names; else the default's, or None where that is not there."""
    if told := os.environ.get(REAL_LOG_VARIABLE):
        return Path(told)
    return REAL_LOG_DEFAULT if all((REAL_LOG_DEFAULT / name).exists() for name in REAL_FILES) else None


def observed_market(folder: Path) -> ObservedLog:
    facts = read_market(folder)
    searches: list[Search] = []
    times: dict[str, list[int]] = defaultdict(list)
    for file in files_of(archive_of(folder), EVENTS):
        table = pq.ParquetFile(file.path).read(columns=["id", "user", "kind", "time_ms", "query"])
        for id, user, kind, time_ms, query in zip(*(column.to_pylist() for column in table.columns), strict=True):
            times[user].append(time_ms)
            if kind == "search" and not id.endswith(HINT):
                searches.append(Search(user, time_ms, normal(query)))
    pages = clicked = 0
    for file in files_of(archive_of(folder), EXPOSURES):
        places = pq.ParquetFile(file.path).read(columns=["clicked"])["clicked"].to_pylist()
        pages += len(places)
        clicked += sum(bool(each) for each in places)
    likeliest = pq.read_table(truth_of(folder, "ceiling"), columns=["probabilities"])["probabilities"].to_pylist()
    ceiling = sum(sum(sorted(each, reverse=True)[:10]) for each in likeliest) / len(likeliest) if likeliest else None
    name = f"{facts.law} {facts.seed}" + (f", drift {facts.drift:g}" if facts.drift != 1 else "")
    return ObservedLog(name + (", null" if facts.null else ""), searches, dict(times), pages, clicked, ceiling)


def observed_real_log(folder: Path) -> ObservedLog:
    searches: list[Search] = []
    times: dict[str, list[int]] = defaultdict(list)
    searches_file, products, categories = (folder / name for name in REAL_FILES)
    for event in import_log(searches_file, products, categories).events:
        if is_campaign_code(event.query):
            continue
        times[event.user].append(event.time_ms)
        if event.kind == "search" and (query := normalise(event.query)):
            searches.append(Search(event.user, event.time_ms, query))
    return ObservedLog("real log", searches, dict(times))


def table_of(figures: Sequence[Figures]) -> Table:
    table = Table("", *(each.name for each in figures))
    for title, name, shown in ROWS:
        table.add_row(title, *(_cell(getattr(each, name), shown) for each in figures))
    return table


def markdown_of(figures: Sequence[Figures]) -> str:
    lines = ["| | " + " | ".join(each.name for each in figures) + " |", "|---" * (len(figures) + 1) + "|"]
    for title, name, shown in ROWS:
        lines.append(f"| {title} | " + " | ".join(_cell(getattr(each, name), shown) for each in figures) + " |")
    return "\n".join(lines) + "\n"


def json_of(figures: Sequence[Figures]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(list(figures)))


def plot(figures: Sequence[Figures], folder: Path) -> list[Path]:
    """market-decay.svg and market-head.svg. The same figures give the same bytes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "aigq"
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    decay, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for number, each in enumerate(figures):
        weeks = range(1, len(each.daily_by_week) + 1)
        axes.plot(weeks, each.daily_by_week, "-o", color=f"C{number}", label=f"{each.name}, rebuilt daily")
        axes.plot(weeks, each.frozen_by_week, "--o", color=f"C{number}", label=f"{each.name}, frozen", mfc="white")
    axes.set(xlabel="week after the freeze", ylabel="HR@10 of popularity", xticks=range(1, 4), ylim=(0, None))
    decay.legend(loc="outside right upper", fontsize=7)
    head, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for each in figures:
        ranks = [rank for rank in RANKS if rank <= each.distinct_queries]
        axes.plot(ranks, each.by_rank[: len(ranks)], "-o", ms=3, label=each.name)
    axes.set(xscale="log", xlabel="most frequent queries", ylabel="share of searches", ylim=(0, 1))
    head.legend(loc="outside right upper", fontsize=7)
    paths = [folder / "market-decay.svg", folder / "market-head.svg"]
    for figure, path in zip((decay, head), paths, strict=True):
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
    return paths


ROWS = (
    ("shoppers", "shoppers", "{:,}"),
    ("days", "days", "{:.0f}"),
    ("searches by themselves", "searches", "{:,}"),
    ("distinct queries", "distinct_queries", "{:,}"),
    ("events a visit", "events_a_visit", "{:.1f}"),
    ("visits a shopper", "visits_a_shopper", "{:.1f}"),
    ("shoppers with two or more searches", "searched_twice", "{:.0%}"),
    (f"test: searches of the last {TEST_DAYS} days", "test_searches", "{:,}"),
    ("... among the 30 most popular of 7 days before", "top30", "{:.3f}"),
    ("... that somebody searched before that day", "seen", "{:.3f}"),
    ("test searches with an own earlier one", "with_history", "{:,}"),
    ("... that repeat an own earlier query", "own_repeats", "{:.3f}"),
    ("... that repeat or reword the last one", "last_repeats", "{:.3f}"),
    ("HR@10 of popularity, rebuilt daily", "popularity_hr10", "{:.3f}"),
    ("HR@10 of own repeats, then popularity", "with_repeats_hr10", "{:.3f}"),
    ("HR@10 of popularity, frozen", "frozen_hr10", "{:.3f}"),
    ("... by week, frozen", "frozen_by_week", "{:.3f}"),
    ("... by week, rebuilt daily", "daily_by_week", "{:.3f}"),
    ("home pages", "pages", "{:,}"),
    ("... with a clicked hint", "clicked_pages", "{:,}"),
    ("... share", "page_click_rate", "{:.3f}"),
    ("HR@10 of the law itself, last two days", "ceiling_hr10", "{:.3f}"),
)
"""(title, field of Figures, format)"""


def _cell(value: object, shown: str) -> str:
    if isinstance(value, tuple):
        return ", ".join(shown.format(each) for each in value)
    return "-" if value is None else shown.format(value)
