"""A training that is killed with -9 and started again draws the same curve and writes the same weights as one that was not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.small_samples import write_samples
from training import checkpoint
from training.checkpoint import FILE, Reached
from training.decoder import load_decoder
from training.il_sft_optimizer import optimizers
from training.progress import Curve, read_curve
from training.tiny import random_bundle


def command(samples: Path, base: Path, out: Path, checkpoint_s: float) -> list[str]:
    options = f"--out {out} --base {base} --samples 500 --batch-tokens 1024 --unlearn 0.4 --dtype float32 --threads 1"
    words = ["-m", "cli", "sft", str(samples), *options.split(), "--checkpoint-s", str(checkpoint_s)]
    return [sys.executable, *words]


def kill_after(process: subprocess.Popen[bytes], path: Path, stamps: int) -> None:
    """Kills -9 as soon as the file has been written so many times."""
    seen: set[int] = set()
    while process.poll() is None:
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
            if len(seen) >= stamps:
                process.send_signal(signal.SIGKILL)
        time.sleep(0.002)


def test_killed_and_started_again_it_ends_with_the_same_curve_and_weights(tmp_path: Path):
    samples = write_samples(tmp_path / "samples")
    base = random_bundle(tmp_path / "base").path
    subprocess.run(command(samples, base, tmp_path / "whole", 1e9), check=True, capture_output=True)
    killed = tmp_path / "killed"
    reached = []
    for stamps in (2, 6):
        # The first is killed while it learns lists, the second mostly while it unlearns repeats.
        with subprocess.Popen(command(samples, base, killed, 0.0), stderr=subprocess.DEVNULL) as process:
            kill_after(process, killed / FILE, stamps)
        assert process.returncode == -signal.SIGKILL
        reached.append(torch.load(killed / FILE, weights_only=True)["step"])
    assert 0 < reached[0] < reached[1]
    last = subprocess.run(command(samples, base, killed, 0.0), check=True, capture_output=True, text=True)
    assert f"goes on after step {reached[1]} of" in last.stderr
    whole, again = read_curve(tmp_path / "whole"), read_curve(killed)
    assert reached[1] < len(whole.answer)
    assert whole == again
    weights = [(out / "bundle" / "model.safetensors").read_bytes() for out in (tmp_path / "whole", killed)]
    assert weights[0] == weights[1]
    assert not (killed / FILE).exists()


def test_a_checkpoint_that_was_being_written_is_none(tmp_path: Path):
    model = load_decoder(random_bundle(tmp_path / "base"))
    (tmp_path / (FILE + checkpoint.BEING_WRITTEN)).write_bytes(b"half")
    assert checkpoint.load(tmp_path, model, optimizers(model, True, 1e-3, 0.0, False)) is None


def test_another_models_checkpoint_is_refused(tmp_path: Path):
    model = load_decoder(random_bundle(tmp_path / "base"))
    methods = optimizers(model, True, 1e-3, 0.0, False)
    checkpoint.save(tmp_path, Reached(3, Curve(answer=[1.0])), model, methods)
    assert checkpoint.load(tmp_path, model, methods) == Reached(3, Curve(answer=[1.0]))
    model.lm_head.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="another model's weights"):
        checkpoint.load(tmp_path, model, methods)
