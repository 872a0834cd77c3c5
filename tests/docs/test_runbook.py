"""docs/runbook/: every command of its pages is one that a test of that night types, with the same options; and exists."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from pipelines.nearline import NEEDS_A_PERSON
from pipelines.options import FROM_ENVIRONMENT, NearlineSettings
from pipelines.rebuild import CountsDiffer
from store.client import StoreUnavailable
from tests.integration import readme

ROOT = readme.ROOT
RUNBOOK = ROOT / "docs" / "runbook"
TESTS = ROOT / "tests"
TYPED_BY = {
    "README.md": ("integration/test_operations.py", "pipelines/test_options.py"),
    "night-1-bad-model.md": ("integration/test_night_1_bad_model.py", "cli/test_models.py"),
    "night-2-job-was-down.md": ("integration/test_night_2_job_was_down.py",),
    "night-3-store-lost.md": ("integration/test_night_3_store_lost.py", "integration/test_rebuild_users.py"),
    "night-4-bad-producer.md": (
        "integration/test_night_4_bad_producer.py",
        "integration/test_dlq.py",
        "integration/test_rebuild_users.py",
    ),
    "night-5-new-threshold-or-model.md": ("integration/test_night_5_threshold.py",),
    "night-6-backfill.md": ("integration/test_night_6_backfill.py", "integration/test_operations.py"),
    "upgrades.md": (
        "integration/test_adopt.py",
        "integration/test_more_partitions.py",
        "integration/test_night_1_bad_model.py",
        "cli/test_models.py",
    ),
}
"""Page -> the tests that type its commands."""
JOB = {
    "aigq run nearline": "the job itself: the tests start it by the module that the command starts, pipelines.nearline"
}
PAGES = sorted(RUNBOOK.glob("*.md"))
COMMANDS = [(page.name, command) for page in PAGES for command in readme.commands(page.read_text("utf-8"))]


def names_of(command: str) -> tuple[list[str], list[str]]:
    """Its words, as `dlq list`, and its options."""
    words = shlex.split(command)[1:]
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    groups = {"dlq", "models", "runs", "run", "archive"}
    return words[: 2 if words[0] in groups else 1], options


def source_of(test: str) -> str:
    """Of the test's file, and of the helpers in its folder that type for it."""
    source = (TESTS / test).read_text()
    helpers = re.findall(r"^from tests\.integration\.(\w+) import", source, re.MULTILINE)
    return "\n".join([source, *((TESTS / "integration" / f"{name}.py").read_text() for name in helpers)])


def test_every_page_has_its_tests():
    assert sorted(TYPED_BY) == [page.name for page in PAGES]
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command}" for page, command in COMMANDS])
def test_a_command_of_a_page_is_typed_by_a_test_of_that_night(page: str, command: str):
    if command.startswith("export "):
        assert {word.partition("=")[0] for word in command.split()[1:]} <= {
            f"AIGQ_{n.upper()}" for n in FROM_ENVIRONMENT
        }
        return
    words, options = names_of(command)
    if " ".join(["aigq", *words]) in JOB:
        words = []
    for name in TYPED_BY[page]:
        typed = source_of(name)
        if all(f'"{word}"' in typed for word in words) and all(re.search(rf"{each}\b", typed) for each in options):
            return
    pytest.fail(f"none of {TYPED_BY[page]} types {words} with {options}")


@pytest.mark.parametrize("command", sorted({command for _, command in COMMANDS if command.startswith("aigq ")}))
def test_a_command_of_a_page_exists_with_its_options(command: str):
    words, options = names_of(command)
    asked = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "300"})
    assert asked.exit_code == 0, asked.output
    known = set(re.findall(r"--[a-z_-]+", asked.output)) | {
        f"--{name}" for name in NearlineSettings.__dataclass_fields__
    }
    assert set(options) <= known | {"--runner"}


def test_what_needs_a_person_is_found_by_its_name():
    def kinds_below(kind: type[Exception]) -> set[str]:
        return {kind.__name__}.union(*(kinds_below(each) for each in kind.__subclasses__()))

    stays_down = set().union(*map(kinds_below, (*NEEDS_A_PERSON, StoreUnavailable, CountsDiffer))) - {"ReadRefused"}
    table = (RUNBOOK / "README.md").read_text("utf-8").partition("\n## ")[0]
    assert set(re.findall(r"`([A-Z][A-Za-z]+)`", table)) == stays_down


def test_what_status_and_log_say_is_found_by_its_words():
    table = (RUNBOOK / "README.md").read_text("utf-8").partition("\n## ")[0]
    column = "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| "))
    said = [words for words in re.findall(r"`([^`]+)`", column) if " " in words]
    assert len(said) >= 5
    sources = "\n".join(
        path.read_text() for folder in ("serving", "transforms") for path in (ROOT / folder).glob("*.py")
    )
    assert [words for words in said if words not in sources] == []


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_command_in_the_text_of_a_page_exists(page: Path):
    for said in re.findall(r"`aigq ([^`]+)`", page.read_text("utf-8")):
        words, _ = names_of(f"aigq {said}")
        asked = CliRunner().invoke(app, [*words, "--help"])
        assert asked.exit_code == 0, said
