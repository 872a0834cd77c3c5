"""The versions of a model and which of them serves: `aigq models ...`. A running job follows a change by itself.

Exit status: 0 done, 1 failed, 2 wrong arguments, 3 a person has to decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.options import NAMESPACE, STORE, reader

if TYPE_CHECKING:
    from inference.engine import ServedModel
    from inference.model_versions import Revocation, Version
    from store.client import ShopperStore

app = typer.Typer()
models_app = typer.Typer(no_args_is_help=True, help="Versions of a model: list, publish, promote, roll back.")
app.add_typer(models_app, name="models")

MODELS = typer.Option(Path("models"), help="Folder of models; a version lies in MODELS/NAME/VERSION/.")
NAME = typer.Option("aigq-small", help="Name of the model.")
WHY = typer.Option("", help="Reason, for the history.")
JSON = typer.Option(False, "--json", help="As JSON, for a script.")
SHOWN = ("hr_10", "valid_lists", "whole_lists")
"""Metrics of a version's line; `aigq models show` has all of them."""


@models_app.command("list")
def list_versions(models: Path = MODELS, name: str = NAME, as_json: bool = JSON) -> None:
    """Every version ever published, what became of it, and which one serves."""
    from rich.console import Console
    from rich.table import Table

    from inference.model_versions import promotions, revocations, versions

    with _exits():
        _check_there(models, name)
        listed, history, revoked = versions(models, name), promotions(models, name), revocations(models, name)
    if as_json:
        _print_json(listed)
        return
    table = Table("version", "serves", "promotions", "created", "parameters", "metrics", "digest")
    for each in listed:
        metrics = each.card.metrics if each.card else {}
        table.add_row(
            f"{name}/{each.version}",
            "yes" if each.serves else "",
            ", ".join(map(str, each.promotions)),
            each.card.created if each.card else "folder is gone",
            f"{each.card.parameters:,}" if each.card else "",
            "  ".join(f"{metric} {metrics[metric]:.3f}" for metric in SHOWN if metric in metrics),
            each.digest[:12],
        )
    console = Console()
    console.print(table)
    for step in history:
        back = f" back to promotion {step.back_to}" if step.back_to else ""
        console.print(f"{step.at or '-':20}  promotion {step.promotion}: {name}/{step.version}{back}  {step.why}")
    for each in revoked:
        console.print(f"{each.at:20}  {_revoked(name, each)}")


@models_app.command()
def show(version: str, models: Path = MODELS, name: str = NAME, as_json: bool = JSON) -> None:
    """A version's card, its digest, and whether its files are still what was published."""
    from inference.model_versions import files_of

    with _exits():
        found = _version(models, name, version)
        files = files_of(models, name, found)
    if as_json:
        _print_json(found)
        return
    serves = "it serves" if found.serves else "it does not serve"
    numbers = ", ".join(map(str, found.promotions)) or "none"
    typer.echo(f"{name}/{version}: {serves}; promotions: {numbers}\ndigest {found.digest}: {files}")
    for each in found.revocations:
        typer.echo(f"{each.at} {_revoked(name, each)}")
    if found.card:
        card = found.card
        typer.echo(f"{card.description}\n{card.parameters:,} parameters, made {card.created} from {card.git_revision}")
        typer.echo(f"data: {card.data}; seed {card.seed}; prompt version {card.prompt_version}")
        typer.echo("metrics: " + "  ".join(f"{metric} {value}" for metric, value in card.metrics.items()))
        typer.echo("recipe: " + "  ".join(f"{setting} {value}" for setting, value in card.recipe.items()))


@models_app.command()
def publish(folder: Path, models: Path = MODELS) -> None:
    """Checks a bundle and copies it to MODELS/NAME/VERSION/ (names from its card). It does not serve yet."""
    from inference.model_versions import publish as publish_bundle

    with _exits():
        made = publish_bundle(folder, models)
    typer.echo(
        f"published {made.path}; to let it serve: aigq models promote {made.card.version}{_where(models, made.card.name)}"
    )


