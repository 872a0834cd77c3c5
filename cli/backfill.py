"""Lists for many shoppers at once: `aigq backfill`. Exit status: 0 done, 1 failed, 2 wrong arguments, 3 a person decides, 4 stopped."""

from pathlib import Path

import typer

from cli.options import NAMESPACE, STORE

app = typer.Typer()


@app.command()
def backfill(
    begin: str = typer.Option(
        "", "--from", help="Shoppers with a behaviour from this time on (ISO with zone, or epoch ms)."
    ),
    end: str = typer.Option("", "--to", help="... and before this time."),
    users: Path = typer.Option(None, help="File of shoppers, one id a line: only these."),
    failed: bool = typer.Option(False, "--failed", help="Only those whose last request failed or was cancelled."),
    everyone: bool = typer.Option(False, "--all", help="Also those whose list is as new as their newest behaviour."),
    execute: bool = typer.Option(False, "--execute", help="Ask for the lists. Without it: what would be asked for."),
    store: str = STORE,
    namespace: str = NAMESPACE,
    models: Path = typer.Option(Path("models"), help="Folder of models, for the preview's tokens."),
    model: str = typer.Option("aigq-small", help="Name of the model."),
    per_second: float = typer.Option(
        200.0, "--per_second", help="Requests a second; the first half minute starts with a tenth."
    ),
    most_waiting: int = typer.Option(2_000, "--most_waiting", help="Requests of low priority in the queue at once."),
    tokens_per_second: float = typer.Option(
        0.0, "--tokens_per_second", help="Output tokens your workers make, for the preview; 0: as measured."
    ),
    gpu_hour_price: float = typer.Option(0.0, "--gpu_hour_price", help="Price of an hour of them, for the preview."),
) -> None:
    """Makes lists for shoppers who lack one, beside the live work. A preview unless --execute; given again it goes on."""
    from pipelines.backfill import Backfill, read_users
    from pipelines.backfill import backfill as run_backfill
    from pipelines.list_estimate import Prices
    from pipelines.list_requests import Limits
    from pipelines.operation import Window

    if failed and everyone:
        raise typer.BadParameter("--failed and --all exclude each other")
    if bool(begin) != bool(end) or not (begin or users):
        raise typer.BadParameter("give --from and --to, or --users, or all three (those of the file within the window)")
    if per_second <= 0 or most_waiting <= 0:
        raise typer.BadParameter("--per_second and --most_waiting must be above 0")
    try:
        window = Window.parse(begin, end) if begin else None
        named = read_users(users) if users else None
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    settings = Backfill(
        store,
        namespace,
        window,
        named,
        "failed" if failed else "all" if everyone else "none",
        str(models),
        model,
        Limits(per_second, most_waiting),
        Prices(tokens_per_second, gpu_hour_price),
    )
    raise typer.Exit(run_backfill(settings, execute))
