"""What a run measured, as files: a part for each market, and all parts of a folder together.

OUT/parts/MARKET.json    one run
OUT/quality.json         rows of all parts, rows over several draws of a market, and the targets
"""

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from training.yardstick.bootstrap import Estimate, over_draws
from training.yardstick.examples import Words
from training.yardstick.metrics import PRIMARY

GAIN = f"{PRIMARY} gain over best baseline"
GAIN_OVER_POPULARITY = f"{PRIMARY} gain over popularity"
BLENDED = f"{PRIMARY} gain of the blend with it as one more source"
VALID = "valid share"
PROMPT_TOKENS = "prompt tokens"
DRAWS = "all draws"
BOUNDS = {
    "direct_over_best_baseline": ">= 0",
    "null_gain_upper": "<= 0.01",
    "real_blend_plus_lm_lower": ">= -0.02",
    "valid_share": ">= 0.995",
}
"""What docs/decisions/0007 expects. The first is a lower bound, so above 0 is beyond chance."""
CAUSES = {
    "direct_over_best_baseline": "the blend counts, up to the page's day, what no prompt holds, and may say queries of fewer than five "
    "shoppers (docs/decisions/0011)",
}
"""Of the targets that the committed run missed."""
NO_CAUSE = "not known: no committed run missed it before"


def gain_over_it(metric: str, model: str) -> str:
    """A row of another model: by how much this one is ahead of it."""
    return f"{metric} gain of {model} over it"


class Row(msgspec.Struct, frozen=True):
    market: str
    split: str
    """Which cases: all, or a group of them."""
    model: str
    """The contender."""
    seed: str
    """Of the market; `all draws` where a row is over several."""
    metric: str
    value: float
    low: float
    high: float

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, self.low, self.high)


class Fact(msgspec.Struct, frozen=True):
    """Something that is no contender's."""

    name: str
    value: float


class Fitted(msgspec.Struct, frozen=True):
    """How a contender came about."""

    model: str
    setting: str
    """What was chosen on the log's last days."""
    fit_s: float
    rank_s: float


class Part(msgspec.Struct, frozen=True, kw_only=True):
    market: str
    seed: str
    null: bool
    real: bool = False
    whole: bool = True
    """All shoppers were asked; else the part is shown, and no target rests on it."""
    direct: str
    """The model that is judged; empty where none was."""
    models: tuple[str, ...]
    base: str
    """The best baseline here, by the primary metric."""
    command: str
    date: str
    machine: str
    git_revision: str
    cases: int
    shoppers: int
    facts: tuple[Fact, ...]
    fitted: tuple[Fitted, ...]
    rows: tuple[Row, ...]
    examples: tuple[Words, ...] = ()
    """Of a simulated market: a real log's words may stand nowhere."""


class Target(msgspec.Struct, frozen=True):
    """As the benchmarks write theirs (bench/result.py)."""

    name: str
    value: float
    bound: str
    cause: str
    """Why it was missed; empty where it was met."""
    met: bool


class Quality(msgspec.Struct, frozen=True):
    name: str
    rows: tuple[Row, ...]
    targets: tuple[Target, ...]
    parts: tuple[str, ...]
    """Files, in OUT/parts."""
    core_hours: float = 0.0
    """Of all steps of `make results`; 0: made otherwise."""


def processor() -> str:
    """What a part was made on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def write_part(part: Part, out: Path) -> Path:
    """Replaces the part of the same market, if there is one."""
    path = out / "parts" / f"{_file_name(part)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(part), indent=1) + b"\n")
    return path


def read_parts(out: Path) -> list[Part]:
    return [msgspec.json.decode(path.read_bytes(), type=Part) for path in sorted((out / "parts").glob("*.json"))]


def together(parts: Sequence[Part], core_hours: float = 0.0) -> Quality:
    rows = tuple(row for part in parts for row in part.rows)
    every = (*rows, *over_all_draws(rows))
    names = tuple(f"{_file_name(part)}.json" for part in parts)
    return Quality("quality", every, targets(parts, every), names, core_hours)


def over_all_draws(rows: Sequence[Row]) -> list[Row]:
    """One row for each figure that several seeds of a market have."""
    found: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.market, row.split, row.model, row.metric].append(row)
    return [
        Row(market, split, model, DRAWS, metric, *over_draws([row.estimate for row in of_seeds]))
        for (market, split, model, metric), of_seeds in found.items()
        if len(of_seeds) > 1
    ]


def widest(rows: Sequence[Row]) -> list[Row]:
    """Of all cases; over all draws where a market has several."""
    several = {(row.market, row.metric, row.model) for row in rows if row.seed == DRAWS}
    return [
        row
        for row in rows
        if row.split == "all" and (row.seed == DRAWS or (row.market, row.metric, row.model) not in several)
    ]


def targets(parts: Sequence[Part], rows: Sequence[Row]) -> tuple[Target, ...]:
    """Those for which there are figures. Over draws where there are several, else by market; the worst market counts."""
    direct = {part.direct for part in parts if part.direct}
    null, real = {p.market for p in parts if p.null and p.whole}, {p.market for p in parts if p.real}
    judged = widest(rows)

    def of(metric: str, markets: set[str]) -> list[Row]:
        return [row for row in judged if row.metric == metric and row.market in markets]

    simulated = {part.market for part in parts if part.whole} - null - real
    worst = {
        "direct_over_best_baseline": min((r.low for r in of(GAIN, simulated) if r.model in direct), default=math.nan),
        "null_gain_upper": max((r.high for r in of(GAIN_OVER_POPULARITY, null)), default=math.nan),
        "real_blend_plus_lm_lower": min((r.low for r in of(BLENDED, real) if r.model in direct), default=math.nan),
        "valid_share": min((r.value for r in of(VALID, simulated) if r.model in direct), default=math.nan),
    }
    return tuple(_target(name, value) for name, value in worst.items() if not math.isnan(value))


def _target(name: str, value: float) -> Target:
    comparison, limit = BOUNDS[name].split()
    met = value >= float(limit) if comparison == ">=" else value <= float(limit)
    return Target(name, round(value, 4), BOUNDS[name], "" if met else CAUSES.get(name, NO_CAUSE), met)


def _file_name(part: Part) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in f"{part.market} {part.seed}".lower())
    return "-".join(filter(None, plain.split("-")))
