"""`aigq ...`: every command of the product, each a thin call into the package that does the work."""

import logging
import sys

import typer

from cli import (
    allow_list,
    archive,
    backfill,
    describe_items,
    dlq,
    evaluate,
    import_log,
    models,
    operations,
    read,
    rebuild,
    replay,
    run,
    samples,
    sft,
    simulate,
    tune,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Generative query recommendation, nearline.")
for each in (
    run,
    read,
    models,
    operations,
    replay,
    rebuild,
    dlq,
    backfill,
    archive,
    allow_list,
    describe_items,
    simulate,
    samples,
    sft,
    tune,
    evaluate,
    import_log,
):
    app.add_typer(each.app)


def main() -> None:
    # Beam's, at every start, about a service that nobody uses here: an on-call would take it for a cause.
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    try:
        app()
    except Exception as error:
        from cli.exits import exit_status

        if (status := exit_status(error)) is None:
            raise
        typer.echo(error, err=True)
        sys.exit(status)
