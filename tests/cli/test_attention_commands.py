"""Every command that a line of `aigq status` names exists, with every option that it names."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import serving.attention
from cli import app
from pipelines.options import NearlineSettings

SOURCE = Path(serving.attention.__file__).read_text()
NAMED = sorted(set(re.findall(r"aigq ((?:[a-z]+ )?[a-z]+)\b", SOURCE)))


def help_of(words: str) -> str:
    """Empty where there is no such command."""
    asked = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": "300"})
    return asked.stdout if asked.exit_code == 0 else ""


def test_they_are_found():
    assert {"dlq list", "models rollback", "run nearline", "status"} <= set(NAMED)
    assert not help_of("models dance")


@pytest.mark.parametrize("words", NAMED)
def test_a_named_command_exists(words: str):
    assert help_of(words)


def test_the_named_options_exist():
    known = {"runner", *NearlineSettings.__dataclass_fields__}
    for words in NAMED:
        known |= set(re.findall(r"--([a-z_]+)", help_of(words)))
    named = set(re.findall(r"--([a-z_]+)", SOURCE))
    assert len(named) >= 8
    assert named <= known
