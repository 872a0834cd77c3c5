"""What a namespace is made of, anew: `aigq rebuild`, `aigq adopt`, `aigq promote`."""

from pathlib import Path

import typer

from cli.options import EXECUTE, PASS_ON, nearline_settings, writer

app = typer.Typer()


@app.command(context_settings=PASS_ON)
def rebuild(
    context: typer.Context,
    users: Path | None = typer.Option(None, help="Only these shoppers, one id a line, in the namespace as it is."),
    execute: bool = EXECUTE,
) -> None:
    """Behaviours and lists anew from --archive and log, in a fresh namespace that is checked and put in place.

    With --users: only those shoppers, in place; for a corrected archive, to end a quarantine, or to bring them home. All options of
    `aigq run nearline` may be given too.
    """
    settings = nearline_settings(context, stages="track")
    live = writer(settings)
    if users:
        from pipelines import rebuild_users as pipeline

        wanted = tuple(dict.fromkeys(line.strip() for line in users.read_text().splitlines() if line.strip()))
        typer.echo(
            pipeline.rebuild_users(settings, live, wanted) if execute else pipeline.preview(settings, live, wanted)
        )
        return
    from pipelines import rebuild as whole

    typer.echo(whole.rebuild(settings, live, context.args) if execute else whole.preview(settings, live))


@app.command(context_settings=PASS_ON)
def adopt(context: typer.Context, execute: bool = EXECUTE) -> None:
    """Takes another --shards, --trigger_... policy or this version's fold over into the running system.

    The job is fenced meanwhile and goes on by itself, with all requests. The same command with the old values goes back.
    """
    from pipelines import adopt as pipeline

    settings = nearline_settings(context, stages="track")
    live = writer(settings)
    typer.echo(pipeline.adopt(settings, live) if execute else pipeline.preview(settings, live))


@app.command(context_settings=PASS_ON)
def promote(context: typer.Context, namespace: str, execute: bool = EXECUTE) -> None:
    """Makes NAMESPACE what readers and the job mean by --namespace: a shadow that has proven itself, or the one of before."""
    from pipelines import promote as pipeline
    from pipelines.worker import new_store

    settings = nearline_settings(context, stages="track")
    live = writer(settings)
    if execute:
        typer.echo(pipeline.promote(settings, live, namespace, context.args))
    else:
        typer.echo(pipeline.preview(live, new_store(settings, namespace)))
