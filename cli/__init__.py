"""`aigq ...`: every command of the product, each a thin call into the package that does the work."""

import sys

import typer

from cli import read, run, training
from store.client import StoreError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Generative query recommendation, nearline.")
for each in (run, read, training):
    app.add_typer(each.app)


def main() -> None:
    try:
        app()
    except StoreError as error:
        typer.echo(error, err=True)
        sys.exit(1)
