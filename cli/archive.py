"""The archive on disk: `aigq archive show | snapshot | prune`. docs/archive.md. (`aigq run archive` writes it.)"""

import typer

from cli.options import NAMESPACE, STORE, reader

app = typer.Typer()
archive_app = typer.Typer(
    no_args_is_help=True, help="What the archive job has written: look at it, take old hours away."
)
app.add_typer(archive_app, name="archive")

ARCHIVE = typer.Option(
    ..., envvar="AIGQ_ARCHIVE", help="Folder of the archive, or its URL in an object store (s3://bucket/aigq)."
)


@archive_app.command()
def show(archive: str = ARCHIVE, as_json: bool = typer.Option(False, "--json", help="As JSON.")) -> None:
    """Files, records, bytes and offsets by topic, day and partition. Exit 1 where there is a hole between files."""
    from serving.archive_screen import show_overview
    from transforms.archive_overview import overview

    raise typer.Exit(show_overview(overview(archive), as_json))


@archive_app.command()
def snapshot(archive: str = ARCHIVE, store: str = STORE, namespace: str = NAMESPACE) -> None:
    """Writes the states of a namespace into the archive: a replay of a later window begins there, not at the log's beginning."""
    from pipelines.snapshot import take_snapshot

    taken = take_snapshot(reader(store, namespace), archive)
    typer.echo(
        f"{taken.states:,} states in {len(taken.files)} files, with what is applied in {len(taken.applied)} shards and partitions"
    )


@archive_app.command()
def prune(
    archive: str = ARCHIVE,
    keep_days: float = typer.Option(..., help="Hours that ended longer ago are deleted, whole."),
    execute: bool = typer.Option(False, "--execute", help="Do it. Without it: only say what would be done."),
) -> None:
    """Takes old hours away: the archive's retention, and a forgotten shopper's last traces. A preview without --execute."""
    from serving.archive_screen import show_pruned
    from transforms.archive_overview import prune as prune_archive

    if keep_days < 0:
        raise typer.BadParameter("--keep-days must not be negative")
    show_pruned(prune_archive(archive, keep_days, execute), execute)
