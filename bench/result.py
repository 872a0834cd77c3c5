"""The result file of a benchmark: what was measured, where, and whether each target was met.

A missed target is written as missed, with its cause. `problems` is what tests/bench holds every committed file to.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
SMALL_RESULTS = ROOT / "build" / "bench"
"""Where `--small` runs leave theirs: they prove that the benchmark runs, and are no figures to quote."""

TARGETS: Mapping[str, Mapping[str, str]] = {
    "event_path": {
        "to_loop": ">= 0.8",
        "to_quix": ">= 1.3",
        "to_bytewax": ">= 1.0",
        "growth_10x": "<= 11",
        "job_mb": "<= start + 10 %",
    },
    "freshness": {"p95_s": "<= 0.5"},
    "generation": {"to_bare_vllm": ">= 0.9"},
    "backfill": {
        "to_bare_vllm": ">= 0.95",
        "growth_10x": "<= 11",
        "live_p95_ratio": "<= 1.25",
        "live_p95_ratio_real_model": "<= 1.25",
    },
    "store": {"bytes_per_shopper": "<= 4608"},
    "replay": {"to_live": ">= 1.0"},
    "rebuild": {"s_per_million_events": "<= 150"},
    "trigger": {"hits_kept": ">= 0.95", "lists_share": "<= 0.25"},
    "archive": {"bytes_per_event": "<= 90", "events_per_s": ">= 50000", "live_share_lost": "<= 0.1"},
    "simulate": {"minutes": "<= 10", "gib": "<= 2", "clicked_pages": ">= 30000"},
    "subwords": {"loss_saved_lower": ">= 0"},
    "sft": {"to_trainer_default": ">= 1.3", "to_trainer_grouped": ">= 1.0"},
}
"""What every benchmark has to answer. `start + 10 %` stands for a bound that the run itself measures."""
SHOWN_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass(frozen=True)
class Target:
    """One promise and what was measured."""

    name: str
    value: float
    bound: str
    """`>= 0.8` or `<= 11`."""
    cause: str = ""
    """Why it was missed; empty where it was met."""

    @property
    def met(self) -> bool:
        return holds(self.value, self.bound)


def holds(value: float, bound: str) -> bool:
    """Whether `value` keeps a bound such as `>= 0.8`. Raises ValueError for anything else."""
    comparison, _, limit = bound.partition(" ")
    if comparison == ">=":
        return value >= float(limit)
    if comparison == "<=":
        return value <= float(limit)
    raise ValueError(f"a bound is '>= NUMBER' or '<= NUMBER', got {bound!r}")


def write(name: str, figures: Mapping[str, Any], targets: list[Target], seed: int, small: bool) -> Path:
    """Writes the result file and prints the targets. Returns its path."""
    result = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine(),
        "git": revision(),
        "command": f"python -m bench.{name}{' --small' if small else ''}",
        "seed": seed,
        "targets": [_as_json(target) for target in targets],
        "figures": figures,
    }
    path = (SMALL_RESULTS if small else RESULTS) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f"{path.name}.{os.getpid()}")
    writing.write_text(json.dumps(result, indent=2) + "\n")
    writing.replace(path)  # whole at any instant: two small runs may write the same file
    for target in targets:
        verdict = "met" if target.met else f"MISSED: {target.cause}"
        print(f"{name}.{target.name} = {target.value:.4g} ({target.bound}) {verdict}", flush=True)
    print(f"written: {path.relative_to(ROOT)}", file=sys.stderr)
    return path


def _as_json(target: Target) -> dict[str, Any]:
    return asdict(target) | {"met": target.met, "cause": "" if target.met else target.cause}


def machine() -> dict[str, Any]:
    """The processor, the flags that matter here, and how many cores this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    described = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = described.get("flags", "").split()
    return {
        "cpu": described.get("model name", "unknown"),
        "cpu_flags": [flag for flag in SHOWN_FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
    }


def revision() -> str:
    """Short revision of the working tree, `+` where it holds uncommitted changes."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    # Results themselves and files that git does not know are no change of what was measured.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results", ":!docs")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def problems(result: Mapping[str, Any]) -> list[str]:
    """What is wrong with a result file, all at once; empty where nothing is."""
    wrong = [
        f"no {key!r}"
        for key in ("name", "date", "cpu", "cpu_flags", "cores", "git", "command", "seed", "figures", "targets")
        if key not in result
    ]
    if wrong:
        return wrong
    expected = TARGETS.get(result["name"])
    if expected is None:
        return [f"unknown benchmark {result['name']!r}"]
    found = {target["name"]: target for target in result["targets"]}
    wrong += [f"no target {name!r}" for name in expected if name not in found]
    for name, target in found.items():
        bound = expected.get(name)
        if bound is None:
            wrong.append(f"target {name!r} is not one of {', '.join(expected)}")
        elif "start" not in bound and target["bound"] != bound:
            wrong.append(f"{name}: bound {target['bound']!r} is not the promised {bound!r}")
        elif target["met"] != holds(target["value"], target["bound"]):
            wrong.append(f"{name}: met={target['met']} does not follow from {target['value']} {target['bound']}")
        elif not target["met"] and not target.get("cause"):
            wrong.append(f"{name}: missed without a cause")
    return wrong
