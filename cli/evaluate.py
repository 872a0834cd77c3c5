"""Judging models by what shoppers search next: `aigq evaluate`, on a simulated market (docs/yardstick.md) or a real log (docs/real-log.md)."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from training.yardstick.quality_log import Plan as LogPlan
    from training.yardstick.real_log import RealLog
    from training.yardstick.results import Target
    from training.yardstick.run import Plan as MarketPlan

app = typer.Typer()


@app.command()
def evaluate(
    market: Path = typer.Argument(None, help="A market's folder (`aigq simulate`); or give --log."),
    log: Path = typer.Option(None, help="A real log: a csv(.gz), or the folder that `aigq import-log --out` made of it."),
    model: list[str] = typer.Option(
        [], help="A bundle, models/NAME/VERSION; or NAME=BUNDLE; may be given again. The first one is judged. On a log: trained on the first --learn-days alone."
    ),
    baselines: str = typer.Option("", help="Contenders, with commas; empty: all but zero-shot."),
    out: Path = typer.Option(
        Path("build/quality"), help="Folder for quality.json, quality.md and pictures; markets gather there."
    ),
    lists: int = typer.Option(
        3, help="Lists that a model writes for thirty candidates; 1 takes a third of the time and has no HR@30."
    ),
    free: bool = typer.Option(False, help="Models write without their bundle's allow-list."),
    samples: Path = typer.Option(
        None, help="Market: folder of samples whose cases are judged; without it they are made from the archive."
    ),
    shoppers: int = typer.Option(0, help="Market: at most so many shoppers, drawn evenly; 0: all."),
    similarity: bool = typer.Option(True, help="Market: semantic similarity by all-MiniLM-L6-v2."),
    record: bool = typer.Option(False, "--record", help="Market: writes the judged model's figures onto its card."),
    products: Path = typer.Option(None, help="Log, csv: sku, title; else products.csv(.gz) beside it."),
    categories: Path = typer.Option(None, help="Log, csv: id, name; else categories.json(.gz) beside it."),
    learn_days: int = typer.Option(25, help="Log: days before the first judged one."),
    likeliest: bool = typer.Option(
        False, "--likeliest", help="Log: not lists as served, but the thirty likeliest queries of the bundle's allow-list."
    ),
) -> None:  # fmt: skip
    """Models against baselines: hits, ranks, categories, similarity; by group, age and seed; with intervals.

    A market is judged on its test days. A log is judged day by day, with statistics rebuilt daily and models frozen.
    """
    if (market is None) == (log is None):
        typer.echo("give the folder of a market, or --log FILE, one of them", err=True)
        raise typer.Exit(2)
    import training  # noqa: F401  (before torch: see its docstring)
    from training.yardstick import quality_log, run
    from training.yardstick.prequential import BASELINES

    models = tuple(map(run.Entrant.of, model))
    names = tuple(filter(None, baselines.split(",")))
    if log is None:
        _on_market(
            run.Plan(
                market=market,
                samples=samples,
                models=models,
                baselines=names or tuple(run.BASELINES),
                out=out,
                shoppers=shoppers or None,
                lists=lists,
                similarity=similarity,
                free=free,
            ),
            record,
        )
    else:
        _on_log(
            quality_log.Plan(
                log=_read(log, products, categories),
                models=models,
                baselines=names or BASELINES,
                out=out,
                learn_days=learn_days,
                lists=lists,
                free=free,
                likeliest=likeliest,
            )
        )


def _on_market(plan: "MarketPlan", recorded: bool) -> None:
    from rich.console import Console

    from training.yardstick.record import record
    from training.yardstick.report import show, write
    from training.yardstick.run import run

    part = run(plan, tell=lambda line: typer.echo(line, err=True))
    found = write(part, plan.out)
    if recorded and plan.models:
        record(plan.models[0].bundle, part)
    show(part, Console(width=200))
    _tell(found.targets, f"{plan.out}/quality.json, quality.md")


def _on_log(plan: "LogPlan") -> None:
    from training.yardstick.quality_log import run
    from training.yardstick.real_log_page import write_page
    from training.yardstick.report import write

    result, ten = run(plan, tell=lambda line: typer.echo(line, err=True))
    found = write(result.part, plan.out)
    write_page(result, ten, plan.out)
    pages = f"{plan.out}/real-log.md, real-log.json, quality.json, quality.md; with words of the log: words.md"
    _tell(found.targets, pages)


def _read(log: Path, products: Path | None, categories: Path | None) -> "RealLog":
    from training.yardstick.real_log import import_file, read_log_folder, write_log_folder

    if log.is_dir():
        return read_log_folder(log)
    with tempfile.TemporaryDirectory() as folder:
        write_log_folder(import_file(log, products, categories), Path(folder) / "log", "real log")
        return read_log_folder(Path(folder) / "log")


def _tell(targets: "Iterable[Target]", written: str) -> None:
    for target in targets:
        typer.echo(f"{target.name} = {target.value:.4f} ({target.bound}) {'met' if target.met else 'MISSED'}")
    typer.echo(f"written: {written}")
