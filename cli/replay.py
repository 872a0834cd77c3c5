"""A window of the log again: `aigq replay`, `aigq diff`, and what becomes of the shadow: `aigq promote`, `aigq drop`."""

import typer

from cli.options import EXECUTE, PASS_ON, STORE, nearline_settings, reader, writer

app = typer.Typer()
FROM = typer.Option(..., "--from", help="Begin of the window, by the log clock: ISO with zone, or epoch ms.")
TO = typer.Option(..., "--to", help="End of the window; itself not in it.")


@app.command(context_settings=PASS_ON)
def replay(
    context: typer.Context,
    begin: str = FROM,
    end: str = TO,
    into: str = typer.Option("", help="Namespace that the window is replayed into."),
    no_lists: bool = typer.Option(False, "--no_lists", help="Decide only: changes, and no lists."),
    regenerate: bool = typer.Option(False, "--regenerate", help="Make the lists that were stored in the window again."),
    execute: bool = EXECUTE,
) -> None:
    """A window again: into a namespace of its own (--into), or the lists of its shoppers anew (--regenerate).

    All options of `aigq run nearline` may be given too: --bootstrap, --store, --archive, --trigger_drift, --model_version ...
    """
    from pipelines import replay as pipeline
    from pipelines.operation import Window

    if bool(into) == regenerate:
        raise typer.BadParameter("give one of --into NAMESPACE and --regenerate")
    window = Window.parse(begin, end)
    if regenerate:
        from pipelines.regenerate import run_regenerate

        raise typer.Exit(run_regenerate(context.args, window, execute))
    stages = "track" if no_lists else "track,generate"
    settings = nearline_settings(context, stages=stages, end=str(window.to_ms))
    live = writer(settings)
    if execute:
        typer.echo(pipeline.replay(settings, live, window, into, context.args))
    else:
        typer.echo(pipeline.preview(settings, window, into, pipeline.plan_replay(settings, live, window), live))


@app.command()
def diff(
    here: str = typer.Argument(help="A namespace, as `live`."),
    there: str = typer.Argument(help="Another one, as the shadow of a replay."),
    begin: str = typer.Option(
        "", "--from", help="Begin of the window; that of the replay into THERE where it is left out."
    ),
    end: str = typer.Option("", "--to", help="Its end."),
    store: str = STORE,
    bootstrap: str = typer.Option(
        "",
        envvar="AIGQ_BOOTSTRAP",
        help="Kafka brokers: compares with all lists of the results topic, not the few kept.",
    ),
    results_topic: str = typer.Option("query-runs", "--results_topic", help="The results topic of HERE."),
    archive: str = typer.Option("", help="Archive of the results topic."),
    most: int = typer.Option(10, help="Shoppers shown."),
    as_json: bool = typer.Option(False, "--json", help="Sums and every difference as one JSON object."),
) -> None:
    """Which lists differ between two namespaces, by how much, and why; what they cost."""
    from rich.console import Console

    from pipelines.diff import diff as compare
    from pipelines.diff import window_of
    from pipelines.diff_report import as_json as json_of
    from pipelines.diff_report import screen
    from pipelines.operation import Window
    from transforms.read_plan import ReadSettings

    if bool(begin) != bool(end):
        raise typer.BadParameter("give both --from and --to, or neither for the window of the replay into THERE")
    left, right = reader(store, here), reader(store, there)
    window = Window.parse(begin, end) if begin else window_of(left, there)
    everything = ReadSettings({"bootstrap.servers": bootstrap}, results_topic, archive=archive)
    found = compare(left, right, window, everything if bootstrap or archive else None)
    if as_json:
        typer.echo(json_of(found))
    else:
        Console().print(screen(found, most))


@app.command()
def drop(namespace: str, store: str = STORE, execute: bool = EXECUTE) -> None:
    """Removes a namespace that no name points to: a shadow that is not wanted, a namespace of before a rebuild."""
    from pipelines import drop as pipeline

    of = reader(store, namespace)
    typer.echo(pipeline.drop(of) if execute else pipeline.preview(of))


@app.command()
def namespaces(store: str = STORE) -> None:
    """Every namespace of the store, and which names stand for which."""
    from store.namespaces import Namespaces

    names = Namespaces(reader(store, "live").calls)
    pointers = names.pointers()
    for namespace in names.names():
        served = [name for name, target in pointers.items() if target == namespace]
        if namespace not in pointers:
            served.append(namespace)
        said = f"stands for {', '.join(served)}" if served else "not read under any name"
        if not names.in_use(namespace):
            said += f"; `aigq drop {namespace}` removes it"
        typer.echo(f"{namespace}  {said}")
