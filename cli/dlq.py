"""Dead letters: `aigq dlq list | show | export | redrive | discard`. docs/dead-letters.md.

Exit status: 0 done, 1 failed or done in part (what now is said), 2 wrong arguments, 3 a person has to decide, 4 paused or cancelled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.options import NAMESPACE, STORE

if TYPE_CHECKING:
    from store.client import ShopperStore
    from transforms.letter_box import LetterBox
    from transforms.letter_cases import LetterCase, LetterFilter

app = typer.Typer()
dlq_app = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be used, why, and what to do with it.")
app.add_typer(dlq_app, name="dlq")

JSON = typer.Option(False, "--json", help="JSON, one object a line.")
EXECUTE = typer.Option(False, "--execute", help="Do it. Without it: only say what would be done.")


@dataclass(frozen=True)
class Selection:
    """Where the letters lie, and which of them are meant."""

    kafka: dict[str, str]
    topic: str
    store: ShopperStore
    filter: LetterFilter

    def cases(self) -> tuple[list[LetterCase], LetterBox]:
        from store.letters import LetterRegistry
        from transforms.letter_box import read_letters
        from transforms.letter_cases import cases_of

        box = read_letters(self.kafka, self.topic)
        found = cases_of(box.letters, box.times, LetterRegistry(self.store.calls).all())
        return [case for case in found if self.filter.holds(case)], box


def _options(
    bootstrap: str = typer.Option(..., envvar="AIGQ_BOOTSTRAP", help="Kafka brokers, host:port separated by commas."),
    kafka_config: str = typer.Option("", "--kafka_config", help="More librdkafka settings, name=value;name=value."),
    dead_letter_topic: str = typer.Option("dead-letters", "--dead_letter_topic", help="Topic of the letters."),
    store: str = STORE,
    namespace: str = NAMESPACE,
    reason: list[str] = typer.Option([], help="Of this reason; may be given more than once, like all filters."),
    stage: list[str] = typer.Option([], help="decode, track or generate."),
    topic: list[str] = typer.Option([], help="About records of this topic."),
    partition: list[int] = typer.Option([], help="About records of this partition."),
    since: str = typer.Option("", "--from", help="Written at or after this time: ISO with a zone, or epoch ms."),
    until: str = typer.Option("", "--to", help="Written before this time."),
    user: list[str] = typer.Option([], help="Of this shopper (letters of stage decode name none)."),
    letter: list[str] = typer.Option([], "--id", help="This letter: TOPIC/PARTITION/OFFSET or run/RUN_ID."),
) -> Selection:
    from pipelines.options import NearlineSettings
    from store.client import ShopperStore
    from transforms.letter_cases import LetterFilter
    from transforms.log_position import parse_time_ms

    settings = NearlineSettings(bootstrap=bootstrap, kafka_config=kafka_config)
    try:
        window = (parse_time_ms(since) if since else 0, parse_time_ms(until) if until else None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    chosen = LetterFilter(*map(tuple, (reason, stage, topic)), tuple(partition), *window, *map(tuple, (user, letter)))  # type: ignore[arg-type]
    if wrong := chosen.errors():
        raise typer.BadParameter("; ".join(wrong))
    return Selection(settings.kafka, dead_letter_topic, ShopperStore(store, namespace, deadline_s=10), chosen)


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of where and which, the same of every command here; it gets them as one `Selection`."""
    shared = inspect.signature(_options, eval_str=True).parameters
    own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "chosen"]

    @wraps(command)
    def call(**given: Any) -> None:
        where_and_which = {name: given.pop(name) for name in shared}
        command(**given, chosen=_options(**where_and_which))

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *shared.values())]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


@dlq_app.command("list")
@selecting
def list_letters(
    chosen: Selection,
    letters: bool = typer.Option(False, "--letters", help="Every letter on a line, in place of sums."),
    as_json: bool = JSON,
) -> None:
    """How many letters of which reason are open, redriven, returned and discarded, and what to do."""
    from serving.letters import show_each, show_sums

    cases, box = chosen.cases()
    if letters:
        show_each(cases, as_json)
    else:
        show_sums(cases, box.unreadable, as_json)


@dlq_app.command()
@selecting
def show(
    chosen: Selection, id: str = typer.Argument(help="TOPIC/PARTITION/OFFSET or run/RUN_ID."), as_json: bool = JSON
) -> None:
    """Everything of one letter: its bytes, why it was put aside, and what was done with it."""
    from serving.letters import show_one
    from transforms.letter_box import whole_letters
    from transforms.letter_cases import LetterFilter

    cases, _ = replace(chosen, filter=LetterFilter(ids=(id,))).cases()
    if not cases:
        raise typer.BadParameter(f"topic {chosen.topic!r} holds no letter {id!r}; `aigq dlq list --letters` names them")
    (case,) = cases
    show_one(case, [letter for _, letter in whole_letters(chosen.kafka, chosen.topic, case.letters)], as_json)


