"""Making a model from a market or a log: `aigq pretrain`, `aigq generate-labels`, then `aigq sft` for each arm."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from inference.model_bundle import ModelBundle

app = typer.Typer()

OUT = typer.Option(
    ..., help="Folder of the run; the same command again goes on where it was. Its bundle is OUT/bundle."
)
SAMPLES = typer.Option(0, help="Length of the run in samples; 0 is one pass, more than there are is several.")
SEED = typer.Option(1, help="Seed of new weights and of the order of samples.")
BATCH = typer.Option(4_096, help="Tokens of a batch, padding included.")
PLAIN = typer.Option(False, "--plain", help="Uncompressed prompts, to measure what compression costs or brings.")
DTYPE = typer.Option("auto", help="float32, bfloat16, or auto: two seconds of both decide.")
THREADS = typer.Option(0, help="Threads to compute with; 0: a short benchmark decides.")
HELD_OUT = typer.Option(300, help="Samples of shoppers that are left out, for the curve.")
EVERY = typer.Option(60.0, help="Seconds between checkpoints.")
NAME = typer.Option("aigq-small", help="Name of the model, on its card.")
VERSION = typer.Option("1", help="Version of the model, on its card.")


@app.command()
def pretrain(
    market: Path = typer.Argument(help="A market folder, as `aigq simulate` writes it."),
    out: Path = OUT,
    test_days: int = typer.Option(2, help="Last days that are not read: those of the test."),
    base: str = typer.Option("", help="Goes on with this model instead of a new decoder: as in `aigq sft`."),
    vocabulary: int = typer.Option(2_048, help="Tokens of a new decoder's vocabulary."),
    hidden: int = typer.Option(128, help="Width of a new decoder, a multiple of 64."),
    layers: int = typer.Option(4, help="Layers of a new decoder."),
    lists: bool = typer.Option(True, help="Histories end in the list of the searches that followed."),
    plain: bool = PLAIN,
    samples: int = SAMPLES,
    seed: int = SEED,
    learning_rate: float = typer.Option(0.0, help="Highest; 0: 6e-3 for a new decoder, 2e-4 for another model."),
    batch_tokens: int = BATCH,
    dtype: str = DTYPE,
    threads: int = THREADS,
    held_out: int = HELD_OUT,
    checkpoint_s: float = EVERY,
    name: str = NAME,
    version: str = VERSION,
) -> None:
    """Teaches a decoder the behaviour and the titles of a market, once; arms are forked from its bundle by `aigq sft`."""
    import training  # noqa: F401  (before torch: see its docstring)
    from training.base_model import open_base
    from training.il_sft import Name
    from training.pretrain import Shape, market_told
    from training.pretrain import pretrain as run

    def work() -> "ModelBundle":
        recipe = _recipe(
            seed=seed,
            samples=samples,
            batch_tokens=batch_tokens,
            optimizer="adamw" if base else "muon",
            learning_rate=learning_rate or (2e-4 if base else 6e-3),
            history_weight=1.0,
            unlearn=0.0,
            held_out=held_out,
            dtype=dtype,
            threads=threads,
        )
        return run(
            market_told(market, test_days),
            out,
            recipe,
            Shape(vocabulary, hidden, layers),
            open_base(base, seed=seed) if base else None,
            plain,
            lists,
            Name(name, version),
            checkpoint_s,
        )

    _report(work)


@app.command()
def sft(
    samples_folder: Path = typer.Argument(metavar="SAMPLES_FOLDER", help="As `aigq samples` writes it."),
    out: Path = OUT,
    base: str = typer.Option(
        ..., help="Folder of a bundle (OUT/bundle of `aigq pretrain`) or Hugging Face model, or smollm2."
    ),
    order: str = typer.Option("interest", help="Of the labels: interest (IL-SFT), or plain (SFT with the same set)."),
    kind: str = typer.Option("direct", help="Samples: direct or think (lists only)."),
    plain: bool = PLAIN,
    samples: int = SAMPLES,
    seed: int = SEED,
    optimizer: str = typer.Option("", help="muon or adamw; by itself muon for a bundle, adamw for others and LoRA."),
    learning_rate: float = typer.Option(0.0, help="Highest; 0: 3e-3 with muon, 1e-3 for LoRA, 1e-4 with adamw."),
    batch_tokens: int = BATCH,
    history_weight: float = typer.Option(0.3, help="Of the loss on searches in the prompt."),
    unlearn: float = typer.Option(
        -1.0, help="Last share of the run, in which repeats are unlearned; -1: 0.08 with muon, else 0."
    ),
    lora: int = typer.Option(0, help="Rank of LoRA; 0 learns all weights."),
    mean_of_subwords: bool = typer.Option(True, help="How special tokens start in a model that does not know them."),
    dtype: str = DTYPE,
    threads: int = THREADS,
    held_out: int = HELD_OUT,
    checkpoint_s: float = EVERY,
    name: str = NAME,
    version: str = VERSION,
) -> None:
    """Fine-tunes a model to write a shopper's list, from a samples folder, and writes its bundle."""
    import training  # noqa: F401  (before torch: see its docstring)
    from training.il_sft import Name, fine_tune

    _one_of("--order", order, ("interest", "plain"))
    _one_of("--kind", kind, ("direct", "think"))
    own = (Path(base) / "card.json").is_file()
    method = optimizer or ("muon" if own and not lora else "adamw")
    rate = learning_rate or (3e-3 if method == "muon" else 1e-3 if lora else 1e-4)

    def work() -> "ModelBundle":
        recipe = _recipe(
            seed=seed,
            samples=samples,
            batch_tokens=batch_tokens,
            optimizer=method,
            learning_rate=rate,
            history_weight=history_weight,
            unlearn=unlearn if unlearn >= 0 else 0.08 if method == "muon" else 0.0,
            lora_rank=lora,
            held_out=held_out,
            dtype=dtype,
            threads=threads,
        )
        return fine_tune(
            samples_folder,
            base,
            out,
            recipe,
            order,  # pyright: ignore[reportArgumentType]
            kind,  # pyright: ignore[reportArgumentType]
            plain,
            mean_of_subwords,
            Name(name, version),
            checkpoint_s,
        )

    _report(work)


