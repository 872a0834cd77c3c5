"""Slots mined from a log, and queries composed of them."""

import ast
from pathlib import Path

import pytest

import training.rankers.slots
import training.rankers.template
from inference.output import normalise
from tests.training.rankers.small_market import (
    check_lists,
    check_no_peeking_and_again,
    hit_rate,
    popularity_hit_rate,
    small,
)
from tests.training.rankers.small_world import BRANDS, FEATURES, TERMS
from training.rankers.template import Template


@pytest.fixture(scope="module")
def fitted() -> Template:
    ranker = Template()
    ranker.fit(small().log)
    return ranker


def test_it_beats_popularity_clearly(fitted: Template):
    check_lists(fitted, small().cases[:50])
    assert hit_rate(fitted, small().cases) > 2 * popularity_hit_rate()


def test_it_knows_the_market_from_its_log_alone():
    for module in (training.rankers.template, training.rankers.slots):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
        names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in names if name.startswith("simulation")]


def test_heads_of_the_common_categories_are_found(fitted: Template):
    found = [fitted.slots.heads.get(name, ("",))[0] == normalise(term) for name, term in TERMS.items()]
    assert sum(found) >= len(TERMS) - 3


def test_brands_and_attributes_are_told_apart(fitted: Template):
    for brand in BRANDS:
        assert fitted.slots.modifiers[brand] == "b"
    for attribute in FEATURES:
        assert fitted.slots.modifiers[attribute] == "a"


def test_a_query_is_read_into_its_parts(fitted: Template):
    parsed = fitted.slots.parse("hp refurbished laptop")
    assert parsed is not None
    assert (parsed.category, parsed.form, parsed.brand, parsed.attribute) == ("Laptops", "bah", "hp", "refurbished")
    assert fitted.slots.parse("zzz qqq") is None


def test_it_composes_queries_that_nobody_has_searched(fitted: Template):
    log = small().log
    searched = {log.texts[i] for i in log.text[log.is_search]}
    made = {query for row in fitted.rank(small().cases[:200], 30) for query in row}
    assert made - searched


def test_the_future_and_a_second_fit_change_nothing(fitted: Template):
    check_no_peeking_and_again(Template, fitted, small().cases[:100])
