"""The training loop: next-token loss all the way, and unlikelihood of repeats in the model's own lists in the last part.

Left out of AIGQ's recipe: nothing of eq. 5 and 6; the batch (1024) and two passes over 30 B parameters are another size of machine.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from inference.vocabulary import PAD, token_id
from training import checkpoint
from training.bucket import Row, batch_of, losses, plan
from training.checkpoint import Reached, learned
from training.il_sft_optimizer import optimizers
from training.il_sft_recipe import Recipe
from training.il_sft_speed import Way, precision
from training.progress import Curve, Progress, say
from training.repeats import OwnLists, own_lists, repeat_loss

HELD_OUT_TIMES = 10
"""How often held-out shoppers are looked at, besides at the begin."""
CHECKPOINT_S = 60.0


def learn(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    held_out: Sequence[Row],
    recipe: Recipe,
    way: Way,
    folder: Path,
    checkpoint_s: float = CHECKPOINT_S,
) -> Curve:
    """Trains from the folder's checkpoint, or from the begin, to the end.

    Raises FloatingPointError where loss or gradient is not finite: before the weights are touched, so the last checkpoint is good.
    """
    torch.set_num_threads(way.threads)
    pad = token_id(tokenizer, PAD)
    steps = plan([len(row.tokens) for row in rows], recipe.batch_tokens, recipe.samples or len(rows), recipe.seed)
    sizes = [sum(len(rows[i].tokens) for i in step) for step in steps]
    methods = optimizers(model, recipe.optimizer == "muon", recipe.learning_rate, recipe.weight_decay, way.native_bf16)
    reached = checkpoint.load(folder, model, methods) or Reached(0, Curve())
    if reached.step:
        say(f"goes on after step {reached.step} of {len(steps)}")
    curve, saved = reached.curve, time.monotonic()
    weights = list(learned(model).values())
    looks = {round(len(steps) * i / HELD_OUT_TIMES) for i in range(HELD_OUT_TIMES + 1)}
    unlearn_from = len(steps) - round(len(steps) * recipe.unlearn)
    own: OwnLists | None = None
    tokens = sum(curve.tokens)
    progress = Progress(tokens, sum(sizes), len(steps))
    model.train()
    for step in range(reached.step, len(steps)):
        if step in looks:
            _look(model, held_out, recipe, way, pad, curve, step)
        renewed = step < unlearn_from or (step - unlearn_from) % recipe.renew == 0
        # Own lists are not saved: a checkpoint is made where they are written anew.
        if renewed and step > reached.step and time.monotonic() - saved >= checkpoint_s:
            checkpoint.save(folder, Reached(step, curve), model, methods)
            saved = time.monotonic()
        for method in methods:
            for group in method.param_groups:
                group["lr"] = recipe.rate(step / len(steps))
            method.zero_grad(set_to_none=True)
        batch = batch_of([rows[i] for i in steps[step]], pad, model.device)
        with precision(way):
            told = losses(model, batch)
        loss = told.answer + (recipe.history_weight if len(batch.answers) else 1.0) * told.history
        repeat: torch.Tensor | None = None
        if step >= unlearn_from:
            if own is None or renewed:
                own = own_lists(model, tokenizer, batch.prompts)  # pyright: ignore[reportArgumentType]
            repeat = repeat_loss(model, own)  # pyright: ignore[reportArgumentType]
            loss = loss + recipe.repeat_weight * repeat
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
        _must_be_finite(loss, norm, f"step {step} of {len(steps)}", recipe, way)
        for method in methods:
            method.step()
        curve.answer.append(told.answer.item() if len(batch.answers) else None)
        curve.history.append(told.history.item() if len(batch.history) else None)
        curve.repeat.append(None if repeat is None else repeat.item())
        curve.own_lists_distinct.append(own.distinct / own.lists if own and renewed else None)
        curve.samples.append(len(steps[step]))
        curve.tokens.append(batch.tokens)
        tokens += batch.tokens
        progress.report(curve, tokens)
    _look(model, held_out, recipe, way, pad, curve, len(steps))
    progress.report(curve, tokens, last=True)
    model.eval()
    return curve


def _must_be_finite(loss: torch.Tensor, norm: torch.Tensor, where: str, recipe: Recipe, way: Way) -> None:
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise FloatingPointError(
            f"loss {loss.item()}, gradient {norm.item()} at {where}: begin anew in another --out with a --learning-rate below "
            f"{recipe.learning_rate:g}" + (", or with --dtype float32" if way.dtype == "bfloat16" else "")
        )


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, rows: Sequence[Row], recipe: Recipe, way: Way, pad: int) -> float:
    """Mean over the tokens of all answers; over histories where rows have no answers."""
    total = count = 0.0
    for step in plan([len(row.tokens) for row in rows], recipe.batch_tokens, len(rows), seed=0):
        batch = batch_of([rows[i] for i in step], pad, model.device)
        with precision(way):
            told = losses(model, batch)
        looked_at, loss = (batch.answers, told.answer) if len(batch.answers) else (batch.history, told.history)
        total += loss.item() * len(looked_at)
        count += len(looked_at)
    return total / max(1, count)


def _look(
    model: PreTrainedModel, rows: Sequence[Row], recipe: Recipe, way: Way, pad: int, curve: Curve, step: int
) -> None:
    """Once a step: a run that goes on from a checkpoint of this step has looked already."""
    if rows and step not in curve.held_out_steps[-1:]:
        curve.held_out.append(held_out_loss(model, rows, recipe, way, pad))
        curve.held_out_steps.append(step)
