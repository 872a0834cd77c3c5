"""The records of operators' commands: `aigq runs list | show | pause | resume | cancel`."""

import time

import typer

from cli.options import STORE, reader

app = typer.Typer()
runs_app = typer.Typer(
    no_args_is_help=True, help="Replays, backfills, redrives, rebuilds: what was asked, how far it is."
)
app.add_typer(runs_app, name="runs")


@runs_app.command("list")
def list_runs(
    store: str = STORE, as_json: bool = typer.Option(False, "--json", help="One JSON object a line.")
) -> None:
    """Every operation, the newest first."""
    from serving.operations import show_list
    from store.operations import Operations

    show_list(Operations(reader(store, "live").calls).list(), int(time.time() * 1000), as_json)


@runs_app.command()
def show(id: str, store: str = STORE, as_json: bool = typer.Option(False, "--json", help="As JSON.")) -> None:
    """One operation: what was asked, status, counts, checkpoint, seconds to go.

    Exit 0 done, 1 failed or interrupted, 4 cancelled or stopped (paused, and its process has ended), 5 on its way.
    """
    from serving.operations import show_one
    from store.operations import Operations

    raise typer.Exit(show_one(*Operations(reader(store, "live").calls).show(id), int(time.time() * 1000), as_json))


@runs_app.command()
def pause(id: str, store: str = STORE) -> None:
    """It stops where it is until `resume`. A replay, rebuild, promotion or adoption ends instead; the same command goes on with it. Exit 3:
    nobody works on it."""
    from store.operations import Operations

    Operations(reader(store, "live").calls).control(id, "pause")


@runs_app.command()
def resume(id: str, store: str = STORE) -> None:
    """Takes a pause back. One whose process has ended goes on when its command is given again (exit 3)."""
    from store.operations import Operations

    Operations(reader(store, "live").calls).control(id, "")


@runs_app.command()
def cancel(id: str, store: str = STORE) -> None:
    """It ends; what was done stays and is counted, what was not can be asked for again. Exit 3: it has ended already."""
    from store.operations import Operations

    Operations(reader(store, "live").calls).cancel(id)
