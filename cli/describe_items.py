"""`aigq describe-items`: a short text for each item of a shop."""

from pathlib import Path

import typer

app = typer.Typer()


@app.command("describe-items")
def describe_items(
    items: Path = typer.Option(..., help="Parquet: id, title, category, attributes (a map)."),
    out: Path = typer.Option(..., help="Parquet to write; what it holds already is kept, so a killed command goes on."),
    endpoint: str = typer.Option("", help="URL of an OpenAI-compatible server; without one a rule writes, offline."),
    model: str = typer.Option("", help="The server's name of the model."),
    key: str = typer.Option(
        "", envvar="AIGQ_ENDPOINT_KEY", help="The server's key, where it wants one.", show_envvar=True
    ),
    at_once: int = typer.Option(32, min=1, help="Requests in flight."),
) -> None:
    """Title, category and attributes of each item as one short text. Only what is new or has changed is written."""
    from inference.describe_items import RuleWriter, read_items
    from inference.describe_items import describe_items as describe
    from inference.description_endpoint import EndpointFailed, EndpointWriter

    if bool(endpoint) != bool(model):
        raise typer.BadParameter("--endpoint and --model go together")
    writer = EndpointWriter(endpoint, model, key, at_once) if endpoint else RuleWriter()
    try:
        found = describe(
            read_items(items), writer, out, lambda done, of: typer.echo(f"{done:,} of {of:,} items", err=True)
        )
    except EndpointFailed as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error
    typer.echo(
        f"{out}: {found.items:,} items, {found.written:,} written now by {writer.version}"
        + (f", {found.fallen_back:,} of them by rule: the server had nothing of use" if found.fallen_back else "")
    )
