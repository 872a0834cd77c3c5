"""Making a model and judging it: `aigq train`, `aigq evaluate`."""

import tempfile
from pathlib import Path

import typer

app = typer.Typer()


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
    from inference.model_versions import promote, publish
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
