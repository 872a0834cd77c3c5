"""What a model finds likeliest, as a contender: from its allow-list alone, each query once, the same each time."""

from pathlib import Path

import pytest

from inference.allow_list import FILE_NAME, AllowedQuery, AllowList
from schemas import Behaviour
from training.log import Case
from training.rankers.likeliest import Likeliest
from training.tiny import random_bundle

QUERIES = ("laptop", "laptop sleeve", "tripod", "tv", "camera bag", "phone case")


def case(*texts: str) -> Case:
    seen = tuple(Behaviour(1_000 * i, i, "search", text, "") for i, text in enumerate(texts))
    return Case("u", 60_000, {}, seen, "", ())


def test_queries_are_of_the_allow_list_and_distinct(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path)
    AllowList.of([AllowedQuery(q, q, 9) for q in QUERIES]).write(bundle.path / FILE_NAME)
    ranker = Likeliest(bundle, "mine")
    cases = [case("laptop"), case("tv", "tv mount"), case("laptop")]
    lists = ranker.rank(cases, 4)
    assert ranker.name == "mine"
    assert [len(set(each)) for each in lists] == [4, 4, 4]
    assert all(set(each) <= set(QUERIES) for each in lists)
    assert lists[0] == lists[2] == ranker.rank(cases[:1], 4)[0]
    assert [set(each) for each in ranker.rank(cases, 30)] == [set(QUERIES)] * 3


def test_a_bundle_without_an_allow_list_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="aigq allow-list --out"):
        Likeliest(random_bundle(tmp_path))
