"""Training tokens a second of `aigq sft`'s loop, against transformers' Trainer: the same samples, model, loss and optimizer, in turn.

`default` is the Trainer as it comes: random batches, padded and masked by its own collator, logits for every token. `grouped` is its
remedy, batches of like length (train_sampling_strategy=group_by_length). Both get as many samples a batch as ours has on average, so
nobody gains from fewer steps. fp32, the same threads, no checkpoints, no evaluation. Tokens are those of samples, without padding.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import training  # noqa: F401  (before torch: see its docstring)

# isort: split
import torch
from tokenizers import Tokenizer
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, Qwen3ForCausalLM, Trainer, TrainingArguments

from bench import paired
from bench.progress import show_progress
from bench.result import TARGETS, Target, write
from inference.vocabulary import PAD, token_id, train_tokenizer
from simulation.market_folder import START_MS, MarketFacts
from simulation.write_market import write_market
from training.bucket import ANSWER, Row, batch_of, losses, plan
from training.decoder import MAX_TOKENS, new_decoder
from training.il_sft_loop import learn
from training.il_sft_recipe import Recipe
from training.il_sft_rows import Text, rows_of
from training.il_sft_speed import Way
from training.pretrain import market_told, stretches

LOG = logging.getLogger(__name__)
SYSTEMS = ("ours", "default", "grouped")
BATCH_TOKENS = 4_096
LEARNING_RATE = 1e-3
SAME = 1e-4
"""Most that the losses of the two may differ before training, in nats per token: they are sums in another order."""
CAUSE = (
    "how much padding and how many logits are saved depends on the lengths of samples (figures: padding, answer_share)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--small", action="store_true", help="prove that it runs: one round, few samples, no figures to quote"
    )
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    show_progress()
    shoppers, days, samples, rounds = (60, 20, 60, 1) if options.small else (1_000, 24, 2_000, 4)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, rows = made(Path(folder), shoppers, days, samples, options.seed)
        steps = plan([len(row.tokens) for row in rows], BATCH_TOKENS, len(rows), options.seed)
        a_batch = round(len(rows) / len(steps))
        difference = loss_difference(rows[:a_batch], tokenizer, options.seed)
        if difference > SAME:
            sys.exit(f"the two losses differ by {difference} before training: they would not learn the same")
        found: dict[str, list[float]] = {name: [] for name in SYSTEMS}
        for number in range(rounds):
            for name in paired.in_turn(SYSTEMS, number):
                model = new_decoder(tokenizer, 128, 4, options.seed).train()
                at = Path(folder, f"{name}{number}")
                seconds = (
                    ours(model, tokenizer, rows, options, at)
                    if name == "ours"
                    else trainer(model, tokenizer, rows, a_batch, name == "grouped", options.seed, at)
                )
                found[name].append(sum(len(row.tokens) for row in rows) / seconds)
                LOG.info("round %d: %s %.0f tokens/s", number + 1, name, found[name][-1])
    targets, ratios = [], {}
    for name, bound in TARGETS["sft"].items():
        ratio = paired.ratio(found["ours"], found[name.removeprefix("to_trainer_")])
        ratios[name] = ratio.rounded() if rounds > 1 else ratio.value
        targets.append(Target(name, round(ratio.value, 3), bound, CAUSE))
    figures = {
        "parameters": sum(p.numel() for p in model.parameters()),  # pyright: ignore[reportPossiblyUnboundVariable]
        "samples": len(rows),
        "samples_a_batch": a_batch,
        "threads": options.threads,
        "tokens": sum(len(row.tokens) for row in rows),
        "answer_share": round(
            sum(int((row.learned == ANSWER).sum()) for row in rows) / sum(len(r.tokens) for r in rows), 3
        ),
        "padding": {
            "ours": padding(rows, [s.tolist() for s in steps]),
            "default": padding(rows, shuffled(rows, a_batch)),
        },
        "loss_difference": difference,
        "rounds": rounds,
        "tokens_per_s": {name: [round(value) for value in values] for name, values in found.items()},
        "ratios": ratios,
    }
    write("sft", figures, targets, options.seed, options.small)


def made(folder: Path, shoppers: int, days: int, samples: int, seed: int) -> tuple[Tokenizer, list[Row]]:
    """Histories of a simulated market, each with the list of the searches that followed, as compressed prompts show them."""
    texts = texts_of_market(folder, shoppers, days, seed)
    tokenizer = train_tokenizer((part for text in texts for part in text), 2_048)
    return tokenizer, rows_of(texts[:samples], tokenizer, MAX_TOKENS)


def texts_of_market(folder: Path, shoppers: int, days: int, seed: int) -> list[Text]:
    """Prompts and the lists that followed, in random order."""
    write_market(MarketFacts("missions", seed, 1.0, shoppers, days, START_MS, null=False), folder / "market", workers=2)
    texts = [text for _, text in stretches(market_told(folder / "market", 0), seed, plain=False, lists=True)]
    texts = [text for text in texts if text.answer]
    Random(seed).shuffle(texts)
    return texts


def ours(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, rows: Sequence[Row], options: argparse.Namespace, at: Path
) -> float:
    """Seconds for one pass."""
    recipe = Recipe(
        seed=options.seed, batch_tokens=BATCH_TOKENS, optimizer="adamw", learning_rate=LEARNING_RATE, unlearn=0.0
    )
    way = Way("float32", options.threads, native_bf16=False)
    at.mkdir()
    begun = time.perf_counter()
    learn(model, tokenizer, rows, [], recipe, way, at, checkpoint_s=float("inf"))
    return time.perf_counter() - begun


def trainer(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, rows: Sequence[Row], a_batch: int, grouped: bool, seed: int, at: Path
) -> float:
    """Seconds for one pass of transformers' Trainer, by its own AdamW, clipping and collator."""
    arguments = TrainingArguments(
        output_dir=str(at),
        per_device_train_batch_size=a_batch,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        train_sampling_strategy="group_by_length" if grouped else "random",
        seed=seed,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD)
    runner = Trainer(
        model,
        arguments,
        data_collator=DataCollatorForSeq2Seq(fast, padding=True),
        train_dataset=[as_trainer_wants(row) for row in rows],  # pyright: ignore[reportArgumentType] (it has __getitem__ and __len__)
    )
    begun = time.perf_counter()
    runner.train()
    return time.perf_counter() - begun


