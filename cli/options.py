"""Options that many commands share, and the store as a person at a terminal reads it."""

from typing import TYPE_CHECKING

import typer

from store.client import ShopperStore

if TYPE_CHECKING:
    from pipelines.options import NearlineSettings

STORE = typer.Option("redis://127.0.0.1:6379", "--store", envvar="AIGQ_STORE", help="URL of the key-value store.")
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Of commands that take the options of `aigq run nearline` too."""
EXECUTE = typer.Option(False, "--execute", help="Do it; without, only say what would be done.")
NAMESPACE = typer.Option("live", "--namespace", envvar="AIGQ_NAMESPACE", help="Namespace of the keys.")


def reader(url: str, namespace: str) -> ShopperStore:
    """For a person who waits: a store that does not answer is said after seconds, not after a minute."""
    return ShopperStore(url, namespace, deadline_s=5)


def nearline_settings(context: typer.Context, **more: str) -> "NearlineSettings":
    """Options of `aigq run nearline`, for commands that run its steps. Says all that is wrong, and exits with 2."""
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipelines.known_options import unknown_words
    from pipelines.options import NearlineOptions
    from transforms.files import use_options

    words = [*context.args, *(f"--{name}={value}" for name, value in more.items())]
    options = PipelineOptions(words, streaming=True)
    use_options(options)
    settings = options.view_as(NearlineOptions).settings()
    own = {option.lstrip("-") for each in context.command.params for option in each.opts if option.startswith("--")}
    if errors := [*unknown_words(context.args, own), *settings.errors()]:
        typer.echo("\n".join(errors), err=True)
        raise typer.Exit(2)
    return settings


def writer(settings: "NearlineSettings") -> ShopperStore:
    """The store as an operator's command uses it: patient."""
    from pipelines.worker import new_store

    return new_store(settings)
