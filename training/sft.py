"""`aigq train`: a small decoder learns to write a shopper's next ten queries, and last of all not to repeat itself.

Next-token loss on true lists (AIGQ eq. 5, `next_token.py`) all the way, with unlikelihood of repeated queries in the model's own
lists (`repeats.py`) in the last part. One pass over simulated logs, so no sample is seen twice and nothing is held back for
early stopping. Left out of the paper's recipe, for a later one: label re-ranking by interest, rationales, reinforcement.
"""

import math
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM

from inference.model_bundle import ModelBundle, ModelCard
from inference.prompt import PROMPT_VERSION
from inference.vocabulary import train_tokenizer
from simulation.market import Market
from training.decoder import new_decoder, save_bundle
from training.next_token import Encoded, batches, encode, losses
from training.repeats import OwnLists, own_lists, repeat_loss
from training.samples import histories, samples

START_MS = 1_700_000_000_000
"""Some day: only differences of time reach the model."""
REPORT_S = 30
COOLING = 0.4
"""Share of the learning rate with which the last part begins; from there it falls to zero in a line."""


@dataclass(frozen=True)
class Recipe:
    """Chosen on two cores for less than half an hour; docs/results/model.md has what came out.

    A run that its samples pace is repeated to the bit by the same recipe and seed (on the same kind of machine, with as many
    threads); one that the clock paces is not, because the learning rate follows the clock.
    """

    samples: int = 115_000
    """Length of the run, 20 to 25 minutes of two cores; fewer where the log has no more."""
    minutes: float = 60.0
    """Ceiling for the training loop: a machine too slow for it comes to its end by then, with fewer samples."""
    shoppers: int = 22_000
    days: int = 60
    samples_each: int = 7
    vocabulary: int = 2048
    """Nearly one token a word of the simulated shop: more tokens shorten nothing."""
    hidden: int = 128
    layers: int = 4
    batch_tokens: int = 4_096
    """Padding included."""
    learning_rate: float = 6e-3
    warmup: float = 0.03
    """Share of the run."""
    history_weight: float = 0.3
    """Of the loss on searches in the prompt: they say what follows a query, in tokens that are computed anyway. At no cost in time
    a short run (24 s) came to 1.97 instead of 2.03 on the answers."""
    unlearn: float = 0.08
    """Last share of the run, in which repeats are unlearned; a step of it takes about twice the time."""
    repeat_weight: float = 4.0
    renew: int = 2
    """Steps for which own lists are used: writing them costs as much as a step."""
    weight_decay: float = 0.05
    clip: float = 1.0
    threads: int = 2


@dataclass(frozen=True)
class Learned:
    """What a run says of itself. The figures are means over about the last 50 steps that had them, None where none had."""

    steps: int
    samples: int
    paced_by: str
    """samples, or minutes where the clock was ahead of the samples at any step."""
    answer_loss: float | None
    history_loss: float | None
    repeat_loss: float | None
    own_lists_distinct: float | None
    """Share of own lists, written without `inference.distinct`, that repeat nothing."""


def train(
    out: str | Path, seed: int = 1, recipe: Recipe | None = None, name: str = "aigq-small", version: str = "1"
) -> ModelBundle:
    """Simulates the log, trains, and writes the bundle to the folder `out`. `training.evaluate` adds the metrics."""
    recipe = recipe or Recipe()
    torch.set_num_threads(recipe.threads)
    revision = git_revision()  # of what runs: the files may change within the half hour
    print(f"simulating {recipe.shoppers} shoppers for {recipe.days} days", flush=True)
    log = histories(Market(seed, recipe.shoppers).events(START_MS, recipe.days))
    made = list(samples(log, recipe.samples_each, seed))
    del log
    Random(f"order {seed}").shuffle(made)
    tokenizer = train_tokenizer((text for s in made[:20_000] for text in (s.prompt, s.answer)), recipe.vocabulary)
    encoded = encode(made, tokenizer)
    if not encoded:
        raise ValueError(f"{recipe.shoppers} shoppers in {recipe.days} days give no sample; take more of either")
    tokens = sum(map(len, encoded)) // len(encoded)
    print(f"{len(encoded)} samples of {tokens} tokens", flush=True)

    model = new_decoder(tokenizer, recipe.hidden, recipe.layers, seed)
    learned = learn(model, tokenizer, encoded[: recipe.samples], recipe, seed)
    card = ModelCard(
        name=name,
        version=version,
        prompt_version=PROMPT_VERSION,
        description="Writes a shopper's next ten queries from the newest twenty behaviours.",
        data=f"simulation.Market(seed={seed}, shoppers={recipe.shoppers}), {recipe.days} days; no real shopper's data",
        recipe=asdict(recipe)
        | {"steps": learned.steps, "samples_seen": learned.samples, "paced_by": learned.paced_by}
        | {"optimizer": "Muon and AdamW; cosine, then a line to zero"},
        metrics={key: value for key, value in asdict(learned).items() if isinstance(value, float)},
        parameters=sum(p.numel() for p in model.parameters()),
        seed=seed,
        created=datetime.now(UTC).date().isoformat(),
        git_revision=revision,
    )
    return save_bundle(Path(out), model, tokenizer, card)