def as_trainer_wants(row: Row) -> dict[str, list[int]]:
    labels = [token if kind == ANSWER else -100 for token, kind in zip(row.tokens.tolist(), row.learned, strict=True)]
    return {"input_ids": row.tokens.tolist(), "labels": labels}


@torch.no_grad()
def loss_difference(rows: Sequence[Row], tokenizer: Tokenizer, seed: int) -> float:
    """Between our loss of a batch and the one that the model computes for the Trainer."""
    model = new_decoder(tokenizer, 128, 4, seed)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD)
    batch = DataCollatorForSeq2Seq(fast, padding=True)([as_trainer_wants(row) for row in rows])
    return abs(model(**batch).loss.item() - losses(model, batch_of(rows, token_id(tokenizer, PAD))).answer.item())


def padding(rows: Sequence[Row], steps: Sequence[Sequence[int]]) -> float:
    """Share of what is computed that is padding."""
    computed = sum(len(step) * max(len(rows[i].tokens) for i in step) for step in steps)
    return round(1 - sum(len(row.tokens) for row in rows) / computed, 3)


def shuffled(rows: Sequence[Row], a_batch: int) -> list[range]:
    """Batches as rows come: they are in random order already."""
    return [range(start, min(start + a_batch, len(rows))) for start in range(0, len(rows), a_batch)]


if __name__ == "__main__":
    main()
