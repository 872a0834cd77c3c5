"""`aigq WORDS` as a person types it, in this process: what it prints, and that it exits as it should."""

import sys
from pathlib import Path

from typer.testing import CliRunner

from cli import app
from cli.exits import exit_status

ROOT = Path(__file__).parents[2]


def typed(*words: str, exits: int = 0) -> str:
    ran = CliRunner().invoke(app, words, env={"COLUMNS": "250"})
    error = ran.exception
    known = exit_status(error) if isinstance(error, Exception) else None  # as cli.main takes them
    ended_with = ran.exit_code if known is None else known
    assert ended_with == exits, f"aigq {' '.join(words)}: {ended_with}: {ran.output} {error!r}"
    return ran.output if known is None else f"{ran.output}{error}"


def as_process(*words: str) -> list[str]:
    """The same as a process of its own, to be killed or watched; from `ROOT`."""
    return [sys.executable, "-m", "cli", *words]
