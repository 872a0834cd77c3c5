"""Samples to train on and cases to judge by: `aigq samples`. docs/samples.md."""

import typer

from cli.options import PASS_ON

app = typer.Typer()


@app.command(context_settings=PASS_ON)
def samples(
    context: typer.Context,
    archive: str = typer.Option(..., envvar="AIGQ_ARCHIVE", help="Folder of the archive; a market's is MARKET/archive."),
    out: str = typer.Option(..., help="Folder for the samples; the same command given again goes on, or says what is in it."),
    test_from: str = typer.Option("", "--test_from", help="Begin of the first test day, UTC (ISO with zone, or epoch ms); empty: the last two days."),
    direct_labels: str = typer.Option("paper", "--direct_labels", help="paper: clicks and the ranker's list. with_searches: also what was then searched by themselves."),
    search_hours: float = typer.Option(2.0, "--search_hours", help="So long after a home page (with_searches)."),
    fewest_shoppers: int = typer.Option(5, "--fewest_shoppers", help="A query that fewer searched on the train days is no label."),
    list_length: int = typer.Option(10, "--list_length", help="Labels of a sample at most."),
    cases: str = typer.Option("exposures", help="exposures: a case is a home page. searches: a search, for archives without exposures."),
    shards: int = typer.Option(32, help="Of shoppers; one shard's records have to fit in a worker's memory."),
    format: str = typer.Option("auto", help="Of the archived events: avro, confluent, json or auto."),
    schema_registry: str = typer.Option("", "--schema_registry", help="Where they are framed by one."),
    mapper: str = typer.Option("", help="module:function for events of your own."),
) -> None:  # fmt: skip
    """Makes training samples and evaluation cases from an archive. Other options go to Beam. The last line says what became of what."""
    from pipelines.samples import SampleOptions, run

    options = SampleOptions(
        archive,
        test_from,
        direct_labels,  # type: ignore[arg-type]
        search_hours,
        fewest_shoppers,
        list_length,
        cases,  # type: ignore[arg-type]
        shards,
        format,
        schema_registry,
        mapper,
    )
    run(options, out, context.args)
