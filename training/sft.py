"""`aigq train`: a small decoder learns to write a shopper's next ten queries (AIGQ eq. 5: next-token loss on the answer).

One pass over simulated logs, so no sample is seen twice and nothing is held back for early stopping. Left out of the
paper's recipe, for a later one: label re-ranking by interest, rationales, reinforcement.
"""

import math
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import Qwen3ForCausalLM

from inference.model_bundle import ModelBundle, ModelCard
from inference.prompt import PROMPT_VERSION
from inference.vocabulary import END, PAD, token_id, train_tokenizer
from simulation.market import Market
from training.decoder import MAX_TOKENS, new_decoder, save_bundle
from training.samples import Sample, histories, samples

START_MS = 1_700_000_000_000
"""Some day: only differences of time reach the model."""
REPORT_S = 30


@dataclass(frozen=True)
class Recipe:
    """Chosen on two cores for half an hour; docs/results/model.md has what came out."""

    minutes: float = 24.0
    """Of the training loop; it also sets the learning rate's schedule."""
    shoppers: int = 8_000
    days: int = 60
    samples_each: int = 6
    vocabulary: int = 2048
    hidden: int = 128
    layers: int = 4
    batch_tokens: int = 4_096
    """Padding included."""
    learning_rate: float = 3e-3
    warmup: float = 0.04
    """Share of the run."""
    weight_decay: float = 0.05
    clip: float = 1.0
    threads: int = 2


def train(
    out: str | Path, seed: int = 1, recipe: Recipe | None = None, name: str = "aigq-small", version: str = "1"
) -> ModelBundle:
    """Simulates the log, trains, and writes the bundle to the folder `out`. `training.evaluate` adds the metrics."""
    recipe = recipe or Recipe()
    torch.set_num_threads(recipe.threads)
    print(f"simulating {recipe.shoppers} shoppers for {recipe.days} days", flush=True)
    log = histories(Market(seed, recipe.shoppers).events(START_MS, recipe.days))
    made = list(samples(log, recipe.samples_each, seed))
    Random(f"order {seed}").shuffle(made)
    tokenizer = train_tokenizer((text for s in made[:20_000] for text in (s.prompt, s.answer)), recipe.vocabulary)
    encoded = encode(made, tokenizer)
    tokens = sum(len(prompt) + len(answer) for prompt, answer in encoded) // len(encoded)
    print(f"{len(encoded)} samples of {tokens} tokens", flush=True)

    model = new_decoder(tokenizer, recipe.hidden, recipe.layers, seed)
    steps, seen, loss = _learn(model, encoded, token_id(tokenizer, PAD), recipe, seed)
    card = ModelCard(
        name=name,
        version=version,
        prompt_version=PROMPT_VERSION,
        description="Writes a shopper's next ten queries from the newest twenty behaviours.",
        data=f"simulation.Market(seed={seed}, shoppers={recipe.shoppers}), {recipe.days} days; no real shopper's data",
        recipe=asdict(recipe) | {"steps": steps, "samples_seen": seen, "optimizer": "Muon and AdamW, cosine"},
        metrics={"train_loss": round(loss, 4)},
        parameters=sum(p.numel() for p in model.parameters()),
        seed=seed,
        created=datetime.now(UTC).date().isoformat(),
        git_revision=git_revision(),
    )
    return save_bundle(Path(out), model, tokenizer, card)


def encode(made: Sequence[Sample], tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
    """(prompt, answer with end token) as token ids; what is longer than the model reads is left out."""
    end = token_id(tokenizer, END)
    prompts = tokenizer.encode_batch([sample.prompt for sample in made])
    answers = tokenizer.encode_batch([sample.answer for sample in made])
    pairs = ((p.ids, [*a.ids, end]) for p, a in zip(prompts, answers, strict=True))
    return [(prompt, answer) for prompt, answer in pairs if len(prompt) + len(answer) <= MAX_TOKENS]


def batches(
    encoded: Sequence[tuple[list[int], list[int]]], pad: int, batch_tokens: int, rng: Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One pass: (input ids, target ids), both batch x length, target -100 wherever the loss does not look.

    Samples of one length share a batch, so padding costs little; batches come in random order. Padding stands on the right,
    where causal attention never looks at it, so no mask is needed.
    """
    chunk = 4096
    for start in range(0, len(encoded), chunk):
        rows = sorted(encoded[start : start + chunk], key=lambda row: len(row[0]) + len(row[1]))
        packed: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in rows:
            longest = len(row[0]) + len(row[1])
            if longest * (len(packed[-1]) + 1) > batch_tokens and packed[-1]:
                packed.append([])
            packed[-1].append(row)
        rng.shuffle(packed)
        for batch in packed:
            longest = max(len(prompt) + len(answer) for prompt, answer in batch)
            inputs = torch.full((len(batch), longest), pad)
            targets = torch.full((len(batch), longest), -100)
            for i, (prompt, answer) in enumerate(batch):
                whole = torch.tensor(prompt + answer)
                inputs[i, : len(whole)] = whole
                targets[i, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
            yield inputs, targets


def answer_loss(model: Qwen3ForCausalLM, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss over the answers (AIGQ eq. 5). Logits are made for these tokens alone: half the time."""
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    looked_at = targets != -100
    return functional.cross_entropy(model.lm_head(hidden[looked_at]), targets[looked_at])


def _learn(
    model: Qwen3ForCausalLM, encoded: Sequence[tuple[list[int], list[int]]], pad: int, recipe: Recipe, seed: int
) -> tuple[int, int, float]:
    """Trains until the minutes or the samples are used up. Returns steps, samples seen, and the loss over the last steps."""
    optimizers = _optimizers(model, recipe)
    started = reported = time.monotonic()
    steps = seen = 0
    loss = math.nan
    model.train()
    for inputs, targets in batches(encoded, pad, recipe.batch_tokens, Random(f"batches {seed}")):
        # Progress is the further of time and samples, so that the rate ends near zero whichever runs out first.
        done = max((time.monotonic() - started) / (60 * recipe.minutes), seen / len(encoded))
        if done >= 1:
            break
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * schedule(done, recipe.warmup)
            optimizer.zero_grad(set_to_none=True)
        now = answer_loss(model, inputs, targets)
        if not torch.isfinite(now):
            raise FloatingPointError(f"the loss is {now.item()} at step {steps}: lower the learning rate")
        now.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer in optimizers:
            optimizer.step()
        steps += 1
        seen += len(inputs)
        loss = now.item() if math.isnan(loss) else 0.98 * loss + 0.02 * now.item()
        if time.monotonic() - reported > REPORT_S:
            reported = time.monotonic()
            print(f"{done:4.0%}  step {steps}  samples {seen}  loss {loss:.3f}  {reported - started:.0f} s", flush=True)
    return steps, seen, loss


def _optimizers(model: Qwen3ForCausalLM, recipe: Recipe) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms. With updates scaled to AdamW's size one
    learning rate serves both."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or ".layers." not in name]
    return (
        torch.optim.Muon(
            matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    )


def schedule(done: float, warmup: float) -> float:
    """Share of the learning rate at `done` (0 .. 1) of the run: up in a line, down by a cosine."""
    if done < warmup:
        return max(done, 1e-3) / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def git_revision() -> str:
    """Of the code that makes a model, `+` where it is changed; empty outside a repository."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", "training", "simulation", "inference") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    root = Path(__file__).parent.parent
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
