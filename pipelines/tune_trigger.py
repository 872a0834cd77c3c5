"""`aigq tune-trigger`: lists per shopper-day against next-query hits for every policy, from a log, and the policy to take.

archive -> lives under every policy (trigger_lives.py) -> lists by the product's own engine -> table, trigger.json, trigger.svg
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from inference.engine import Answer, Generated
from inference.local_engine import LocalEngine
from inference.model_versions import latest
from inference.output import QueryList, QueryRules, normalise, parse_list
from inference.prompt import build_prompt
from interest import TriggerPolicy
from pipelines.screen import Screen
from pipelines.trigger_lives import Life, Lists, Trigger, hits, lives_of, make_lists, triggers
from schemas.codec import decoder_for
from store.operations import OperationProgress
from training.log import Case
from training.yardstick.bootstrap import Estimate, estimate

RESAMPLES = 2_000


@dataclass(frozen=True)
class Tuning:
    archive: str
    models: str
    model: str
    shoppers: float
    """Share of the shoppers."""
    from_ms: int
    drifts: tuple[float, ...]
    pauses_s: tuple[tuple[float, float], ...]
    """(settle, cooldown)."""
    keep: float
    """Share of the hits of a list an event that the advised policy must keep."""
    seed: int = 1


@dataclass(frozen=True)
class Row:
    """One policy, with 95 % intervals over shoppers: what happens to one shopper hangs together. Shares are against the first one tried, a list an event."""

    name: str
    lists_per_shopper_day: Estimate
    lists_share: Estimate
    hit_rate: Estimate
    """Hits over looks."""
    hits_kept: Estimate


@dataclass(frozen=True)
class Tuned:
    shoppers: int
    events: int
    looks: int
    model: str
    lists_written: int
    rows: tuple[Row, ...]
    advised: Row


def tune(tuning: Tuning) -> Tuned:
    """Raises ValueError where the archive has no shopper of the sample, or no model is promoted."""
    served = latest(tuning.models, tuning.model)
    if served is None:
        raise ValueError(f"no model is promoted in {tuning.models}/{tuning.model}: aigq models promote")
    tried = triggers(TriggerPolicy(), tuning.drifts, tuning.pauses_s)
    lives = lives_of(tuning.archive, decoder_for(), tried, tuning.shoppers, tuning.from_ms)
    if not any(life.looks for life in lives):
        raise ValueError(
            f"{tuning.archive}: no shopper of the sample saw a search box and searched; take more --shoppers"
        )
    written: dict[str, tuple[str, ...]] = {}

    def lister(cases: Sequence[Case]) -> list[tuple[str, ...]]:
        prompts = [build_prompt(case.profile, case.seen, case.as_of_ms) for case in cases]
        if missing := sorted(set(prompts) - written.keys()):
            written.update(write_lists(tuning.models, tuning.model, missing))
        return [written[prompt] for prompt in prompts]

    lists = make_lists(lives, lister)
    rows = rows_of(lives, tried, lists, tuning.seed)
    return Tuned(
        len(lives),
        sum(life.events for life in lives),
        sum(len(life.looks) for life in lives),
        served.version,
        len(written),
        tuple(rows),
        cheapest(rows, tuning.keep),
    )


def write_lists(models: str, model: str, prompts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """prompt -> normalised queries, by the engine of the job; none for an output that is no list."""
    answers: dict[str, Answer] = {}
    arrived = threading.Condition()

    def note(prompt: str, answer: Answer) -> None:
        with arrived:
            answers[prompt] = answer
            arrived.notify_all()

    engine = LocalEngine(lambda: latest(models, model))
    try:
        with Screen() as screen:
            for number, prompt in enumerate(prompts):
                while engine.room() == 0:  # loading, or full
                    with arrived:
                        arrived.wait(0.1)
                engine.submit(prompt, prompt, note)
                screen.show(OperationProgress(done=number, of=len(prompts)))
            with arrived:
                arrived.wait_for(lambda: len(answers) == len(prompts))
    finally:
        engine.close()
    return {prompt: _queries(answer) for prompt, answer in answers.items()}


def _queries(answer: Answer) -> tuple[str, ...]:
    if not isinstance(answer, Generated):
        return ()
    parsed = parse_list(answer.text, QueryRules(), answer.finish)
    return tuple(map(normalise, parsed.queries)) if isinstance(parsed, QueryList) else ()


def rows_of(lives: Sequence[Life], tried: Sequence[Trigger], lists: Lists, seed: int) -> list[Row]:
    """Shares are of the first one tried."""
    days = np.array([len(life.days) for life in lives], float)
    looks = np.array([len(life.looks) for life in lives], float)
    made = {name: np.array([life.lists_made(name) for life in lives], float) for name, _ in tried}
    hit = {name: np.array([hits(life, name, lists) for life in lives], float) for name, _ in tried}
    first, drawn = tried[0].name, resamples(len(lives), seed)
    return [
        Row(
            name,
            ratio(made[name], days, drawn),
            ratio(made[name], made[first], drawn),
            ratio(hit[name], looks, drawn),
            ratio(hit[name], hit[first], drawn),
        )
        for name, _ in tried
    ]


def cheapest(rows: Sequence[Row], hits_kept: float) -> Row:
    """The row with the fewest lists among those that keep so many hits; where none does, the one that keeps most."""
    enough = [row for row in rows if row.hits_kept.value >= hits_kept]
    if not enough:
        return max(rows, key=lambda row: row.hits_kept.value)
    return min(enough, key=lambda row: row.lists_share.value)


def resamples(shoppers: int, seed: int) -> np.ndarray:
    """(RESAMPLES, shoppers) how often each shopper is in each: the same for every row, so that differences are paired."""
    rng, drawn = np.random.default_rng(seed), np.empty((RESAMPLES, shoppers))
    for draw in drawn:
        draw[:] = np.bincount(rng.integers(shoppers, size=shoppers), minlength=shoppers)
    return drawn


def ratio(numerator: np.ndarray, denominator: np.ndarray, drawn: np.ndarray) -> Estimate:
    """Ratio of the sums over shoppers. 0 where the denominator is."""
    below = drawn @ denominator
    ratios = np.divide(drawn @ numerator, below, out=np.zeros(len(drawn)), where=below > 0)
    total = denominator.sum()
    return estimate(float(numerator.sum() / total) if total else 0.0, ratios)


def show(tuned: Tuned) -> None:
    table = Table(title="Lists against hits (95 % intervals over shoppers)", title_justify="left")
    for heading in ("policy", "lists per shopper-day", "share of lists", "hit rate at a look", "hits kept"):
        table.add_column(heading)
    for row in tuned.rows:
        figures = (row.lists_per_shopper_day, row.lists_share, row.hit_rate, row.hits_kept)
        cells = [f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in figures]
        table.add_row(row.name, *cells, style="bold" if row is tuned.advised else "")
    console = Console(width=150)
    console.print(table)
    console.print(
        f"{tuned.shoppers:,} shoppers, {tuned.events:,} events, {tuned.looks:,} looks; {tuned.model}; advised: {tuned.advised.name}"
    )


def write(tuned: Tuned, folder: Path) -> None:
    """trigger.json and trigger.svg in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trigger.json").write_text(json.dumps(asdict(tuned), indent=2) + "\n")
    plot(tuned.rows, tuned.advised, folder / "trigger.svg")


def plot(rows: Sequence[Row], advised: Row, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "trigger"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for row in rows:
        x, y = row.lists_per_shopper_day, row.hit_rate
        axes.errorbar(
            x.value,
            y.value,
            xerr=[[x.value - x.low], [x.high - x.value]],
            yerr=[[y.value - y.low], [y.high - y.value]],
            fmt="D" if row is advised else "o",
            color="tab:red" if row is advised else "tab:blue",
            markersize=4,
        )
        axes.annotate(row.name, (x.value, y.value), fontsize=6, xytext=(4, 3), textcoords="offset points")
    axes.set_xlabel("lists per shopper-day")
    axes.set_ylabel("looks whose next search the list held")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