@app.command()
def generate_labels(
    samples_folder: Path = typer.Argument(metavar="SAMPLES_FOLDER", help="As `aigq samples` writes it."),
    allow_list: Path = typer.Option(..., help="The queries that may be labels, as `aigq allow-list` writes them."),
    out: Path = typer.Option(..., help="Folder for samples that `aigq sft` learns; the same command again goes on."),
    model: Path = typer.Option(None, help="Teacher: the pretrained bundle in this folder."),
    ranker: str = typer.Option(
        "", help="Teacher, or the other one: a contender of `aigq evaluate`, such as blend; needs --market."
    ),
    market: Path = typer.Option(
        None,
        help="Its training days are counted: the ranker is fitted on them, the model's queries gain if searched of late.",
    ),
    test_days: int = typer.Option(2, help="Its last days, which are not read."),
    most: int = typer.Option(0, help="Of so many samples, drawn evenly; 0: of all."),
    feedback: int = typer.Option(0, help="Labels that shoppers gave, clicks and searches, at most; they stand first."),
) -> None:
    """Fills the lists of samples up with what a teacher finds likeliest next (docs/training.md)."""
    import training  # noqa: F401  (before torch: see its docstring)
    from inference.allow_list import AllowList
    from inference.model_bundle import ModelBundle
    from training.generate_labels import Teacher, by_model, by_ranker, together
    from training.generate_labels import generate_labels as run
    from training.pretrain import market_told
    from training.rankers import contenders
    from training.recency import late_gain

    if not (model or ranker) or (ranker and not market):
        typer.echo("the teacher is a --model, a --ranker with the --market that it is fitted on, or both", err=True)
        raise typer.Exit(2)
    allowed = AllowList.read(allow_list)
    told = market_told(market, test_days) if market else None
    teachers: list[Teacher] = []
    if ranker and told:
        (fitted,) = contenders([ranker], profiles=told.profiles)
        fitted.fit(told.log)
        teachers.append(by_ranker(fitted, allowed))
    if model:
        teachers.append(by_model(ModelBundle.open(model), allowed, late_gain(told.log) if told else {}))
    made = run(samples_folder, together(*teachers) if ranker and model else teachers[0], out, most, feedback)
    typer.echo(f"{out}  {made.samples:,} samples, {made.generated:,} of {made.labels:,} labels generated")


def _recipe(**settings: Any) -> Any:
    """Exits with 2 where a value is none of those that a recipe knows."""
    import msgspec

    from training.il_sft_recipe import Recipe

    try:
        return msgspec.convert(settings, Recipe)
    except msgspec.ValidationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        typer.echo(f"{option} is one of {', '.join(allowed)}, got {value!r}", err=True)
        raise typer.Exit(2)


def _report(work: Callable[[], "ModelBundle"]) -> None:
    """Runs it and prints where the bundle is. A loss that runs away is a failed run, not a fault of the program."""
    try:
        bundle = work()
    except FloatingPointError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    metrics = ", ".join(f"{name} {value:g}" for name, value in bundle.card.metrics.items())
    typer.echo(f"{bundle.path}  {bundle.card.parameters:,} parameters  {metrics}")
