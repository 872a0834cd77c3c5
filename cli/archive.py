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
    store: str = typer.Option(
        "",
        envvar="AIGQ_STORE",
        help="URL of the key-value store: ended operations and requests, and fates of letters, go too; it is a run there.",
    ),
    namespace: str = NAMESPACE,
    bootstrap: str = typer.Option("", envvar="AIGQ_BOOTSTRAP", help="Kafka brokers: which topics keep longer is said."),
    kafka_config: str = typer.Option("", "--kafka_config", help="More librdkafka settings, name=value;name=value."),
    topic: str = typer.Option("behaviour", help="Topic of behaviour events."),
    exposure_topic: str = typer.Option("exposure", "--exposure_topic", help="Topic of hints shown and clicked."),
    results_topic: str = typer.Option("query-runs", "--results_topic", help="Topic of stored lists."),
    dead_letter_topic: str = typer.Option("dead-letters", "--dead_letter_topic", help="Topic of dead letters."),
) -> None:
    """Takes old hours away, out of the store too, and names topics that keep longer: one retention for all that names shoppers.

    A preview without --execute. Exit 1 where something is kept longer than --keep-days.
    """
    from pipelines.options import NearlineSettings
    from pipelines.prune import PruneAsked, kept_too_long, letters_now, old_records, prune_all
    from serving.archive_screen import show_pruned
    from transforms.archive_overview import prune as prune_archive

    if keep_days < 0:
        raise typer.BadParameter("--keep-days must not be negative")
    asked, old, wrong = PruneAsked(archive, keep_days), None, []
    box = kafka = None
    if bootstrap:
        kafka = NearlineSettings(bootstrap=bootstrap, kafka_config=kafka_config).kafka
        wrong += kept_too_long(kafka, (topic, exposure_topic, results_topic, dead_letter_topic), keep_days)
    if store:
        client = reader(store, namespace)
        box = letters_now(kafka, dead_letter_topic) if kafka else None
        if execute:
            pruned, old = prune_all(client, asked, box)
        else:
            pruned, old = prune_archive(archive, keep_days, execute=False), old_records(client, asked.before_ms(), box)
        wrong += [f"operation {id} has not ended and stays: `aigq runs cancel {id}` ends it" for id in old.unfinished]
    else:
        pruned = prune_archive(archive, keep_days, execute)
    show_pruned(pruned, old.said() if old else (), execute)
    if not store:
        typer.echo("the store was not looked at: give --store", err=True)
    if not bootstrap:
        typer.echo("topics were not looked at, and no fate of a letter can go: give --bootstrap", err=True)
    elif store and box is None:
        typer.echo(f"no topic {dead_letter_topic!r}: fates of letters stay; is --dead_letter_topic right?", err=True)
    for each in wrong:
        typer.echo(each, err=True)
    raise typer.Exit(int(bool(wrong)))
