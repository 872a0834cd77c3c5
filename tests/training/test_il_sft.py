"""Fine-tuning: it learns, its bundle opens, the same call gives the same bits, and what cannot be is said before any work."""

import json
import math
from pathlib import Path

import msgspec
import pytest
import torch

from inference.model_bundle import ModelBundle
from tests.training.small_samples import write_samples
from training.base_model import open_base
from training.il_sft import fine_tune, held_out
from training.il_sft_loop import held_out_loss
from training.il_sft_recipe import COOLING, OtherRun, Recipe
from training.il_sft_speed import choose
from training.progress import read_curve
from training.tiny import random_bundle

RECIPE = Recipe(batch_tokens=1_024, learning_rate=2e-2, dtype="float32", threads=1, samples=400)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(random_bundle(tmp_path_factory.mktemp("base")).path)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    return write_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def done(base: str, samples: Path, tmp_path_factory) -> ModelBundle:
    return fine_tune(samples, base, tmp_path_factory.mktemp("done") / "run", RECIPE)


def test_it_learns_and_its_card_says_from_what(done: ModelBundle):
    curve = read_curve(done.path.parent)
    assert curve.held_out[-1] < 0.8 * curve.held_out[0]
    assert sum(curve.samples) == RECIPE.samples
    assert [loss for loss in curve.repeat if loss is not None]
    recipe, metrics = done.card.recipe, done.card.metrics
    assert (recipe["stage"], recipe["prompts"], recipe["samples_seen"]) == ("il-sft", "compressed", RECIPE.samples)
    assert (recipe["dtype"], recipe["threads"], recipe["base"]) == ("float32", 1, "tiny 1")
    assert set(metrics) >= {"answer_loss", "history_loss", "repeat_loss", "own_lists_distinct", "held_out_loss"}


def test_curve_and_picture_stand_beside_the_bundle(done: ModelBundle):
    beside = {path.name for path in done.path.parent.iterdir()}
    assert beside == {"bundle", "plan.json", "curve.json", "loss.png"}
    assert (done.path.parent / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_call_gives_the_same_bits_and_another_seed_others(done, base: str, samples: Path, tmp_path: Path):
    again = fine_tune(samples, base, tmp_path / "again", RECIPE)
    other = fine_tune(samples, base, tmp_path / "other", msgspec.structs.replace(RECIPE, seed=2))
    weights = [(each.path / "model.safetensors").read_bytes() for each in (done, again, other)]
    assert weights[0] == weights[1] != weights[2]
    assert read_curve(done.path.parent) == read_curve(tmp_path / "again")


def test_a_finished_run_is_not_run_again(done: ModelBundle, base: str, samples: Path):
    before = (done.path.parent / "curve.json").stat().st_mtime_ns
    assert fine_tune(samples, base, done.path.parent, RECIPE).digest == done.digest
    assert (done.path.parent / "curve.json").stat().st_mtime_ns == before


def test_a_folder_with_another_run_is_refused_and_the_difference_named(done: ModelBundle, base: str, samples: Path):
    with pytest.raises(OtherRun, match=r"another run \(stage il-sft there, sft-plain here; .*take another --out"):
        fine_tune(samples, base, done.path.parent, RECIPE, order="plain")
    with pytest.raises(OtherRun, match="seed 1 there, 3 here"):
        fine_tune(samples, base, done.path.parent, msgspec.structs.replace(RECIPE, seed=3))


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_plain_prompts_and_lora_are_learned_too(lora_rank: int, base: str, samples: Path, tmp_path: Path):
    recipe = msgspec.structs.replace(RECIPE, optimizer="adamw", lora_rank=lora_rank, unlearn=0.0)
    bundle = fine_tune(samples, base, tmp_path, recipe, order="plain", plain=True)
    curve = read_curve(tmp_path)
    assert curve.held_out[-1] < curve.held_out[0]
    assert (bundle.card.recipe["prompts"], bundle.card.recipe["stage"]) == ("plain", "sft-plain")
    assert bundle.card.metrics["lists_kept_in_fp16"] > 0.5
    # What was written, merged and rounded to fp16, is what was learned.
    opened = open_base(str(bundle.path))
    assert opened.own
    assert sum(p.numel() for p in opened.model.parameters()) == bundle.card.parameters


def test_a_loss_that_runs_away_stops_the_run_and_says_what_to_do(base: str, samples: Path, tmp_path: Path):
    recipe = msgspec.structs.replace(RECIPE, learning_rate=1e30, warmup=0.0)
    with pytest.raises(
        FloatingPointError, match=r"at step \d+ of \d+: begin anew in another --out with a --learning-rate"
    ):
        fine_tune(samples, base, tmp_path, recipe)
    assert not (tmp_path / "bundle").exists()


def test_wrong_settings_are_all_named_before_any_work(samples: Path, tmp_path: Path):
    recipe = Recipe(learning_rate=0.0, samples=-1, lora_rank=8, optimizer="muon")
    with pytest.raises(ValueError, match=r"samples must not.*learning_rate must.*LoRA"):
        fine_tune(samples, "nowhere", tmp_path, recipe)
    with pytest.raises(FileNotFoundError, match="a base is smollm2"):
        fine_tune(samples, str(tmp_path), tmp_path / "out", RECIPE)
    with pytest.raises(FileNotFoundError, match="aigq samples"):
        fine_tune(tmp_path, "nowhere", tmp_path / "out", RECIPE)


def test_the_rate_rises_cools_from_where_it_was_and_ends_at_zero():
    recipe = Recipe(learning_rate=1.0, warmup=0.04, unlearn=0.1)
    assert recipe.rate(0.02) == pytest.approx(0.5)
    assert recipe.rate(0.04) == pytest.approx(1.0)
    assert [recipe.rate(0.9 - 1e-9), recipe.rate(0.9)] == pytest.approx([COOLING, COOLING])
    assert recipe.rate(1.0) == pytest.approx(0.0)
    assert Recipe(learning_rate=1.0, unlearn=0.0).rate(1.0) == pytest.approx(0.0)


def test_the_same_few_shoppers_are_always_held_out():
    held = [user for user in map(str, range(10_000)) if held_out(user)]
    assert 150 < len(held) < 250
    assert held == [user for user in map(str, range(10_000)) if held_out(user)]


def test_choosing_a_way_leaves_the_model_as_it_was(base: str, samples: Path):
    from training.il_sft_rows import rows_of, sample_texts
    from training.sample_files import read_direct

    start = open_base(base)
    rows = rows_of(sample_texts(read_direct(samples, "train"), "interest", False), start.tokenizer, 1_024)
    before = {name: weight.clone() for name, weight in start.model.named_parameters()}
    random = torch.get_rng_state()
    way = choose(start.model, rows, 0, "auto", 0)
    torch.set_num_threads(1)
    assert way.tried
    assert all(torch.equal(weight, before[name]) for name, weight in start.model.named_parameters())
    assert all(weight.grad is None for weight in start.model.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert math.isfinite(held_out_loss(start.model, rows, RECIPE, way, 0))
    assert json.loads(msgspec.json.encode(way))["dtype"] in ("float32", "bfloat16")
