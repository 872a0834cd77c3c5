"""Feedback first, then the model's own likeliest queries; a call that was cut off goes on."""

import training  # noqa: F401, I001  (before torch: see its docstring)

from pathlib import Path

import pyarrow as pa
import pytest

from inference.allow_list import AllowedQuery, AllowList
from inference.output import normalise
from tests.training.small_samples import QUERIES, write_samples
from training.generate_labels import Teacher, by_model, by_ranker, extended, generate_labels, together
from training.likeliest import Likely
from training.sample_files import read_direct
from training.tiny import random_bundle

ALLOWED = AllowList.of(AllowedQuery(query, query, 9) for query in QUERIES)


def test_feedback_stands_first_and_what_says_the_same_stands_once():
    likely = [Likely("dell dock", -1.0), Likely("hp bag", -2.0), Likely("acer mouse", -3.0), Likely("asus mouse", -4.0)]
    made = extended(["hp dock", "bag hp", "dell bag"], ["click", "search", "ranked"], likely, feedback=2)
    assert made.labels[:2] == ("hp dock", "bag hp")
    assert made.label_from == ("click", "search", "generated", "generated", "generated")
    assert made.labels[2:] == ("dell dock", "acer mouse", "asus mouse"), (
        "the ranker's label is gone, the model's order kept"
    )


def test_without_feedback_the_list_is_the_models():
    made = extended(["dell bag"], ["ranked"], [Likely("hp dock", -1.0), Likely("acer mouse", -3.0)])
    assert made.labels == ("hp dock", "acer mouse")


def test_every_sample_is_kept_with_a_full_list_of_allowed_queries(tmp_path: Path):
    samples = write_samples(tmp_path / "samples", count=40)
    bundle = random_bundle(tmp_path / "model")
    counts = generate_labels(samples, by_model(bundle, ALLOWED), tmp_path / "out")
    before, made = read_direct(samples, "train"), read_direct(tmp_path / "out", "train")
    assert [(s.user, s.prompt, s.behaviours) for s in made] == [(s.user, s.prompt, s.behaviours) for s in before]
    assert all(len(s.labels) == 10 and set(s.label_from) == {"generated"} for s in made)
    assert {normalise(query) for s in made for query in s.labels} <= ALLOWED.queries
    assert (counts.samples, counts.labels, counts.generated) == (40, 400, 400)

    (file,) = tmp_path.glob("out/direct/split=train/*.parquet")
    written = file.stat().st_mtime_ns
    assert generate_labels(samples, by_model(bundle, ALLOWED), tmp_path / "out") == counts
    assert file.stat().st_mtime_ns == written, "what is there is not made again"


def test_a_folder_without_samples_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="aigq samples"):
        generate_labels(tmp_path, lambda table: [], tmp_path / "out")


def test_some_of_the_samples_are_the_same_ones_every_time(tmp_path: Path):
    samples, bundle = write_samples(tmp_path / "samples", count=40), random_bundle(tmp_path / "model")
    assert generate_labels(samples, by_model(bundle, ALLOWED), tmp_path / "a", most=7).samples == 7
    generate_labels(samples, by_model(bundle, ALLOWED), tmp_path / "b", most=7)
    assert read_direct(tmp_path / "a", "train") == read_direct(tmp_path / "b", "train")


class Newest:
    """Ranks queries of the newest behaviour's brand first, and one that nobody may be shown before all."""

    name = "newest"

    def fit(self, log) -> None: ...

    def rank(self, cases, count):
        brands = [case.seen[-1].text.split()[0] for case in cases]
        return [
            ("a secret", *sorted(QUERIES, key=lambda query: not query.startswith(brand)))[:count] for brand in brands
        ]


def test_a_contender_teaches_from_the_samples_own_behaviours_what_is_allowed(tmp_path: Path):
    samples = write_samples(tmp_path / "samples", count=20)
    generate_labels(samples, by_ranker(Newest(), ALLOWED), tmp_path / "out")
    for made in read_direct(tmp_path / "out", "train"):
        brand = made.behaviours[-1].text.split()[0]
        assert [label.split()[0] for label in made.labels[:7]] == [brand] * 7
        assert "a secret" not in made.labels
        assert len(made.labels) == 10


def test_two_teachers_agree_on_what_both_place_high_and_the_contender_counts_more():
    def says(*queries: str) -> Teacher:
        return lambda samples: [[Likely(query, 0.0) for query in queries]]

    (likely,) = together(says("ink", "tv", "hp ink"), says("tv", "lego", "ink"))(pa.table({}))
    assert [each.text for each in likely] == ["ink", "tv", "hp ink", "lego"]
    assert [each.log_p for each in likely] == sorted((each.log_p for each in likely), reverse=True)
