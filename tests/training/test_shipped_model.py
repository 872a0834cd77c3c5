"""The bundle in models/ is what was published, serves, and writes lists for shoppers it has never seen."""

from collections import Counter
from pathlib import Path

import pytest

from bench.unseen import unseen_cases
from inference.allow_list import FILE_NAME, AllowList
from inference.allowed_prefixes import Prefixes
from inference.model_bundle import ModelBundle
from inference.model_versions import latest, promote
from inference.output import QueryList, QueryRules, normalise, parse_list
from training.decode import greedy
from training.decoder import load_decoder
from training.rankers.model import prompts_of

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
    assert sum(file.stat().st_size for file in shipped.path.iterdir()) < 10_000_000


def test_its_lists_are_valid_and_hit_what_the_most_popular_queries_miss(shipped: ModelBundle):
    """A spot check; docs/results/shipped has the shares over a whole market."""
    cases = unseen_cases(9, 150)[:120]
    allowed = AllowList.read(shipped.path / FILE_NAME)
    prefixes = Prefixes.of(allowed, shipped.tokenizer)
    outputs = greedy(load_decoder(shipped), shipped.tokenizer, prompts_of(shipped, cases), allowed=prefixes)
    parsed = [parse_list(text, QueryRules(), "stop" if ended else "length") for text, ended in outputs]
    lists = [[normalise(q) for q in each.queries] if isinstance(each, QueryList) else [] for each in parsed]
    assert all(lists)
    popular = {q for q, _ in Counter(q for case in cases for q in case.later).most_common(10)}
    beyond = sum(case.next in queries and case.next not in popular for case, queries in zip(cases, lists, strict=True))
    assert beyond >= 0.05 * len(cases)


def test_its_card_says_what_it_hits(shipped: ModelBundle):
    metrics = shipped.card.metrics
    assert metrics["valid_lists"] >= 0.995
    assert metrics["hr_10"] > metrics["popularity_hr_10"]
