"""`aigq ...`: every command of the product, each a thin call into the package that does the work."""

import sys

import typer

from cli import models, operations, read, run, training
from store.client import NamespaceMismatch, StoreError, WriterFenced

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Generative query recommendation, nearline.")
for each in (run, read, training, models, operations):
    app.add_typer(each.app)


def main() -> None:
    try:
        app()
    except (NamespaceMismatch, WriterFenced) as error:  # the same command would be refused again
        typer.echo(error, err=True)
        sys.exit(3)
    except StoreError as error:
        typer.echo(error, err=True)
        sys.exit(1)
