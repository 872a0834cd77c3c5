"""`aigq models ...`: what is done, what is said, and the exit status by which a script knows."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli import app
from training.tiny import random_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for version in ("1", "2"):
        random_bundle(folder / version, version=version, seed=int(version))
    return folder


@pytest.fixture
def models(bundles: Path, tmp_path: Path) -> Path:
    """Two versions, the second serves."""
    for version in ("1", "2"):
        assert aigq("publish", str(bundles / version), f"--models={tmp_path}").exit_code == 0
        assert on(tmp_path, "promote", version).exit_code == 0
    return tmp_path


def aigq(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", *words], env={"COLUMNS": "200"})


def on(models: Path, *words: str) -> Result:
    return aigq(*words, f"--models={models}", "--name=tiny")


def current(models: Path) -> dict[str, object]:
    return json.loads((models / "tiny" / "CURRENT").read_text())


def test_publishing_names_the_command_that_lets_it_serve(bundles: Path, tmp_path: Path):
    said = aigq("publish", str(bundles / "1"), f"--models={tmp_path}").stdout
    assert f"aigq models promote 1 --name tiny --models {tmp_path}" in said
    assert not (tmp_path / "tiny" / "CURRENT").exists()
    again = aigq("publish", str(bundles / "1"), f"--models={tmp_path}")
    assert (again.exit_code, "published before" in again.stderr) == (1, True)


def test_the_list_shows_what_serves_and_the_history(models: Path):
    assert on(models, "rollback", "--why=worse lists").stdout.startswith("tiny/1 serves (promotion 3)")
    said = on(models, "list").stdout
    assert "promotion 3: tiny/1 back to promotion 1  worse lists" in said
    listed = {each["version"]: each for each in json.loads(on(models, "list", "--json").stdout)}
    assert [listed[version]["serves"] for version in ("1", "2")] == [True, False]
    assert listed["1"]["promotions"] == [1, 3]


def test_show_says_whether_the_files_are_what_was_published(models: Path):
    assert "as published" in on(models, "show", "1").stdout
    (models / "tiny" / "1" / "tokenizer_config.json").write_text("{ }")
    assert "changed since it was published" in on(models, "show", "1").stdout
    refused = on(models, "promote", "1")
    assert (refused.exit_code, "is not the published" in refused.stderr) == (1, True)
    assert json.loads(on(models, "show", "2", "--json").stdout)["card"]["version"] == "2"


def test_a_roll_back_that_cannot_be_made_asks_for_a_person_and_changes_nothing(models: Path):
    shutil.rmtree(models / "tiny" / "1")
    before = current(models)
    refused = on(models, "rollback")
    assert refused.exit_code == 3
    assert "its folder is gone" in refused.stderr
    assert "aigq models promote VERSION" in refused.stderr
    assert current(models) == before


def test_two_who_give_up_the_same_version_go_back_once(models: Path, bundles: Path):
    random_bundle(bundles / "3", version="3", seed=3)
    assert aigq("publish", str(bundles / "3"), f"--models={models}").exit_code == 0
    assert on(models, "promote", "3").exit_code == 0
    assert on(models, "rollback", "--from=tiny/3").stdout.startswith("tiny/2 serves (promotion 4)")
    before = current(models)
    second = on(models, "rollback", "--from=3")
    assert second.exit_code == 3
    assert "tiny/3 no longer serves: tiny/2 does since 20" in second.stderr
    assert "aigq models revoke 3" in second.stderr
    assert current(models) == before


def test_a_revocation_names_what_it_revokes(models: Path):
    before = current(models)
    refused = on(models, "rollback", "--revoke")
    assert (refused.exit_code, "--from=VERSION" in refused.stderr) == (2, True)
    assert current(models) == before


@pytest.mark.parametrize(
    "words",
    [("promote", "9"), ("show", "9"), ("list", "--name=none"), ("rollback", "--name=none"), ("rollback", "--from=9")],
)
def test_a_version_or_model_that_never_was_is_a_wrong_argument(models: Path, words: tuple[str, ...]):
    refused = aigq(words[0], *words[1:], *([] if "--name=none" in words else ["--name=tiny"]), f"--models={models}")
    assert refused.exit_code == 2


def test_the_version_that_serves_is_not_revoked(models: Path):
    refused = on(models, "revoke", "2")
    assert (refused.exit_code, "aigq models rollback" in refused.stderr) == (3, True)