@dlq_app.command()
@selecting
def export(chosen: Selection, file: Path = typer.Argument(help="File to write; must not exist.")) -> None:
    """The letters as JSON, one a line, with the bytes as base64 and, where they are some, as text."""
    from serving.letters import export_line
    from transforms.letter_box import whole_letters

    if file.exists():
        raise typer.BadParameter(f"{file} is there already")
    by_newest = {case.newest.id: case for case in chosen.cases()[0]}
    partial = file.with_name(f"{file.name}.part")
    written = 0
    with partial.open("w", encoding="utf-8") as out:
        newest = [case.newest for case in by_newest.values()]
        for seen, letter in whole_letters(chosen.kafka, chosen.topic, newest):
            out.write(export_line(by_newest[seen.id], letter) + "\n")
            written += 1
    partial.rename(file)
    typer.echo(f"{written:,} letters in {file}")


@dlq_app.command()
@selecting
def redrive(
    chosen: Selection,
    execute: bool = EXECUTE,
    again: bool = typer.Option(False, "--again", help="Also what was redriven before and failed again."),
    force: bool = typer.Option(
        False,
        "--force",
        help="Also where most of it would be dead letters again, and of a topic that the namespace does not read.",
    ),
    per_second: float = typer.Option(500.0, "--per_second", min=0.1, help="Records a second; rises to it in 30 s."),
    wait_s: float = typer.Option(
        30.0, "--wait_s", min=0.0, help="Seconds to wait for the job, to say what came back; 0: give them and go."
    ),
    format: str = typer.Option("auto", help="As the job's: auto, avro, confluent, json."),
    schema_registry: str = typer.Option("", "--schema_registry", help="As the job's."),
    mapper: str = typer.Option("", help="As the job's."),
    log_clock: str = typer.Option("append", "--log_clock", help="As the job's: append or ingest_ms."),
    as_json: bool = JSON,
) -> None:
    """Gives the records of open letters again to their own topic, for the running job. What was redriven is not, unless it came back."""
    from pipelines.operation import A_PERSON_DECIDES, DONE, FAILED
    from pipelines.redrive import Redrive, RedriveAsked
    from pipelines.redrive_aftermath import came_back, standstills, wait_for_the_job
    from pipelines.screen import Screen
    from schemas.codec import decoder_for
    from serving.redrives import outlook_as_json, show_aftermath, show_outlook

    if log_clock not in ("append", "ingest_ms"):
        raise typer.BadParameter("--log_clock is append or ingest_ms")
    try:
        decoder = decoder_for(format, schema_registry, mapper)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    asked = RedriveAsked(chosen.topic, chosen.filter, again, format, schema_registry, mapper, log_clock, force)  # type: ignore[arg-type]
    redriving = Redrive(chosen.kafka, chosen.store, asked, decoder, chosen.cases()[0])
    outlook = redriving.preview()
    stand = standstills(chosen.kafka, chosen.store, decoder)
    for each in stand:
        typer.echo(f"warning: {each}", err=True)
    if outlook.stops_the_job and not force and execute:
        typer.echo(
            f"not redriven: {outlook.dead_again:,} of {outlook.given.total():,} would be dead letters again, which could stop the "
            f"job. Mend the cause, give --format or --mapper as the job's, name the letters by --reason, or --force",
            err=True,
        )
        raise typer.Exit(A_PERSON_DECIDES)
    if not execute:
        if as_json:
            typer.echo(outlook_as_json(outlook.expected, outlook.skipped))
        else:
            show_outlook(outlook.expected, outlook.skipped, executed=False)
            typer.echo(f"{outlook.given.total():,} letters would be redriven; --execute does it")
        return
    with Screen() as screen:
        done, id, given = redriving.execute(outlook.given.total(), per_second, screen)
    taken = wait_for_the_job(chosen.store, given, 0 if stand else wait_s)
    back = came_back(chosen.kafka, chosen.topic, given)
    if as_json:
        typer.echo(outlook_as_json(done.expected, done.skipped, operation=id, taken=taken, came_back=back))
    else:
        show_outlook(done.expected, done.skipped, executed=True)
        show_aftermath(id, taken, back, chosen.topic)
    unknown = not taken and wait_s > 0
    raise typer.Exit(FAILED if back or unknown else DONE)


@dlq_app.command()
@selecting
def discard(
    chosen: Selection,
    why: str = typer.Option("", help="For the record; needed with --execute."),
    execute: bool = EXECUTE,
) -> None:
    """Marks open and returned letters as done with. Nothing is deleted from Kafka."""
    from pipelines.discard_letters import DiscardAsked, to_discard
    from pipelines.discard_letters import discard as discard_letters
    from serving.letters import show_sums

    if execute and not why:
        raise typer.BadParameter("--why is needed with --execute: whoever looks next will ask")
    cases = to_discard(chosen.cases()[0])
    if not execute:
        show_sums(cases, 0, as_json=False)
        typer.echo(f"{len(cases):,} letters would be discarded; --execute --why=... does it")
        return
    id = discard_letters(chosen.store, cases, DiscardAsked(chosen.topic, chosen.filter, why))
    typer.echo(f"{len(cases):,} letters discarded by {id}; they stay in topic {chosen.topic!r}")
