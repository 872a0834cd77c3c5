"""Which commands write, and which of them say first what they would do (tried in tests/integration/test_ranks.py)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
"""They change what shoppers get, or what is kept: a preview unless --execute is given."""
AT_ONCE = (
    ("models", "publish"),
    ("models", "promote"),
    ("models", "rollback"),
    ("models", "revoke"),
    ("runs", "pause"),
    ("runs", "resume"),
    ("runs", "cancel"),
    ("archive", "snapshot"),
    ("run", "nearline"),
    ("run", "archive"),
    ("import-log",),
)
"""They write to store, topics, archive or models at once, by nature."""
RUNBOOK = (Path(__file__).parents[2] / "docs" / "runbook" / "README.md").read_text("utf-8")


def commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group, by its words."""
    if within := getattr(command, "commands", None):
        for name, each in within.items():
            yield from commands(each, *path, name)
    else:
        yield path, command


ALL = dict(commands(typer.main.get_command(app)))


def test_no_other_command_has_a_preview_that_this_file_does_not_know():
    with_preview = {path for path, command in ALL.items() if any("--execute" in each.opts for each in command.params)}
    assert with_preview == set(WRITING)


def test_the_runbook_names_what_writes_at_once():
    assert set(AT_ONCE) <= ALL.keys()
    said = RUNBOOK.partition("**A preview first.**")[2].partition("\n- ")[0]
    assert [" ".join(path) for path in AT_ONCE if f"`{' '.join(path)}`" not in said] == []
