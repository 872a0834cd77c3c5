"""Batches hold what was planned, and the loss looks at answers and histories alone, whatever stands beside them."""

from random import Random

import numpy as np
import pytest
import torch
from torch.nn import functional

from inference.model_bundle import ModelBundle
from inference.vocabulary import PAD, token_id
from training.bucket import ANSWER, HISTORY, Row, batch_of, digest, losses, plan
from training.decoder import load_decoder
from training.tiny import random_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> ModelBundle:
    return random_bundle(tmp_path_factory.mktemp("bundle"))


def row(rng: Random, prompt: int, answer: int) -> Row:
    tokens = np.array([rng.randrange(40, 250) for _ in range(prompt + answer)], dtype=np.int32)
    learned = np.zeros(prompt + answer, dtype=np.uint8)
    learned[prompt:] = ANSWER
    learned[2:4] = HISTORY
    return Row(tokens, learned, prompt)


ROWS = [row(Random(i), 5 + 3 * i, 4 + i) for i in range(4)]


def test_the_loss_is_the_plain_next_token_loss_of_the_learned_tokens(bundle: ModelBundle):
    model = load_decoder(bundle)
    told = losses(model, batch_of(ROWS, token_id(bundle.tokenizer, PAD)))
    expected: dict[int, list[torch.Tensor]] = {ANSWER: [], HISTORY: []}
    for each in ROWS:
        tokens = torch.tensor(each.tokens, dtype=torch.long)
        logits = model(tokens[None]).logits[0]
        for kind, found in expected.items():
            places = torch.tensor(np.flatnonzero(each.learned == kind))
            found.append(functional.cross_entropy(logits[places - 1], tokens[places], reduction="none"))
    assert torch.allclose(told.answer, torch.cat(expected[ANSWER]).mean(), atol=1e-5)
    assert torch.allclose(told.history, torch.cat(expected[HISTORY]).mean(), atol=1e-5)


def test_a_batch_knows_its_prompts_and_its_tokens_without_padding():
    batch = batch_of(ROWS, 0)
    assert batch.prompts == [each.tokens[: each.prompt].tolist() for each in ROWS]
    assert batch.tokens == sum(len(each.tokens) for each in ROWS) < batch.inputs.numel()


def test_the_first_token_of_a_row_is_never_learned_for_nothing_stands_before_it():
    whole = Row(np.arange(5, dtype=np.int32), np.full(5, ANSWER, dtype=np.uint8), 0)
    assert batch_of([whole, whole], 0).answers.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_pass_takes_every_row_once_and_keeps_to_the_size_of_a_batch():
    rng = Random(1)
    lengths = [rng.randint(3, 60) for _ in range(500)]
    steps = plan(lengths, 256, 500, seed=1)
    assert sorted(np.concatenate(steps).tolist()) == list(range(500))
    assert all(max(lengths[i] for i in step) * len(step) <= 256 for step in steps)
    padded = sum(max(lengths[i] for i in step) * len(step) for step in steps)
    assert padded <= 1.1 * sum(lengths)


def test_the_plan_has_the_samples_that_were_asked_for_and_follows_from_the_seed():
    lengths = [7] * 100
    for wanted in (30, 100, 250):
        steps = plan(lengths, 64, wanted, seed=1)
        assert sum(map(len, steps)) == wanted
    assert str(plan(lengths, 64, 250, seed=1)) == str(plan(lengths, 64, 250, seed=1))
    assert str(plan(lengths, 64, 250, seed=1)) != str(plan(lengths, 64, 250, seed=2))


def test_a_row_longer_than_a_batch_stands_alone():
    assert sorted(step.tolist() for step in plan([100, 5, 5], 20, 3, seed=1)) == [[0], [1, 2]]


def test_other_data_has_another_digest():
    assert digest(ROWS) == digest(list(ROWS))
    assert len({digest(ROWS), digest(ROWS[:-1]), digest(ROWS[::-1])}) == 3
