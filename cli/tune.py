"""`aigq tune-trigger`: which trigger policy is worth its lists, judged on a log."""

from pathlib import Path

import typer

app = typer.Typer()


@app.command()
def tune_trigger(
    archive: str = typer.Option(
        ..., envvar="AIGQ_ARCHIVE", help="Archive with events, and exposures where there are any."
    ),
    models: str = typer.Option("models", help="Folder of models; the promoted version of --model writes the lists."),
    model: str = typer.Option("aigq-small", help="Name of the model."),
    shoppers: float = typer.Option(0.02, help="Share of the shoppers, 0 .. 1, chosen by a hash of their names."),
    since: str = typer.Option(
        "", "--from", help="Count from this time on (ISO with zone); the interest begins with the log."
    ),
    drift: list[float] = typer.Option([0.1, 0.2, 0.3, 0.4, 0.6], help="Thresholds to try; give it several times."),
    pause: list[str] = typer.Option(
        ["3:30", "10:120", "30:600"], help="SETTLE:COOLDOWN in seconds; give it several times."
    ),
    keep: float = typer.Option(0.95, help="Share of the hits of a list an event that the advised policy must keep."),
    seed: int = typer.Option(1, help="Seed of the bootstrap."),
    out: Path = typer.Option(Path("build/trigger"), help="Folder for trigger.json and trigger.svg."),
) -> None:
    """Lists per shopper-day against next-query hits, for a list an event, a list a session, and every drift, settle and cooldown."""
    from pipelines.tune_trigger import Tuning, show, write
    from pipelines.tune_trigger import tune as try_policies
    from transforms.log_position import parse_time_ms

    try:
        pauses = [(float(settle), float(cooldown)) for settle, cooldown in (each.split(":") for each in pause)]
    except ValueError as error:
        raise typer.BadParameter("--pause is SETTLE:COOLDOWN in seconds, 3:30 say") from error
    if not 0 < shoppers <= 1:
        raise typer.BadParameter("--shoppers is a share: above 0, at most 1")
    begin = parse_time_ms(since) if since else 0
    tuned = try_policies(Tuning(archive, models, model, shoppers, begin, tuple(drift), tuple(pauses), keep, seed))
    show(tuned)
    write(tuned, out)
