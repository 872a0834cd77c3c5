"""`aigq ...`: every command of the product, each a thin call into the package that does the work."""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import typer

from store.client import ShopperStore, StoreError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Generative query recommendation, nearline.")
run_app = typer.Typer(no_args_is_help=True, help="Run a job. Its options: `aigq run nearline --help`.")
app.add_typer(run_app, name="run")

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
STORE = typer.Option("redis://127.0.0.1:6379", "--store", envvar="AIGQ_STORE", help="URL of the key-value store.")
NAMESPACE = typer.Option("live", "--namespace", envvar="AIGQ_NAMESPACE", help="Namespace of the keys.")


@app.command()
def demo(
    seconds: int = typer.Option(60, help="How long shoppers play, in seconds."),
    keep: bool = typer.Option(False, "--keep", help="Leave the stack up and print its addresses; Ctrl-C ends it."),
    seed: int = typer.Option(7, help="Seed of the simulated shoppers."),
) -> None:
    """Broker, store, runner, model and simulated shoppers on this machine: watch lists come about."""
    from local.demo import run_demo

    raise typer.Exit(run_demo(seconds=seconds, keep=keep, seed=seed))


@run_app.command(context_settings=PASS_ON)
def nearline(context: typer.Context) -> None:
    """Events in Kafka become lists in the store. Restarted when the runner fails, unless --supervise=no."""
    from local.supervisor import supervise
    from pipelines.nearline import run

    arguments = [argument for argument in context.args if not argument.startswith("--supervise=")]
    if "--supervise=no" in context.args or "--help" in arguments:
        raise typer.Exit(run(arguments))
    raise typer.Exit(supervise([sys.executable, "-m", "pipelines.nearline", *arguments]))


@app.command()
def import_log(
    bootstrap: str = typer.Option(..., help="Kafka brokers."),
    searches: Path = typer.Option(..., help="csv.gz: user, sku, category, query, click_time, query_time."),
    products: Path = typer.Option(..., help="csv.gz: sku, title."),
    categories: Path = typer.Option(..., help="json.gz: categories with id and name."),
    topic: str = typer.Option("behaviour", help="Topic to write to; it must exist."),
) -> None:
    """A retailer's search log becomes events in Kafka, with its own times. Run the job with --log_clock=ingest_ms."""
    from simulation.real_log import import_log as read_log
    from simulation.real_log import produce

    log = read_log(searches, products, categories)
    written = produce(log.events, {"bootstrap.servers": bootstrap}, topic)
    typer.echo(json.dumps({"written": written} | asdict(log.counts)))


@app.command()
def train(
    version: str = typer.Argument(help="A new version: a version's name is never used again."),
    models: Path = typer.Option(Path("models"), help="Folder of models; the bundle goes to MODELS/NAME/VERSION/."),
    name: str = typer.Option("aigq-small", help="Name of the model."),
    seed: int = typer.Option(1, help="Seed of market, samples and weights."),
    samples: int = typer.Option(115_000, help="Length of the training; the same samples and seed give the same model."),
    minutes: float = typer.Option(
        60.0, help="Ceiling for the training loop; a run that it hurries cannot be repeated exactly."
    ),
) -> None:
    """Trains the small decoder on simulated shoppers, measures it, publishes the bundle and makes it the current version."""
    from inference.model_bundle import promote, publish
    from training.evaluate import evaluate as evaluate_bundle
    from training.evaluate import record, report
    from training.sft import Recipe
    from training.sft import train as train_bundle

    with tempfile.TemporaryDirectory() as folder:
        train_bundle(folder, seed, Recipe(samples=samples, minutes=minutes), name, version)
        found = evaluate_bundle(folder)
        typer.echo(report(found))
        record(folder, found)
        typer.echo(f"published {publish(folder, models).path}")
    promote(models, name, version)


@app.command()
def evaluate(
    bundle: Path = typer.Argument(help="models/NAME/VERSION"),
    shoppers: int = typer.Option(1_500, help="Held-out simulated shoppers."),
    out: Path = typer.Option(Path("docs/results"), help="Folder for model.json and model.md."),
) -> None:
    """The model against popularity, repeats and bigrams on held-out simulated shoppers, with intervals."""
    from training.evaluate import evaluate as evaluate_bundle
    from training.evaluate import report

    typer.echo(report(evaluate_bundle(bundle, shoppers, out)))


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
    bootstrap: str = typer.Option("", help="Kafka brokers, to show how far behind the log the job is."),
) -> None:
    """How the job is doing, in one screen. Exit 1 where something needs attention."""
    from serving.status import show_status
    from transforms.kafka_clients import broker_watcher, ends_now

    client = reader(store, namespace)
    meta, ends = client.pinned(), {}
    if bootstrap and meta:
        ends = ends_now(broker_watcher({"bootstrap.servers": bootstrap}), meta.topic, range(meta.partitions), 5.0)
    raise typer.Exit(show_status(client, ends))


def reader(url: str, namespace: str) -> ShopperStore:
    """For a person who waits: a store that does not answer is said after seconds, not after a minute."""
    return ShopperStore(url, namespace, deadline_s=5)


def main() -> None:
    try:
        app()
    except StoreError as error:
        typer.echo(error, err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
