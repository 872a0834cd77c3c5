"""How a run is getting on: a line every half minute with what is left, and the curve of its losses as JSON and as a picture."""

import os
import sys
import time
from pathlib import Path

import msgspec

REPORT_S = 30.0
RECENT = 50
"""Steps that a reported mean is over."""
CURVE, PLOT = "curve.json", "loss.png"


class Curve(msgspec.Struct):
    """Losses of every step, and of held-out shoppers now and then. A loss is nats per token, None where a step had none."""

    answer: list[float | None] = []
    history: list[float | None] = []
    repeat: list[float | None] = []
    """Unlikelihood of repeats in own lists."""
    own_lists_distinct: list[float | None] = []
    """Share of own lists that repeat nothing."""
    samples: list[int] = []
    """Samples of each step."""
    tokens: list[int] = []
    """Tokens of each step, without padding."""
    held_out_steps: list[int] = []
    held_out: list[float] = []
    """Loss on held-out shoppers after that many steps: answers, or histories where rows have no answers."""

    def recent(self, of: list[float | None]) -> float | None:
        """Mean over the newest RECENT steps that had this loss."""
        there = [value for value in of if value is not None][-RECENT:]
        return sum(there) / len(there) if there else None


class Progress:
    """Prints to stderr. Time is told from the tokens that this process learned: a run that goes on knows nothing of the time before."""

    def __init__(self, tokens: int, all_tokens: int, steps: int, every_s: float = REPORT_S):
        """tokens: done already, of all_tokens."""
        self._begin, self._all, self._steps, self._every_s = tokens, all_tokens, steps, every_s
        self._started = self._reported = time.monotonic()

    def report(self, curve: Curve, tokens: int, last: bool = False) -> None:
        now = time.monotonic()
        if now - self._reported < self._every_s and not last:
            return
        self._reported, elapsed = now, max(now - self._started, 1e-9)
        per_s = (tokens - self._begin) / elapsed
        left = (self._all - tokens) / per_s if per_s else 0.0
        parts = [
            f"{name} {mean:.3f}"
            for name, mean in (
                ("answers", curve.recent(curve.answer)),
                ("histories", curve.recent(curve.history)),
                ("repeats", curve.recent(curve.repeat)),
                ("held out", curve.held_out[-1] if curve.held_out else None),
            )
            if mean is not None
        ]
        step = len(curve.samples)
        say(
            f"{tokens / self._all:4.0%}  step {step} of {self._steps}  loss: {', '.join(parts)}  "
            f"{per_s:,.0f} tokens/s, {elapsed:.0f} s, about {left:.0f} s left"
        )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def write_curve(folder: Path, curve: Curve) -> None:
    (folder / CURVE).write_bytes(msgspec.json.encode(curve) + b"\n")


def read_curve(folder: Path) -> Curve:
    return msgspec.json.decode((folder / CURVE).read_bytes(), type=Curve)


def plot(folder: Path, curve: Curve, title: str) -> None:
    """loss.png: every step as a thin line, a running mean, and held-out shoppers as dots, over samples seen."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    seen = np.cumsum(curve.samples)
    for name, values, colour in (("answers", curve.answer, "C0"), ("histories", curve.history, "C1")):
        there = np.array([np.nan if value is None else value for value in values], dtype=float)
        if np.isnan(there).all():
            continue
        axes.plot(seen, there, color=colour, linewidth=0.3, alpha=0.5)
        axes.plot(seen, _running_mean(there), color=colour, label=name)
    if curve.held_out:
        at = [int(seen[step - 1]) if step else 0 for step in curve.held_out_steps]
        axes.plot(at, curve.held_out, "k.", label="held-out shoppers")
    axes.set(xlabel="samples seen", ylabel="loss (nats per token)", title=title)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(folder / PLOT, dpi=120)


def _running_mean(values):
    import numpy as np

    width = max(1, min(RECENT, len(values) // 10))
    filled = np.where(np.isnan(values), 0.0, values)
    kernel = np.ones(width)
    there = np.convolve(~np.isnan(values), kernel)[: len(values)]
    return np.convolve(filled, kernel)[: len(values)] / np.maximum(there, 1)
