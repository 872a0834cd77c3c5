"""docs/runbook/: every command of its pages is typed by a test of that night, and exists; what its pages show is of today."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from interest import TriggerPolicy
from pipelines.nearline import NEEDS_A_PERSON
from pipelines.options import FROM_ENVIRONMENT, NearlineSettings
from pipelines.rebuild import CountsDiffer
from store.client import StoreUnavailable
from tests.integration import readme

ROOT = readme.ROOT
RUNBOOK = ROOT / "docs" / "runbook"
TESTS = ROOT / "tests"
TYPED_BY = {
    "README.md": ("test_operations.py",),
    "night-1-bad-model.md": ("test_night_1_bad_model.py",),
    "night-2-job-was-down.md": ("test_night_2_job_was_down.py",),
    "night-3-store-lost.md": ("test_night_3_store_lost.py", "test_rebuild_users.py"),
    "night-4-bad-producer.md": ("test_night_4_bad_producer.py", "test_rebuild_users.py"),
    "night-5-new-threshold-or-model.md": ("test_night_5_threshold.py",),
    "night-6-backfill.md": ("test_night_6_backfill.py",),
}
"""Page -> the tests that read its commands from it and type them in its order, to the last (pages.py fails where one is left)."""
UPGRADES = "upgrades.md"
UPGRADED_BY = (
    "integration/test_adopt.py",
    "integration/test_more_partitions.py",
    "integration/test_night_1_bad_model.py",
    "cli/test_models.py",
)
"""Whose commands are no story in one order: each is one that a test of these types, with the same options."""
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
    assert sorted([*TYPED_BY, UPGRADES]) == [page.name for page in PAGES]
    assert len(COMMANDS) > 30
    for page, tests in TYPED_BY.items():
        for test in tests:
            source = (TESTS / "integration" / test).read_text()
            assert f'("{page.removesuffix(".md")}"' in source, test
            assert ".finish()" in source, test


OF_UPGRADES = [command for page, command in COMMANDS if page == UPGRADES]


@pytest.mark.parametrize("command", OF_UPGRADES)
def test_a_command_of_an_upgrade_is_typed_by_a_test(command: str):
    words, options = names_of(command)
    if " ".join(["aigq", *words]) in JOB:
        words = []
    for name in UPGRADED_BY:
        typed = source_of(name)
        if all(f'"{word}"' in typed for word in words) and all(re.search(rf"{each}\b", typed) for each in options):
            return
    pytest.fail(f"none of {UPGRADED_BY} types {words} with {options}")


def test_what_is_exported_is_taken_from_the_environment():
    exported = [command.split()[1:] for _, command in COMMANDS if command.startswith("export ")]
    names = {word.partition("=")[0] for words in exported for word in words}
    assert names
    assert names <= {f"AIGQ_{name.upper()}" for name in FROM_ENVIRONMENT}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_policies_and_models_of_a_page_are_those_of_today(page: Path):
    """The default policy or one that a command of the page makes; the shipped model or the next one, which the page tries."""
    text = page.read_text("utf-8")
    drifts = [float(drift) for drift in re.findall(r"--trigger_drift=([\d.]+)", text)]
    known = {TriggerPolicy().version, *(TriggerPolicy(drift=drift).version for drift in drifts)}
    said = {each for each in re.findall(r"\b[0-9a-f]{8}\b", text) if re.search("[a-f]", each) or each in known}
    assert said <= known
    served = int(json.loads((ROOT / "models" / "aigq-small" / "CURRENT").read_text())["version"])
    behind = re.findall(r"aigq-small/(\d+) +│[^\n]*│ folder is gone", text)
    assert {int(each) for each in re.findall(r"aigq-small/(\d+)", text)} <= {served, served + 1, *map(int, behind)}


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
