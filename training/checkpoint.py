"""A run can be killed at any instant: everything that the next step depends on lies in one file, which is there whole or not at all.

The curve is part of it, so a run that goes on draws the same line as one that was never stopped, to the bit.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import nn
from torch.optim import Optimizer

from training.progress import Curve

FILE = "checkpoint.pt"
BEING_WRITTEN = ".writing"


@dataclass(frozen=True)
class Reached:
    """How far a run has come."""

    step: int
    """Steps done."""
    curve: Curve


def save(folder: Path, reached: Reached, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Learned weights only: what is frozen comes from the base again. Random numbers need no place in it: nothing in a step draws one
    (there is no dropout), and the order of the samples is planned."""
    state = {
        "step": reached.step,
        "curve": msgspec.json.encode(reached.curve).decode(),
        "weights": {name: weight.detach() for name, weight in learned(model).items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    path = folder / FILE
    writing = path.with_name(FILE + BEING_WRITTEN)
    with writing.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(writing, path)
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def load(folder: Path, model: nn.Module, optimizers: Sequence[Optimizer]) -> Reached | None:
    """Puts model and optimizers where the run was; None where there is no checkpoint. Raises ValueError for one of another model."""
    path = folder / FILE
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    weights = learned(model)
    if {name: w.shape for name, w in weights.items()} != {name: w.shape for name, w in state["weights"].items()}:
        raise ValueError(f"{path} holds another model's weights: take another --out, or delete {folder}")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(state["weights"][name])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return Reached(state["step"], msgspec.json.decode(state["curve"], type=Curve))


def remove(folder: Path) -> None:
    (folder / FILE).unlink(missing_ok=True)


def learned(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
