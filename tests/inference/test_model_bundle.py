"""A bundle is checked whole, and everything that is wrong with it is said at once."""

import json
import shutil
from pathlib import Path

import pytest

from inference.model_bundle import BadBundle, ModelBundle, digest
from training.tiny import random_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return random_bundle(tmp_path_factory.mktemp("bundle") / "tiny").path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_opens_with_card_and_tokenizer(bundle: Path):
    opened = ModelBundle.open(bundle)
    assert (opened.card.name, opened.card.version) == ("tiny", "1")
    assert opened.tokenizer.encode("<list>").ids == [opened.tokenizer.token_to_id("<list>")]
    assert opened.digest == digest(bundle)


def test_the_same_seed_makes_the_same_bundle(bundle: Path, tmp_path: Path):
    assert random_bundle(tmp_path / "again").digest == digest(bundle)


def test_missing_files_are_named_all_at_once(bundle: Path):
    (bundle / "card.json").unlink()
    (bundle / "model.safetensors").unlink()
    with pytest.raises(BadBundle, match=r"card\.json, model\.safetensors missing"):
        ModelBundle.open(bundle)


def test_everything_wrong_is_said_at_once(bundle: Path):
    edit(bundle / "card.json", prompt_version="0")
    edit(bundle / "config.json", architectures=["GPT2LMHeadModel"], hidden_size=32)
    edit(bundle / "generation_config.json", eos_token_id=7)
    with pytest.raises(BadBundle) as error:
        ModelBundle.open(bundle)
    for part in ("prompt version 0", "GPT2LMHeadModel", "says", "eos_token_id 7"):
        assert part in str(error.value)


def test_truncated_weights_and_a_broken_tokenizer_are_said(bundle: Path):
    (bundle / "model.safetensors").write_bytes(b"\x08\x00")
    (bundle / "tokenizer.json").write_text("{")
    with pytest.raises(BadBundle, match=r"tokenizer\.json: .*model\.safetensors: "):
        ModelBundle.open(bundle)
