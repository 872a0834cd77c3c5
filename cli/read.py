"""What people ask of a running system: `aigq get`, `aigq explain`, `aigq status`."""

import typer

from cli.options import NAMESPACE, STORE, reader

app = typer.Typer()


@app.command()
def get(
    user: str,
    store: str = STORE,
    namespace: str = NAMESPACE,
    most: int = typer.Option(10, help="Queries at most."),
) -> None:
    """A shopper's hints, as a home page would read them. Exit 1 if there are none."""
    from serving.lookup import Lookup

    hints = Lookup(reader(store, namespace)).hints(user, most)
    for hint in hints:
        typer.echo(hint.query)
    raise typer.Exit(0 if hints else 1)


@app.command()
def explain(user: str, store: str = STORE, namespace: str = NAMESPACE) -> None:
    """What the store knows of a shopper, and why there is a list, or none."""
    from serving.explain import explain as explain_user

    raise typer.Exit(explain_user(reader(store, namespace), user))


@app.command()
def status(
    store: str = STORE,
    namespace: str = NAMESPACE,
    bootstrap: str = typer.Option(
        "",
        envvar="AIGQ_BOOTSTRAP",
        help="Kafka brokers, to show how far behind the log the job is, and when it is level.",
    ),
    kafka_config: str = typer.Option("", "--kafka_config", help="More librdkafka settings, name=value;name=value."),
    watch_s: float = typer.Option(2.0, "--watch_s", help="Seconds between two looks, for rates; 0 looks once."),
    as_json: bool = typer.Option(False, "--json", help="As JSON, for a script."),
) -> None:
    """How the job is doing, in one screen. Exit 1 where something needs attention."""
    from confluent_kafka import KafkaException

    from pipelines.options import NearlineSettings
    from serving.status_screen import show_status
    from store.client import NamespaceMeta
    from transforms.kafka_clients import broker_watcher, ends_now

    kafka = NearlineSettings(bootstrap=bootstrap, kafka_config=kafka_config).kafka
    watcher = broker_watcher(kafka) if bootstrap else None

    def ends(meta: NamespaceMeta) -> dict[int, int] | None:
        if watcher is None:
            return {}
        try:
            return ends_now(watcher, meta.topic, range(meta.partitions), 5.0)
        except KafkaException:
            return None

    raise typer.Exit(show_status(reader(store, namespace), ends, bootstrap, watch_s, as_json))
