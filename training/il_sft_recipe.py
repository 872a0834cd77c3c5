"""Every setting of a run, and what a run was asked for: the same plan again goes on with it, another one is refused."""

import math
import os
import subprocess
from pathlib import Path
from typing import Literal

import msgspec

from training.il_sft_speed import Dtype, Way

PLAN = "plan.json"
COOLING = 0.4
"""Share of the learning rate with which the last part begins; from there it falls to zero in a line."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A run is paced by its samples and never by the clock, so the same recipe on the same data, kind of machine, dtype and number of
    threads gives the same bits."""

    seed: int = 1
    """Of new weights and of the order of the samples."""
    samples: int = 0
    """Length of the run; 0 is one pass, more than there are is several."""
    batch_tokens: int = 4_096
    """Padding included."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon for a decoder of our own, adamw for a large pretrained model and for LoRA."""
    learning_rate: float = 6e-3
    warmup: float = 0.03
    """Share of the run."""
    weight_decay: float = 0.05
    clip: float = 1.0
    history_weight: float = 0.3
    """Of the loss on searches in the prompt: they say what follows a query, in tokens that are computed anyway."""
    unlearn: float = 0.08
    """Last share of the run, in which repeats in own lists are unlearned (docs/decisions/0004); a step of it takes about twice the time."""
    repeat_weight: float = 4.0
    renew: int = 2
    """Steps for which own lists are used: writing them costs as much as a step."""
    lora_rank: int = 0
    """0 learns all weights."""
    held_out: int = 300
    """Samples of shoppers that are left out of the training, for the curve only: the test days are for `aigq evaluate`."""
    dtype: Dtype | Literal["auto"] = "auto"
    threads: int = 0
    """0 chooses."""

    def errors(self) -> list[str]:
        """What is wrong with these values, all at once; empty where nothing is."""
        checks = (
            (self.samples >= 0, f"samples must not be negative, is {self.samples}"),
            (self.batch_tokens > 0, f"batch_tokens must be above 0, is {self.batch_tokens}"),
            (self.learning_rate > 0, f"learning_rate must be above 0, is {self.learning_rate}"),
            (0 <= self.unlearn + self.warmup < 1, f"warmup {self.warmup} and unlearn {self.unlearn} leave no run"),
            (self.renew >= 1, f"renew must be at least 1, is {self.renew}"),
            (self.lora_rank >= 0, f"lora_rank must not be negative, is {self.lora_rank}"),
            (
                not (self.lora_rank and self.optimizer == "muon"),
                "LoRA is learned with adamw: its matrices are low-rank by design, and muon would make them full",
            ),
            (
                0 <= self.threads <= len(os.sched_getaffinity(0)),
                f"threads must be at most {len(os.sched_getaffinity(0))}, is {self.threads}",
            ),
        )
        return [message for holds, message in checks if not holds]

    def rate(self, done: float) -> float:
        """Learning rate at `done` (0 .. 1) of the run: up in a line, down by a cosine to COOLING, and to zero in a line over the last
        share; without a last share, by the cosine to zero."""
        lowest = COOLING if self.unlearn else 0.0
        if done < self.warmup:
            return self.learning_rate * max(done, 1e-3) / self.warmup
        if not self.unlearn or done < 1 - self.unlearn:
            way = (done - self.warmup) / (1 - self.unlearn - self.warmup)
            return self.learning_rate * (lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * way)))
        return self.learning_rate * COOLING * (1 - done) / self.unlearn


class Plan(msgspec.Struct, frozen=True):
    """What a run was asked for."""

    stage: str
    """pretrain, il-sft or sft-plain."""
    prompts: Literal["compressed", "plain"]
    base: str
    """Digest of what it starts from."""
    data: str
    """Digest of the rows."""
    recipe: Recipe


class Begun(msgspec.Struct, frozen=True):
    """plan.json: what was asked for, and what was then found out or chosen."""

    plan: Plan
    way: Way
    revision: str


class OtherRun(ValueError):
    """The folder holds a run with another plan."""


def begun(folder: Path, plan: Plan) -> Begun | None:
    """The run in the folder; None where none has begun. Raises OtherRun."""
    path = folder / PLAN
    if not path.exists():
        return None
    found = msgspec.json.decode(path.read_bytes(), type=Begun)
    if found.plan != plan:
        there, here = _flat(found.plan), _flat(plan)
        differ = [f"{name} {there[name]} there, {here[name]} here" for name in here if there[name] != here[name]]
        raise OtherRun(f"{folder} holds another run ({'; '.join(differ)}): take another --out, or delete that folder")
    return found


def begin(folder: Path, plan: Plan, way: Way) -> Begun:
    folder.mkdir(parents=True, exist_ok=True)
    made = Begun(plan, way, git_revision())
    writing = folder / (PLAN + ".writing")
    writing.write_bytes(msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    os.replace(writing, folder / PLAN)
    return made


def git_revision() -> str:
    """Of the code that makes a model, `+` where it is changed; empty outside a repository."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", "training", "inference") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    root = Path(__file__).parent.parent
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def _flat(plan: Plan) -> dict[str, object]:
    settings = msgspec.structs.asdict(plan)
    return settings | msgspec.structs.asdict(settings.pop("recipe"))
