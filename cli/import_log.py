"""A retailer's own search log: `aigq import-log`. docs/real-log.md."""

import json
from dataclasses import asdict
from pathlib import Path

import typer

app = typer.Typer()


@app.command()
def import_log(
    searches: Path = typer.Argument(
        metavar="FILE", help="csv or csv.gz: user, sku, category, query, click_time, query_time."
    ),
    products: Path | None = typer.Option(None, help="csv(.gz): sku, title; else products.csv(.gz) beside FILE."),
    categories: Path | None = typer.Option(
        None, help="json(.gz): categories with id and name; else categories.json(.gz) beside FILE."
    ),
    out: Path | None = typer.Option(None, help="Folder to make, for `aigq samples`, `pretrain` and `evaluate --log`."),
    name: str = typer.Option("real log", help="Of the log, in tables and on model cards."),
    bootstrap: str = typer.Option("", help="Or Kafka brokers: every row becomes events there, campaign codes too."),
    topic: str = typer.Option("behaviour", help="Topic to write to; it must exist."),
) -> None:
    """A retailer's search log as a folder to learn from and to judge by, or as events in Kafka with its own times
    (run the job with --log_clock=ingest_ms)."""
    from training.yardstick.real_log import import_file, write_log_folder

    if (out is None) == (not bootstrap):
        typer.echo("give --out FOLDER or --bootstrap BROKERS, one of them", err=True)
        raise typer.Exit(2)
    log = import_file(searches, products, categories)
    if out is not None:
        import msgspec

        facts = write_log_folder(log, out, name)
        typer.echo(msgspec.json.encode(facts).decode())
        return
    from pipelines.import_log import produce

    written = produce(log.events, {"bootstrap.servers": bootstrap}, topic)
    typer.echo(json.dumps({"written": written} | asdict(log.counts)))
