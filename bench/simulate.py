"""A whole market on this machine: minutes and memory of `aigq simulate` for 20,000 shoppers and 32 days, both laws, and what it holds.

Each law is played by the command itself, with its own number of processes. Memory is the largest sum of all of them (PSS: what they share
counts once), looked at from outside.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bench.result import ROOT, TARGETS, Target, write
from simulation.market_folder import read_market

LAWS = ("missions", "habits")
LOOK_S = 1.0
GIB = 1 << 30
CAUSE = "see figures: by law"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="prove that it runs: few shoppers, no figures to quote")
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    shoppers, days = (200, 6) if options.small else (20_000, 32)
    with tempfile.TemporaryDirectory() as folder:
        played = {law: play(law, shoppers, days, options.seed, Path(folder, law)) for law in LAWS}
    worst = {
        "minutes": max(each["minutes"] for each in played.values()),
        "gib": max(each["gib"] for each in played.values()),
        "clicked_pages": min(each["clicked_pages"] for each in played.values()),
    }
    targets = [Target(name, worst[name], bound, CAUSE) for name, bound in TARGETS["simulate"].items()]
    write("simulate", {"shoppers": shoppers, "days": days, "by_law": played}, targets, options.seed, options.small)


def play(law: str, shoppers: int, days: int, seed: int, out: Path) -> dict[str, Any]:
    asked = ("--law", law, "--shoppers", shoppers, "--days", days, "--seed", seed, "--out", out)
    words = [sys.executable, "-m", "cli", "simulate", *map(str, asked)]
    begun, most = time.monotonic(), 0
    child = psutil.Popen(words, cwd=ROOT)
    while child.poll() is None:
        most = max(most, sum(held(child)))
        with contextlib.suppress(psutil.TimeoutExpired):
            child.wait(LOOK_S)
    minutes = (time.monotonic() - begun) / 60
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, words)
    counts = read_market(out).counts
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return {
        "minutes": round(minutes, 2),
        "gib": round(most / GIB, 2),
        "clicked_pages": counts.clicked_exposures,
        "events": counts.searches + counts.clicks,
        "gib_on_disk": round(size / GIB, 2),
    }


def held(child: psutil.Process) -> Iterator[int]:
    """Bytes of each process that the command has at this instant."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in [child, *child.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                yield each.memory_full_info().pss


if __name__ == "__main__":
    main()
