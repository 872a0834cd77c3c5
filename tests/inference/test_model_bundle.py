"""A bundle is checked whole, a version's name means one model for good, and the current version can be followed."""

import json
import shutil
from pathlib import Path

import pytest

from inference.model_bundle import BadBundle, ModelBundle, digest, latest, promote, publish
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


def test_a_versions_name_is_never_used_again_even_when_its_folder_is_gone(bundle: Path, tmp_path: Path):
    published = publish(bundle, tmp_path / "models")
    assert published.digest == digest(bundle)
    shutil.rmtree(published.path)
    with pytest.raises(BadBundle, match="published before"):
        publish(bundle, tmp_path / "models")


def test_the_current_version_is_followed_and_a_roll_back_raises_the_promotion(bundle: Path, tmp_path: Path):
    models = tmp_path / "models"
    assert latest(models, "tiny") is None
    publish(bundle, models)
    edit(bundle / "card.json", version="2")
    publish(bundle, models)
    first = promote(models, "tiny", "1")
    assert (first.version, first.promotion, first.path) == ("tiny/1", 1, str(models / "tiny" / "1"))
    assert promote(models, "tiny", "1") == first
    assert promote(models, "tiny", "2").promotion == 2
    assert promote(models, "tiny", "1").promotion == 3
    assert latest(models, "tiny") == promote(models, "tiny", "1")


def test_a_version_whose_files_were_changed_is_not_promoted(bundle: Path, tmp_path: Path):
    published = publish(bundle, tmp_path / "models")
    edit(published.path / "generation_config.json", do_sample=True)
    with pytest.raises(BadBundle, match="is not the published"):
        promote(tmp_path / "models", "tiny", "1")


def test_an_unpublished_version_is_not_promoted(tmp_path: Path):
    with pytest.raises(BadBundle, match="no model bundle"):
        promote(tmp_path / "models", "tiny", "9")