def learn(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, encoded: Sequence[Encoded], recipe: Recipe, seed: int
) -> Learned:
    """Trains the model until the samples or the minutes are used up. Raises FloatingPointError where the loss runs away."""
    optimizers = _optimizers(model, recipe)
    meters = _Meters()
    own: OwnLists | None = None
    own_steps = steps = seen = 0
    paced_by = "samples"
    started = reported = time.monotonic()
    model.train()
    for batch in batches(encoded, tokenizer, recipe.batch_tokens, Random(f"batches {seed}")):
        # Progress is the further of time and samples, so that the rate ends near zero whichever runs out first.
        clock, done = (time.monotonic() - started) / (60 * recipe.minutes), seen / len(encoded)
        if clock > done and steps:
            done, paced_by = clock, "minutes"
        if done >= 1:
            break
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * schedule(done, recipe.warmup, recipe.unlearn)
            optimizer.zero_grad(set_to_none=True)
        answer, history = losses(model, batch)
        loss = meters.answer.add(answer) + recipe.history_weight * meters.history.add(history)
        if done >= 1 - recipe.unlearn:
            if own is None or own_steps % recipe.renew == 0:
                own = own_lists(model, tokenizer, batch.prompts)
                meters.own_distinct.add(torch.tensor(own.distinct / own.lists))
            own_steps += 1
            loss = loss + recipe.repeat_weight * meters.repeat.add(repeat_loss(model, own))
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {steps}: lower the learning rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer in optimizers:
            optimizer.step()
        steps += 1
        seen += len(batch.inputs)
        now = time.monotonic()
        if now - reported > REPORT_S:
            reported, elapsed = now, now - started
            left = elapsed * (1 - done) / done
            print(f"{done:4.0%}  {seen} samples  {meters}  {elapsed:.0f} s, about {left:.0f} s left", flush=True)
    model.eval()
    return Learned(
        steps, seen, paced_by, meters.answer.mean, meters.history.mean, meters.repeat.mean, meters.own_distinct.mean
    )


class _Recent:
    """Mean of the newest values, exponentially weighted."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: torch.Tensor) -> torch.Tensor:
        self._sum = 0.98 * self._sum + value.item()
        self._weight = 0.98 * self._weight + 1
        return value

    @property
    def mean(self) -> float | None:
        return round(self._sum / self._weight, 4) if self._weight else None


class _Meters:
    def __init__(self) -> None:
        self.answer, self.history, self.repeat, self.own_distinct = _Recent(), _Recent(), _Recent(), _Recent()

    def __str__(self) -> str:
        learned = f"loss: answers {self.answer.mean:.3f}, histories {self.history.mean:.3f}"
        if self.repeat.mean is None:
            return learned
        return f"{learned}, repeats {self.repeat.mean:.4f}  own lists without repeat {self.own_distinct.mean:.0%}"


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


def schedule(done: float, warmup: float, last: float) -> float:
    """Share of the learning rate at `done` (0 .. 1) of the run: up in a line, down by a cosine to COOLING, and to zero in a
    line over the `last` share; without a last share, by the cosine to zero."""
    lowest = COOLING if last else 0.0
    if done < warmup:
        return max(done, 1e-3) / warmup
    if not last or done < 1 - last:
        way = (done - warmup) / (1 - last - warmup)
        return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * way))
    return COOLING * (1 - done) / last


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
