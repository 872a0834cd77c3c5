"""The bundle in models/ is what was published, serves, and writes lists for shoppers it has never seen."""

from pathlib import Path

import pytest

from inference.model_bundle import ModelBundle
from inference.model_versions import latest, promote
from inference.output import QueryList, QueryRules, parse_list
from training.decode import greedy
from training.decoder import load_decoder
from training.evaluate import HELD_OUT, held_out

MODELS = Path(__file__).parents[2] / "models"
NAME = "aigq-small"


@pytest.fixture(scope="module")
def shipped() -> ModelBundle:
    current = latest(MODELS, NAME)
    assert current is not None
    return ModelBundle.open(current.path)


def test_the_shipped_version_is_the_published_one(shipped: ModelBundle):
    current = latest(MODELS, NAME)
    assert promote(MODELS, NAME, shipped.card.version) == current


def test_it_is_small_enough_for_git(shipped: ModelBundle):
    assert sum(file.stat().st_size for file in shipped.path.iterdir()) < 12_000_000


def test_nearly_all_its_greedy_outputs_are_lists(shipped: ModelBundle):
    """A spot check of 60; docs/results/model.md has the shares over all."""
    tested = held_out(shipped.card.seed + HELD_OUT, 40, int(shipped.card.recipe["days"]))[:60]
    outputs = greedy(load_decoder(shipped), shipped.tokenizer, [case.prompt() for case in tested])
    parsed = [parse_list(text, QueryRules(), "stop" if ended else "length") for text, ended in outputs]
    assert sum(isinstance(p, QueryList) for p in parsed) >= 0.93 * len(tested)


def test_its_card_says_what_it_hits(shipped: ModelBundle):
    metrics = shipped.card.metrics
    assert metrics["valid_lists"] >= 0.99
    assert metrics["whole_lists"] >= 0.95
    assert metrics["hr_10"] > 2.5 * metrics["popularity_hr_10"]
