"""What `aigq backfill` refuses before it looks at a store."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from pipelines.backfill import read_users

WINDOW = ("--from=2026-11-24T00:00Z", "--to=2026-11-25T00:00Z")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --from and --to"),
        (WINDOW[:1], "give --from and --to"),
        (("--from=2026-11-24T00:00", WINDOW[1]), "without zone"),
        ((WINDOW[1].replace("to", "from"), WINDOW[0].replace("from", "to")), "is empty"),
        (("--users=/nowhere",), "No such file"),
        ((*WINDOW, "--all", "--failed"), "exclude each other"),
        ((*WINDOW, "--per_second=0"), "above 0"),
    ],
)
def test_what_cannot_be_meant_is_said_with_status_2(words: tuple[str, ...], said: str):
    result = CliRunner().invoke(app, ["backfill", *words], env={"COLUMNS": "250"})
    assert result.exit_code == 2
    assert said in result.output


def test_a_file_of_shoppers_has_one_a_line(tmp_path: Path):
    (tmp_path / "users").write_text("b\n a \n\nb\nan id with spaces\n")
    assert read_users(tmp_path / "users") == ("b", "a", "an id with spaces")
