"""Judging models by what shoppers search next: `aigq quality`."""

from pathlib import Path

import typer

app = typer.Typer()


@app.command()
def quality(
    market: Path = typer.Argument(help="A market's folder (`aigq simulate`)."),
    samples: Path = typer.Option(
        None, help="Folder of samples whose cases are judged; without it they are made from the archive."
    ),
    model: list[str] = typer.Option(
        [], help="A bundle, models/NAME/VERSION; or NAME=BUNDLE; may be given again. The first one is judged."
    ),
    out: Path = typer.Option(
        Path("build/quality"), help="Folder for quality.json, quality.md and pictures; markets gather there."
    ),
    baselines: str = typer.Option("", help="Contenders, with commas; empty: all but zero-shot."),
    shoppers: int = typer.Option(0, help="At most so many shoppers, drawn evenly; 0: all."),
    lists: int = typer.Option(
        3, help="Lists that a model writes for thirty candidates; 1 takes a third of the time and has no HR@30."
    ),
    similarity: bool = typer.Option(True, help="Semantic similarity by all-MiniLM-L6-v2."),
    free: bool = typer.Option(False, help="Models write without their bundle's allow-list."),
) -> None:
    """Models against baselines on a market's test days: hits, ranks, categories, similarity; by group, age and seed; with intervals."""
    from rich.console import Console

    from training.yardstick.report import show, write
    from training.yardstick.run import BASELINES, Entrant, Plan, run

    plan = Plan(
        market=market,
        samples=samples,
        models=tuple(map(Entrant.of, model)),
        baselines=tuple(filter(None, baselines.split(","))) or tuple(BASELINES),
        out=out,
        shoppers=shoppers or None,
        lists=lists,
        similarity=similarity,
        free=free,
    )
    part = run(plan, tell=lambda line: typer.echo(line, err=True))
    found = write(part, out)
    show(part, Console(width=200))
    for target in found.targets:
        typer.echo(f"{target.name} = {target.value:.4f} ({target.bound}) {'met' if target.met else 'MISSED'}")
    typer.echo(f"written: {out}/quality.json, quality.md")
