"""Jobs: `aigq demo`, `aigq run ...`."""

import sys

import typer

app = typer.Typer()
run_app = typer.Typer(no_args_is_help=True, help="Run a job. Its options: `aigq run nearline --help`.")
app.add_typer(run_app, name="run")

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


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


@run_app.command(context_settings=PASS_ON)
def archive(context: typer.Context) -> None:
    """What passes through Kafka becomes Parquet files. Restarted when it fails, unless --supervise=no."""
    from local.supervisor import supervise
    from pipelines.archive import run

    arguments = [argument for argument in context.args if not argument.startswith("--supervise=")]
    if "--supervise=no" in context.args or "--help" in arguments:
        raise typer.Exit(run(arguments))
    raise typer.Exit(supervise([sys.executable, "-m", "pipelines.archive", *arguments]))
