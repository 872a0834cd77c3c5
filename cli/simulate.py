"""Markets of simulated shoppers: `aigq simulate`, and how like real ones they are: `aigq calibration`. docs/simulation.md."""

from pathlib import Path

import typer

app = typer.Typer()


@app.command()
def simulate(
    out: Path = typer.Option(..., help="Folder to make. It is there whole or not at all."),
    law: str = typer.Option(
        "missions", help="missions or habits: two worlds, written apart; or module:class of your own."
    ),
    seed: int = typer.Option(1, help="Another seed, other shoppers. The same command gives the same bytes."),
    shoppers: int = typer.Option(20_000, help="Shopper n of a seed lives the same life however many others there are."),
    days: int = typer.Option(32, help="Length; the last two are for tests."),
    drift: float = typer.Option(1.0, help="How fast the fashion changes; 0: not at all."),
    null: bool = typer.Option(
        False, "--null", help="Contents are dealt out anew within each day: nothing to learn but popularity."
    ),
    workers: int = typer.Option(2, help="Processes that play shoppers; changes the time it takes and nothing else."),
) -> None:
    """Plays shoppers with a home page, hints and a ranker of earlier logs; writes an archive, and the truth for judges."""
    from simulation.market_folder import START_MS, MarketFacts
    from simulation.write_market import Progress, write_market

    def tell(at: Progress) -> None:
        typer.echo(
            f"day {at.day} of {at.days}: {at.events:,} events, {at.exposures:,} pages, {at.clicked:,} with a click; "
            f"{at.seconds:.0f} s, {at.seconds_left:.0f} s left",
            err=True,
        )

    facts = MarketFacts(law, seed, drift, shoppers, days, START_MS, null)
    counts = write_market(facts, out, workers, tell).counts
    typer.echo(
        f"{out}: {counts.shoppers:,} shoppers, {counts.searches:,} searches ({counts.distinct_queries:,} distinct), {counts.clicks:,} clicks, "
        f"{counts.exposures:,} pages, a hint clicked on {counts.clicked_exposures:,}"
    )


@app.command()
def calibration(
    markets: list[Path] = typer.Argument(help="Folders that `aigq simulate` made."),
    log: Path | None = typer.Option(
        None,
        help="Folder of a real log: search_clicks.csv.gz, products.csv.gz, categories.json.gz. Else AIGQ_REAL_LOG.",
    ),
    as_json: bool = typer.Option(False, "--json", help="As JSON: docs/results/calibration.json."),
    as_markdown: bool = typer.Option(False, "--markdown", help="As the table of docs/simulation.md."),
    plots: Path | None = typer.Option(None, help="Folder for market-decay.svg and market-head.svg."),
) -> None:
    """How like a real log simulated markets are: both columns computed in the same way. docs/simulation.md says what each means."""
    from rich.console import Console

    from simulation.calibration_report import calibrate, find_real_log, json_of, markdown_of, plot, table_of

    figures = calibrate(markets, log or find_real_log())
    if as_json:
        typer.echo(json_of(figures).decode())
    elif as_markdown:
        typer.echo(markdown_of(figures))
    else:
        Console().print(table_of(figures))
    for path in plot(figures, plots) if plots else ():
        typer.echo(f"wrote {path}", err=True)
