"""The training: the loss looks at answers alone, padding changes nothing, and a minute of it makes a bundle that opens."""

from random import Random

import pytest
import torch

from inference.model_bundle import ModelBundle
from inference.vocabulary import END
from training.decode import greedy
from training.decoder import load_decoder
from training.evaluate import evaluate, record, report
from training.samples import Sample
from training.sft import Recipe, answer_loss, batches, encode, schedule, train
from training.tiny import random_bundle

SAMPLES = [Sample("Please recommend<list>", " dell laptop;; hp"), Sample("Please<list>", " dell")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> ModelBundle:
    return random_bundle(tmp_path_factory.mktemp("bundle"))


def test_targets_are_the_answers_tokens_and_nothing_else(bundle: ModelBundle):
    encoded = encode(SAMPLES, bundle.tokenizer)
    ((inputs, targets),) = batches(encoded, pad=0, batch_tokens=4_096, rng=Random(1))
    for row, target in zip(inputs, targets, strict=True):
        looked_at = target[target != -100].tolist()
        assert bundle.tokenizer.decode(looked_at, skip_special_tokens=False) in {
            f" dell laptop;; hp{END}",
            f" dell{END}",
        }
        places = (target != -100).nonzero().flatten() + 1
        assert row[places[:-1]].tolist() == looked_at[:-1]


def test_padding_changes_no_loss(bundle: ModelBundle):
    model = load_decoder(bundle)
    encoded = encode(SAMPLES, bundle.tokenizer)
    together = answer_loss(model, *next(batches(encoded, 0, 4_096, Random(1))))
    alone = [answer_loss(model, *next(batches([row], 0, 4_096, Random(1)))) for row in encoded]
    lengths = [len(answer) for _, answer in encoded]
    expected = sum(loss * n for loss, n in zip(alone, lengths, strict=True)) / sum(lengths)
    assert torch.allclose(together, expected, atol=1e-5)


def test_batches_hold_every_sample_once_and_keep_their_size():
    rng = Random(1)
    rows = [([1] * rng.randint(1, 40), [2] * rng.randint(1, 20)) for _ in range(300)]
    made = list(batches(rows, 0, 512, rng))
    assert sum(len(inputs) for inputs, _ in made) == 300
    assert all(inputs.numel() <= 512 for inputs, _ in made)


def test_the_learning_rate_rises_and_ends_near_zero():
    assert schedule(0.02, 0.04) == pytest.approx(0.5)
    assert schedule(0.04, 0.04) == pytest.approx(1.0)
    assert schedule(1.0, 0.04) == pytest.approx(0.0)


def test_greedy_decoding_does_not_depend_on_its_batch(bundle: ModelBundle):
    model = load_decoder(bundle)
    prompts = [sample.prompt for sample in SAMPLES]
    together = greedy(model, bundle.tokenizer, prompts)
    assert together == [greedy(model, bundle.tokenizer, [prompt])[0] for prompt in prompts]


def test_a_training_makes_a_bundle_that_opens_and_can_be_measured(tmp_path):
    recipe = Recipe(minutes=0.5, shoppers=30, days=30, samples_each=4, vocabulary=600, hidden=64, layers=1, threads=1)
    bundle = train(tmp_path / "bundle", seed=5, recipe=recipe)
    assert bundle.card.recipe["steps"] > 0
    found = evaluate(bundle.path, shoppers=20, out=tmp_path / "results")
    assert found.cases > 10
    assert {row.name for row in found.rows} >= {"model", "popularity", "own queries again", "bigram"}
    for row in found.rows:
        assert row.hr_10.low <= row.hr_10.value <= row.hr_10.high
    assert record(bundle.path, found).card.metrics["valid_lists"] == found.valid_lists
    assert "Simulated shoppers, not real ones" in report(found)
    assert (tmp_path / "results" / "model.md").read_text() == report(found)
