"""Judging models on a real log: `aigq quality-log`. docs/real-log.md."""

from pathlib import Path

import typer

app = typer.Typer()


@app.command()
def quality_log(
    log: Path = typer.Argument(help="Folder that `aigq import-log --out` made; or the csv(.gz) itself."),
    products: Path | None = typer.Option(None, help="For a csv: sku, title; else products.csv(.gz) beside it."),
    categories: Path | None = typer.Option(None, help="For a csv: id, name; else categories.json(.gz) beside it."),
    model: list[str] = typer.Option(
        [], help="A bundle, or NAME=BUNDLE, trained on the first --learn-days alone; may be given again. The first one is judged."
    ),
    baselines: str = typer.Option("", help="Contenders, with commas; empty: all."),
    out: Path = typer.Option(Path("build/quality"), help="Folder for real-log.*, and for quality.* with other parts."),
    learn_days: int = typer.Option(25, help="Days before the first judged one."),
    lists: int = typer.Option(3, help="Lists that a model writes for thirty candidates."),
    likeliest: bool = typer.Option(
        False, "--likeliest", help="Not lists as served: the thirty likeliest queries of the bundle's allow-list."
    ),
    free: bool = typer.Option(False, help="Models write without their bundle's allow-list."),
) -> None:  # fmt: skip
    """Models and baselines on a real log, day by day: statistics rebuilt daily, models frozen; with intervals."""
    import tempfile

    import training  # noqa: F401  (before torch: see its docstring)
    from training.yardstick.prequential import BASELINES
    from training.yardstick.quality_log import Plan, run
    from training.yardstick.real_log import import_file, read_log_folder, write_log_folder
    from training.yardstick.real_log_page import write_page
    from training.yardstick.report import write
    from training.yardstick.run import Entrant

    if log.is_dir():
        real = read_log_folder(log)
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_log_folder(import_file(log, products, categories), Path(folder) / "log", "real log")
            real = read_log_folder(Path(folder) / "log")
    plan = Plan(
        log=real,
        models=tuple(map(Entrant.of, model)),
        baselines=tuple(filter(None, baselines.split(","))) or BASELINES,
        out=out,
        learn_days=learn_days,
        lists=lists,
        free=free,
        likeliest=likeliest,
    )
    result, ten = run(plan, tell=lambda line: typer.echo(line, err=True))
    found = write(result.part, out)
    write_page(result, ten, out)
    for target in found.targets:
        typer.echo(f"{target.name} = {target.value:.4f} ({target.bound}) {'met' if target.met else 'MISSED'}")
    typer.echo(f"written: {out}/real-log.md, real-log.json, quality.json, quality.md; with words of the log: words.md")