@models_app.command()
def promote(version: str, models: Path = MODELS, name: str = NAME, why: str = WHY) -> None:
    """Makes a version the one that serves. Running jobs load it beside the old one and take it over, without a pause."""
    from inference.model_versions import promote as promote_version

    with _exits():
        _version(models, name, version)
        _say_serves(models, name, promote_version(models, name, version, why))


@models_app.command()
def rollback(
    models: Path = MODELS,
    name: str = NAME,
    why: str = WHY,
    given_up: str = typer.Option(
        "", "--from", help="The version to give up. Where it serves no longer, nothing is changed: safe to type twice."
    ),
    revoke: bool = typer.Option(
        False, "--revoke", help="Also refuse the lists of --from from now on, in --store and --namespace."
    ),
    store: str = STORE,
    namespace: str = NAMESPACE,
) -> None:
    """Lets the version serve that served before the present one. A second roll-back goes further back."""
    from inference.model_versions import roll_back

    if revoke and not given_up:
        raise typer.BadParameter(
            "--revoke needs --from=VERSION: a revocation cannot be taken back, so say which version is bad"
        )
    with _exits():
        _check_there(models, name)
        bad = _version(models, name, given_up.removeprefix(f"{name}/")).version if given_up else ""
        opened = _opened(store, namespace) if revoke else None  # a store that is away must not leave this half done
        _say_serves(models, name, roll_back(models, name, why, bad))
    if opened:
        _revoke(opened, models, name, bad, why)


@models_app.command()
def revoke(
    version: str,
    models: Path = MODELS,
    name: str = NAME,
    why: str = WHY,
    store: str = STORE,
    namespace: str = NAMESPACE,
) -> None:
    """From now on no list of this version is stored, not even one that is being made. It cannot be taken back."""
    with _exits():
        found = _version(models, name, version)
        if found.serves:
            typer.echo(
                f"{name}/{version} serves: every list would be refused. First: aigq models rollback --from={version}",
                err=True,
            )
            raise typer.Exit(3)
    _revoke(_opened(store, namespace), models, name, version, why)


@contextmanager
def _exits() -> Iterator[None]:
    from inference.model_bundle import BadBundle
    from inference.model_versions import NoWayBack

    try:
        yield
    except BadBundle as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    except NoWayBack as error:
        typer.echo(error, err=True)
        raise typer.Exit(3) from None


def _check_there(models: Path, name: str) -> None:
    if not (models / name).is_dir():
        raise typer.BadParameter(f"no model {name} in {models.resolve()}")


def _version(models: Path, name: str, version: str) -> Version:
    from inference.model_versions import versions

    _check_there(models, name)
    listed = {each.version: each for each in versions(models, name)}
    if version not in listed:
        raise typer.BadParameter(f"version {version} of {name} was never published; there are {', '.join(listed)}")
    return listed[version]


def _opened(store: str, namespace: str) -> ShopperStore:
    client = reader(store, namespace)
    if client.pinned() is None:
        raise typer.BadParameter(f"no job has opened namespace {namespace!r} of {client.calls.where}")
    return client


def _revoke(store: ShopperStore, models: Path, name: str, version: str, why: str) -> None:
    from inference.model_versions import note_revoked

    store.revoke(f"{name}/{version}")
    typer.echo(
        f"revoked {name}/{version} in namespace {store.namespace!r}: its lists are refused from now on, stored ones stay"
    )
    note_revoked(models, name, version, store.calls.where, store.namespace, why)


def _revoked(name: str, each: Revocation) -> str:
    return f"revoked {name}/{each.version} in namespace {each.namespace!r} of {each.store}  {each.why}"


def _say_serves(models: Path, name: str, model: ServedModel) -> None:
    from inference.model_versions import revocations

    typer.echo(f"{model.version} serves (promotion {model.promotion}); running jobs take it over once it is loaded")
    for each in revocations(models, name):
        if f"{name}/{each.version}" == model.version:
            typer.echo(
                f"warning: {_revoked(name, each).strip()}: every list is refused there, publish it under a new version",
                err=True,
            )


def _where(models: Path, name: str) -> str:
    named = "" if name == "aigq-small" else f" --name {name}"
    return named if models == Path("models") else f"{named} --models {models}"


def _print_json(value: object) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
