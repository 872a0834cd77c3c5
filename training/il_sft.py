"""List-wise supervised fine-tuning (AIGQ sec. 3.4): the model learns to write a shopper's list as one ordered text (eq. 5, 6).

An arm is a fork of one pretrained model (`pretrain.py`): `il-sft` learns the labels in the order of interest, `sft-plain` the same
labels as they were gathered. Targets of Think (eq. 7 - 9) are texts like any other (`il_sft_targets.py`).

    OUT/plan.json  checkpoint.pt (while it runs)  curve.json  loss.png  bundle/

The same call again goes on where a killed one was, and gives the same curve and the same bundle to the bit.
"""

import shutil
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import torch
from transformers import Qwen3ForCausalLM

from inference.model_bundle import ModelBundle, ModelCard
from inference.prompt import PROMPT_VERSION
from inference.vocabulary import PAD, token_id
from training import checkpoint
from training.base_model import BaseModel, open_base, with_lora
from training.bucket import Row, digest
from training.decode import kept_in_fp16
from training.decoder import save_bundle
from training.il_sft_loop import CHECKPOINT_S, learn
from training.il_sft_recipe import Begun, Plan, Recipe, begin, begun
from training.il_sft_rows import Order, rows_of, sample_texts
from training.il_sft_speed import choose
from training.progress import Curve, plot, say, write_curve
from training.sample_files import read_direct, read_think

BUNDLE = "bundle"
HELD_OUT_SHARE = 0.02
"""Of shoppers."""
ROUNDED = 100
"""Held-out prompts on which lists of rounded weights are compared."""
STAGES: dict[Order, str] = {"interest": "il-sft", "plain": "sft-plain"}


class Name(NamedTuple):
    """What the bundle is called."""

    name: str = "aigq-small"
    version: str = "1"


class Data(NamedTuple):
    """What a run learns from, and what is held out for its curve."""

    rows: list[Row]
    held_out: list[Row]
    told: str
    """For the card."""


def fine_tune(
    samples: Path,
    base: str,
    out: Path,
    recipe: Recipe,
    order: Order = "interest",
    kind: Literal["direct", "think"] = "direct",
    plain: bool = False,
    mean_of_subwords: bool = True,
    name: Name = Name(),
    checkpoint_s: float = CHECKPOINT_S,
) -> ModelBundle:
    """Fine-tunes `base` (see `open_base`) on the training days of a samples folder. Returns the bundle in OUT/bundle.

    `plain` takes uncompressed prompts; the bundle's card says so, and who asks it must build them plain too. Raises FileNotFoundError
    or ValueError for wrong arguments, OtherRun where OUT holds a run with other ones, FloatingPointError where the loss runs away.
    """
    if wrong := recipe.errors():
        raise ValueError("; ".join(wrong))
    found = (read_direct if kind == "direct" else read_think)(samples, "train")
    start = open_base(base, mean_of_subwords, recipe.seed)
    apart: dict[bool, list[Row]] = {}
    for held in (False, True):
        texts = sample_texts((s for s in found if held_out(s.user) == held), order, plain)
        apart[held] = rows_of(texts, start.tokenizer, start.longest, recipe.history_weight > 0, plain)
    if not apart[False]:
        raise ValueError(f"{samples} has no {kind} samples with labels within {start.longest} tokens")
    told = f"{kind} samples of {samples.resolve().name}, labels by {order}"
    say(f"{len(found)} samples, of them {sum(map(len, apart.values()))} with labels and short enough")
    data = Data(apart[False], apart[True][: recipe.held_out], told)
    return run(out, STAGES[order], start, data, recipe, plain, name, checkpoint_s)


def run(
    out: Path,
    stage: str,
    base: BaseModel,
    data: Data,
    recipe: Recipe,
    plain: bool,
    name: Name,
    checkpoint_s: float = CHECKPOINT_S,
) -> ModelBundle:
    """One stage, begun or gone on with, to its bundle."""
    content = f"{digest(data.rows)}-{digest(data.held_out)}"
    plan = Plan(stage, "plain" if plain else "compressed", base.digest, content, recipe)
    started = begun(out, plan)
    if started and (out / BUNDLE).exists():
        say(f"{out / BUNDLE} is finished already")
        return ModelBundle.open(out / BUNDLE)
    model = base.model.to("cuda" if torch.cuda.is_available() else "cpu")  # pyright: ignore[reportArgumentType]
    torch.manual_seed(recipe.seed)
    adapted = with_lora(base, recipe.lora_rank) if recipe.lora_rank else None
    tokens = sum(len(row.tokens) for row in data.rows)
    say(f"{stage}: {len(data.rows)} samples of {tokens // len(data.rows)} tokens, base {base.name}")
    if started is None:
        way = choose(model, data.rows, token_id(base.tokenizer, PAD), recipe.dtype, recipe.threads)
        started = begin(out, plan, way)
    curve = learn(model, base.tokenizer, data.rows, data.held_out, recipe, started.way, out, checkpoint_s)
    write_curve(out, curve)
    plot(out, curve, f"{name.name} {name.version}: {stage}")
    if adapted is not None:
        model = adapted.merge_and_unload()  # pyright: ignore[reportCallIssue]
    writing = out / f"{BUNDLE}.writing"
    shutil.rmtree(writing, ignore_errors=True)
    save_bundle(writing, model, base.tokenizer, _card(name, base, data, started, curve, model))
    writing.rename(out / BUNDLE)
    checkpoint.remove(out)
    return ModelBundle.open(out / BUNDLE)


def held_out(user: str) -> bool:
    """Whether a shopper's samples are left out of every training: the same shoppers in every stage and arm."""
    number = int.from_bytes(blake2b(user.encode(), digest_size=4, person=b"held out").digest(), "big")
    return number < HELD_OUT_SHARE * 2**32


def _card(name: Name, base: BaseModel, data: Data, run: Begun, curve: Curve, model: torch.nn.Module) -> ModelCard:
    seen = {
        "answer_loss": curve.recent(curve.answer),
        "history_loss": curve.recent(curve.history),
        "repeat_loss": curve.recent(curve.repeat),
        "own_lists_distinct": curve.recent(curve.own_lists_distinct),
        "held_out_loss": curve.held_out[-1] if curve.held_out else None,
    }
    prompts = [row.tokens[: row.prompt].tolist() for row in data.held_out[:ROUNDED] if len(row.tokens) > row.prompt]
    if prompts and isinstance(model, Qwen3ForCausalLM):  # a decoder of our own: others take minutes for it
        seen["lists_kept_in_fp16"] = kept_in_fp16(model, base.tokenizer, prompts)
    recipe = msgspec.structs.asdict(run.plan.recipe) | {
        "stage": run.plan.stage,
        "prompts": run.plan.prompts,
        "base": base.name,
        "steps": len(curve.samples),
        "samples_seen": sum(curve.samples),
        "dtype": run.way.dtype,
        "threads": run.way.threads,
        "device": run.way.device,
    }
    return ModelCard(
        name=name.name,
        version=name.version,
        prompt_version=PROMPT_VERSION,
        description="Writes a shopper's next ten queries from the newest twenty behaviours.",
        data=f"{data.told}; base learned {base.data}" if base.data else data.told,
        recipe=recipe,
        metrics={key: round(value, 4) for key, value in seen.items() if value is not None},
        parameters=sum(p.numel() for p in model.parameters()),
        seed=run.plan.recipe.seed,
        created=datetime.now(UTC).date().isoformat(),
        git_revision=run.revision,
    )
