"""A version's name means one model for good, the current version can be followed, and the way back is remembered."""

import json
import shutil
from pathlib import Path
from threading import Thread

import pytest

from inference.model_bundle import BadBundle, digest
from inference.model_versions import (
    NoWayBack,
    Promotion,
    latest,
    promote,
    promotions,
    publish,
    roll_back,
    versions,
    way_back,
)
from training.tiny import random_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return random_bundle(tmp_path_factory.mktemp("bundle") / "tiny").path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


@pytest.fixture
def models(bundle: Path, tmp_path: Path) -> Path:
    """Three versions, none of them promoted."""
    for version in ("1", "2", "3"):
        edit(bundle / "card.json", version=version)
        publish(bundle, tmp_path / "models")
    return tmp_path / "models"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def served(models: Path) -> tuple[str, int]:
    now = latest(models, "tiny")
    assert now is not None
    return now.version, now.promotion


def test_a_versions_name_is_never_used_again_even_when_its_folder_is_gone(bundle: Path, tmp_path: Path):
    published = publish(bundle, tmp_path / "models")
    assert published.digest == digest(bundle)
    shutil.rmtree(published.path)
    with pytest.raises(BadBundle, match="published before"):
        publish(bundle, tmp_path / "models")


def test_the_current_version_is_followed_and_every_change_raises_the_promotion(models: Path):
    assert latest(models, "tiny") is None
    first = promote(models, "tiny", "1")
    assert (first.version, first.promotion, first.path) == ("tiny/1", 1, str(models / "tiny" / "1"))
    assert promote(models, "tiny", "1") == first
    assert promote(models, "tiny", "2").promotion == 2
    assert promote(models, "tiny", "1").promotion == 3
    assert latest(models, "tiny") == promote(models, "tiny", "1")


def test_a_version_whose_files_were_changed_is_not_promoted(models: Path):
    edit(models / "tiny" / "1" / "generation_config.json", do_sample=True)
    with pytest.raises(BadBundle, match="is not the published"):
        promote(models, "tiny", "1")


def test_an_unpublished_version_is_not_promoted(models: Path):
    with pytest.raises(BadBundle, match="no model bundle"):
        promote(models, "tiny", "9")


def test_a_roll_back_leads_to_the_version_that_served_before_under_a_higher_promotion(models: Path):
    promote(models, "tiny", "1")
    promote(models, "tiny", "3", "new samples")
    promote(models, "tiny", "2")
    assert roll_back(models, "tiny", "worse lists").version == "tiny/3"
    assert served(models) == ("tiny/3", 4)
    history = promotions(models, "tiny")
    assert [(each.promotion, each.version, each.why, each.back_to) for each in history] == [
        (1, "1", "", 0),
        (2, "3", "new samples", 0),
        (3, "2", "", 0),
        (4, "3", "worse lists", 2),
    ]
    assert all(each.at.endswith("Z") for each in history)


def test_a_second_roll_back_goes_further_back_and_never_to_the_version_that_was_given_up(models: Path):
    for version in ("1", "2", "3"):
        promote(models, "tiny", version)
    assert [roll_back(models, "tiny").version for _ in range(2)] == ["tiny/2", "tiny/1"]
    with pytest.raises(NoWayBack, match=r"served before the present one.*aigq models promote VERSION .*here: 2, 3"):
        roll_back(models, "tiny")
    assert served(models) == ("tiny/1", 5)
    promote(models, "tiny", "3")
    assert roll_back(models, "tiny").version == "tiny/1"


def test_there_is_no_way_back_from_nothing():
    assert way_back([]) is None
    assert way_back([Promotion(1, "1")]) is None


def test_a_version_that_cannot_serve_is_not_rolled_back_to(models: Path):
    promote(models, "tiny", "1")
    promote(models, "tiny", "2")
    shutil.rmtree(models / "tiny" / "1")
    gone = r"version 1 served before \(promotion 1\) and cannot serve now: .*its folder is gone"
    with pytest.raises(NoWayBack, match=rf"{gone}.*aigq models promote VERSION .*here: 3"):
        roll_back(models, "tiny")
    shutil.rmtree(models / "tiny" / "3")
    alone = r"No other version's folder is in .*tiny/2 goes on serving.*--stages=track.*aigq models publish FOLDER"
    with pytest.raises(NoWayBack, match=rf"{gone}.*{alone}.*names used before: 1, 2, 3"):
        roll_back(models, "tiny")
    assert served(models) == ("tiny/2", 2)


def test_without_a_history_a_roll_back_explains_and_the_next_promotion_begins_one(models: Path):
    promote(models, "tiny", "1")
    promote(models, "tiny", "2")
    (models / "tiny" / "PROMOTIONS.json").unlink()
    with pytest.raises(NoWayBack, match="knows of no version that served before"):
        roll_back(models, "tiny")
    promote(models, "tiny", "3")
    assert roll_back(models, "tiny").version == "tiny/2"


def test_current_holds_against_a_history_that_was_noted_and_never_made(models: Path):
    """A crash between the two files, or a CURRENT written by hand."""
    promote(models, "tiny", "1")
    before = (models / "tiny" / "CURRENT").read_text()
    promote(models, "tiny", "2")
    (models / "tiny" / "CURRENT").write_text(before)
    assert [each.version for each in promotions(models, "tiny")] == ["1"]
    assert promote(models, "tiny", "3").promotion == 2
    assert [each.version for each in promotions(models, "tiny")] == ["1", "3"]
    (models / "tiny" / "CURRENT").write_text('{"version": "2", "promotion": 7}')
    assert [(each.promotion, each.version) for each in promotions(models, "tiny")] == [(1, "1"), (2, "3"), (7, "2")]
    assert roll_back(models, "tiny").promotion == 8


def test_two_promotions_at_once_do_not_share_a_number(models: Path):
    threads = [Thread(target=promote, args=(models, "tiny", version)) for version in ("1", "2", "3") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = promotions(models, "tiny")
    assert [each.promotion for each in history] == list(range(1, len(history) + 1))
    assert served(models) == (f"tiny/{history[-1].version}", len(history))


def test_all_versions_are_listed_with_what_became_of_them(models: Path):
    promote(models, "tiny", "1")
    promote(models, "tiny", "2")
    roll_back(models, "tiny")
    shutil.rmtree(models / "tiny" / "3")
    listed = {each.version: each for each in versions(models, "tiny")}
    assert list(listed) == ["1", "2", "3"]
    assert (listed["1"].promotions, listed["1"].serves) == ((1, 3), True)
    assert (listed["2"].promotions, listed["2"].serves) == ((2,), False)
    assert listed["2"].card is not None
    assert listed["3"].card is None
    with pytest.raises(BadBundle, match="no version of small was published"):
        versions(models, "small")
