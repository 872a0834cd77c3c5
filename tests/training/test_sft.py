"""The training: the loss looks at answers and searches alone, padding changes nothing, and seconds of it make a bundle that opens."""

from dataclasses import replace
from random import Random

import pytest
import torch

from inference.model_bundle import ModelBundle
from inference.vocabulary import END
from training.decode import greedy
from training.decoder import load_decoder
from training.evaluate import evaluate, record, report
from training.next_token import Batch, batches, encode, losses
from training.samples import Sample
from training.sft import COOLING, Recipe, schedule, train
from training.tiny import random_bundle

HISTORY = "Behaviours: {<1><days_ago><search> hp laptop;;<2><now><click> hp laptops;;<3><now><search> dell}<list>"
SAMPLES = [Sample(HISTORY, " dell laptop;; hp"), Sample("Please<list>", " dell")]
RECIPE = Recipe(
    shoppers=60, days=40, samples_each=5, vocabulary=600, hidden=64, layers=1, batch_tokens=1_024, threads=1
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> ModelBundle:
    return random_bundle(tmp_path_factory.mktemp("bundle"))


def batches_of(samples: list[Sample], bundle: ModelBundle) -> list[Batch]:
    return list(batches(encode(samples, bundle.tokenizer), bundle.tokenizer, 4_096, Random(1)))


def predicted(inputs: torch.Tensor, targets: torch.Tensor, bundle: ModelBundle) -> str:
    """The text of one row's targets, each of which must be the next input."""
    places = (targets != -100).nonzero().flatten()
    assert inputs[places + 1].tolist() == targets[places].tolist()
    return bundle.tokenizer.decode(targets[places].tolist(), skip_special_tokens=False)


def test_targets_are_the_answers_tokens_and_the_searches_and_nothing_else(bundle: ModelBundle):
    (batch,) = batches_of(SAMPLES, bundle)
    rows = zip(batch.inputs, batch.answers, batch.searches, strict=True)
    found = {(predicted(row, answer, bundle), predicted(row, told, bundle)) for row, answer, told in rows}
    assert found == {(f" dell laptop;; hp{END}", " hp laptop;; dell}"), (f" dell{END}", "")}


def test_padding_changes_no_loss(bundle: ModelBundle):
    model = load_decoder(bundle)
    together = losses(model, *batches_of(SAMPLES, bundle))
    alone = [losses(model, *batches_of([sample], bundle)) for sample in SAMPLES]
    lengths = [len(row.answer) for row in encode(SAMPLES, bundle.tokenizer)]
    expected = sum(answer * n for (answer, _), n in zip(alone, lengths, strict=True)) / sum(lengths)
    assert torch.allclose(together[0], torch.as_tensor(expected), atol=1e-5)
    assert torch.allclose(together[1], alone[0][1], atol=1e-5)


def test_batches_hold_every_sample_once_and_keep_their_size(bundle: ModelBundle):
    rng = Random(1)
    samples = [Sample("x" * rng.randint(1, 40) + "<list>", "y" * rng.randint(1, 20)) for _ in range(300)]
    encoded = encode(samples, bundle.tokenizer)
    made = list(batches(encoded, bundle.tokenizer, 512, rng))
    assert sorted(prompt for batch in made for prompt in batch.prompts) == sorted(row.prompt for row in encoded)
    assert all(batch.inputs.numel() <= 512 for batch in made)


@pytest.mark.parametrize("last", [0.0, 0.1])
def test_the_learning_rate_rises_and_ends_near_zero(last: float):
    assert schedule(0.02, 0.04, last) == pytest.approx(0.5)
    assert schedule(0.04, 0.04, last) == pytest.approx(1.0)
    assert schedule(1.0, 0.04, last) == pytest.approx(0.0)


def test_repeats_are_unlearned_while_the_rate_cools_from_where_it_was():
    assert schedule(0.9 - 1e-9, 0.04, 0.1) == pytest.approx(COOLING)
    assert schedule(0.9, 0.04, 0.1) == pytest.approx(COOLING)


def test_greedy_decoding_does_not_depend_on_its_batch(bundle: ModelBundle):
    model = load_decoder(bundle)
    prompts = [sample.prompt for sample in SAMPLES]
    together = greedy(model, bundle.tokenizer, prompts)
    assert together == [greedy(model, bundle.tokenizer, [prompt])[0] for prompt in prompts]


def test_a_training_makes_a_bundle_that_opens_and_can_be_measured(tmp_path):
    bundle = train(tmp_path / "bundle", seed=5, recipe=replace(RECIPE, unlearn=0.5))
    metrics = bundle.card.metrics
    assert bundle.card.recipe["paced_by"] == "samples"
    assert 0 < metrics["answer_loss"] < 7
    assert 0 < metrics["history_loss"] < 7
    assert metrics["repeat_loss"] >= 0
    assert 0 <= metrics["own_lists_distinct"] <= 1
    found = evaluate(bundle.path, shoppers=20, out=tmp_path / "results")
    assert found.cases > 10
    assert {row.name for row in found.rows} >= {"model", "popularity", "own queries again", "bigram"}
    for row in found.rows:
        assert row.hr_10.low <= row.hr_10.value <= row.hr_10.high
    assert record(bundle.path, found).card.metrics["valid_lists"] == found.valid_lists
    assert "Simulated shoppers, not real ones" in report(found)
    assert (tmp_path / "results" / "model.md").read_text() == report(found)


def test_a_run_that_its_samples_pace_is_repeated_to_the_bit(tmp_path):
    recipe = replace(RECIPE, samples=40, unlearn=0.5)
    one, again = (train(tmp_path / folder, seed=5, recipe=recipe) for folder in ("one", "again"))
    assert (one.card.recipe["samples_seen"], one.card.recipe["paced_by"]) == (40, "samples")
    assert one.digest == again.digest
    assert train(tmp_path / "other", seed=6, recipe=recipe).digest != one.digest


def test_minutes_end_a_run_too_and_its_card_says_so(tmp_path):
    recipe = replace(RECIPE, minutes=1e-9)
    card = train(tmp_path, seed=5, recipe=recipe).card
    assert card.recipe["paced_by"] == "minutes"
    assert card.recipe["steps"] == 1
    assert "repeat_loss" not in card.metrics
