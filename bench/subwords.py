"""What a mean-of-subwords start of special tokens is worth (AIGQ sec. 3.2), where it can be worth something: on a pretrained SmolLM2.

Short LoRA runs on histories of a simulated market, in pairs: special tokens start as the mean of the words they stand for, or drawn around the
mean of all rows, as transformers starts new ones. Same samples, same order, same recipe; loss of held-out samples' answers, in nats per token.
A decoder of our own has no old words to start from.
"""

import argparse
import logging
import os
import tempfile
from pathlib import Path

import training  # noqa: F401  (before torch: see its docstring)

# isort: split
import torch

from bench.paired import Interval, mean_interval
from bench.progress import show_progress
from bench.result import TARGETS, Target, write
from bench.sft import texts_of_market
from training.base_model import SMOLLM2, open_base, with_lora
from training.il_sft_loop import HELD_OUT_TIMES, learn
from training.il_sft_recipe import Recipe
from training.il_sft_rows import rows_of
from training.il_sft_speed import Way

LOG = logging.getLogger(__name__)
STARTS = {"mean of subwords": True, "drawn": False}
FIFTH = HELD_OUT_TIMES // 5
"""The look at held-out samples that comes after a fifth of the run."""
CAUSE = "the interval is over seeds of the run, three of which say little (figures: held_out_loss)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="prove that it runs: one pair of a few samples")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    show_progress()
    samples, held_out, seeds = (20, 4, 1) if options.small else (60, 12, 3)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        texts = texts_of_market(Path(folder), *((60, 20) if options.small else (400, 24)), options.seed)
        curves: dict[str, list[list[float]]] = {name: [] for name in STARTS}
        for seed in range(options.seed, options.seed + seeds):
            for name, mean in STARTS.items():
                base = open_base(SMOLLM2, mean, seed)
                rows = rows_of(texts[: samples + held_out], base.tokenizer, base.longest)
                recipe = Recipe(seed=seed, batch_tokens=1_024, optimizer="adamw", learning_rate=1e-3, unlearn=0.0, lora_rank=16)  # fmt: skip
                model, way = with_lora(base, recipe.lora_rank), Way("float32", options.threads, native_bf16=False)
                at = Path(folder, f"{name} {seed}")
                at.mkdir()
                curve = learn(model, base.tokenizer, rows[held_out:], rows[:held_out], recipe, way, at, float("inf"))  # pyright: ignore[reportArgumentType]
                curves[name].append([round(loss, 4) for loss in curve.held_out])
                LOG.info("seed %d, %s: %s", seed, name, curves[name][-1])
    saved = {
        when: mean_interval([drawn[look] - mean[look] for mean, drawn in zip(*curves.values(), strict=True)])
        for when, look in (("at_the_begin", 0), ("at_a_fifth", FIFTH), ("at_the_end", -1))
    }
    (target,) = TARGETS["subwords"].items()
    figures = {
        "samples": samples,
        "held_out": held_out,
        "loss_saved": {when: _finite(interval) for when, interval in saved.items()},
        "held_out_loss": curves,
    }
    value = saved["at_a_fifth"].low if seeds > 1 else saved["at_a_fifth"].value
    write("subwords", figures, [Target(target[0], round(value, 4), target[1], CAUSE)], options.seed, options.small)


def _finite(interval: Interval) -> dict[str, float] | float:
    """One run has no interval."""
    return interval.rounded() if interval.low > float("-inf") else interval.value


if __name__ == "__main__":
    main()
