"""A command that changes what shoppers get says first what it would do: nothing is written without --execute."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from cli import app

WRITING = (
    ("replay",),
    ("rebuild",),
    ("adopt",),
    ("promote",),
    ("drop",),
    ("backfill",),
    ("dlq", "redrive"),
    ("dlq", "discard"),
    ("archive", "prune"),
)


def commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group, by its words."""
    if within := getattr(command, "commands", None):
        for name, each in within.items():
            yield from commands(each, *path, name)
    else:
        yield path, command


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", WRITING, ids=" ".join)
def test_a_command_that_writes_previews_unless_told_to_execute(path):
    (execute,) = [each for each in ALL[path].params if "--execute" in each.opts]
    assert execute.default is False


def test_no_other_command_has_a_preview_that_this_file_does_not_know():
    with_preview = {path for path, command in ALL.items() if any("--execute" in each.opts for each in command.params)}
    assert with_preview == set(WRITING)
