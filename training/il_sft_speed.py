"""A two-second benchmark before a run: with how many threads, and in which dtype, forward and backward are fastest here and now.

A processor that claims bf16 may be slower with it (measured: 0.6 - 0.7 of fp32, and 0.02 where it is emulated), and a second
thread beside a busy core waits for it (4 to 8 times slower than one).
"""

import os
import time
from collections.abc import Sequence
from typing import Literal

import msgspec
import torch
from transformers import PreTrainedModel

from training.bucket import Row, batch_of, losses
from training.il_sft_optimizer import native_bf16
from training.progress import say

Dtype = Literal["float32", "bfloat16"]
TRIED_S = 0.6
TRIED_TOKENS = 1_024
WORTH = 1.15
"""Times as fast as fp32 on one thread that another way must be: rounding and a second core are prices too."""


class Way(msgspec.Struct, frozen=True):
    """How a run computes. Part of what it repeats: another dtype or number of threads gives other last digits."""

    dtype: Dtype
    threads: int
    native_bf16: bool
    device: str = "cpu"
    tried: dict[str, int] = {}
    """Tokens a second of the ways that were tried: `float32 x 1`."""


def choose(model: PreTrainedModel, rows: Sequence[Row], pad: int, dtype: Dtype | Literal["auto"], threads: int) -> Way:
    """dtype `auto` and threads 0 are chosen by measuring. Leaves model and random numbers as they were."""
    native, device = native_bf16(), model.device
    cores = len(os.sched_getaffinity(0))
    on_cpu = device.type == "cpu"
    batch = batch_of(_some(rows), pad, device)
    tried: dict[str, int] = {}

    def speed(dtype: Dtype, threads: int) -> float:
        torch.set_num_threads(threads)
        _step(model, batch, dtype)
        begun, times = time.perf_counter(), []
        while not times or time.perf_counter() - begun < TRIED_S:
            before = time.perf_counter()
            _step(model, batch, dtype)
            times.append(time.perf_counter() - before)
        per_s = batch.tokens / min(times)  # the fastest: others only say what else ran on this machine
        tried[f"{dtype} x {threads}"] = round(per_s)
        return per_s

    if not threads:
        threads = 1
        if on_cpu and cores > 1 and speed("float32", cores) > WORTH * speed("float32", 1):
            threads = cores
    if dtype == "auto":
        dtype = "float32"
        if native:
            plain = tried.get(f"float32 x {threads}") or speed("float32", threads)
            dtype = "bfloat16" if speed("bfloat16", threads) > WORTH * plain else "float32"
    model.zero_grad(set_to_none=True)
    torch.set_num_threads(threads)
    shown = ", ".join(f"{way} {per_s:,}" for way, per_s in tried.items())
    say(f"{dtype} on {threads} thread{'s' if threads > 1 else ''}" + (f"; tokens/s tried: {shown}" if shown else ""))
    return Way(dtype, threads, native, device.type, tried)


def precision(way: Way) -> torch.autocast:
    """Weights stay fp32; with bfloat16, products are made in it."""
    return torch.autocast(way.device, torch.bfloat16, enabled=way.dtype == "bfloat16")


def _step(model: PreTrainedModel, batch, dtype: Dtype) -> None:
    with torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        sum(losses(model, batch)).backward()  # pyright: ignore[reportAttributeAccessIssue]
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    model.zero_grad(set_to_none=True)


def _some(rows: Sequence[Row]) -> list[Row]:
    """Rows of middling length that fill about TRIED_TOKENS."""
    by_length = sorted(rows, key=lambda row: len(row.tokens))
    middle = len(by_length) // 2
    taken = [by_length[middle]]
    for row in by_length[middle + 1 :]:
        if len(row.tokens) * (len(taken) + 1) > TRIED_TOKENS:
            break
        taken.append(row)
    return taken
