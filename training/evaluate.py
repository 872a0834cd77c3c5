"""`aigq evaluate`: does the model's list hold the next query of shoppers it has never seen, more often than simple rules do?

Shoppers of another seed, moments after the training log's end: neither the shopper nor the time was trained on. Hit: one of
the first n queries equals the shopper's next search (normalised). Intervals: 95 %, bootstrap over shoppers.
"""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random

import msgspec
import numpy as np

from inference.model_bundle import ModelBundle
from inference.output import QueryList, QueryRules, normalise, parse_list
from simulation.market import DAY_MS, Market
from training.baselines import baselines
from training.decode import greedy
from training.decoder import load_decoder, write_card
from training.samples import LIST_LENGTH, Case, cases, histories
from training.sft import START_MS, git_revision

HELD_OUT = 1_000
"""Added to the training's seed."""
TEST_DAYS = 15
RESAMPLES = 2_000
SHOWN = 5


class Figure(msgspec.Struct, frozen=True):
    value: float
    low: float
    high: float


class Row(msgspec.Struct, frozen=True):
    name: str
    hr_10: Figure
    hr_3: Figure
    hr_1: Figure


class Example(msgspec.Struct, frozen=True):
    prompt: str
    next: tuple[str, ...]
    queries: tuple[str, ...]


class Evaluation(msgspec.Struct, frozen=True):
    simulated: bool
    """True: these are not real shoppers, and the figures say nothing about them."""
    command: str
    date: str
    machine: str
    git_revision: str
    model: str
    weights: str
    """sha256 of model.safetensors."""
    seed: int
    shoppers: int
    cases: int
    valid_lists: float
    """Share of outputs that the job takes as lists (`inference.output.parse_list`: at least five good queries)."""
    whole_lists: float
    """Share of outputs that hold ten."""
    tokens_per_answer: float
    compression: float
    """Tokens of a compressed prompt over tokens of the same facts in plain words (AIGQ eq. 1), same vocabulary."""
    seen_before: float
    """Share of next queries that were in the training log at all: no list can hit the others but by luck."""
    rows: tuple[Row, ...]
    gain: Figure
    """HR@10 of the model minus HR@10 of the best rule, paired."""
    best_rule: str
    examples: tuple[Example, ...]


def evaluate(path: str | Path, shoppers: int = 1_500, out: str | Path | None = None) -> Evaluation:
    """Measures a bundle; with `out` writes model.json and model.md into that folder."""
    bundle = ModelBundle.open(path)
    seed, days = bundle.card.seed, int(bundle.card.recipe["days"])
    log = histories(Market(seed, int(bundle.card.recipe["shoppers"])).events(START_MS, days))
    tested = held_out(seed + HELD_OUT, shoppers, days)
    truths = [normalise(case.next[0]) for case in tested]

    outputs = greedy(load_decoder(bundle), bundle.tokenizer, [case.prompt() for case in tested])
    parsed = [parse_list(text, QueryRules(), "stop" if ended else "length") for text, ended in outputs]
    lists = [tuple(map(normalise, p.queries)) if isinstance(p, QueryList) else () for p in parsed]
    rules = baselines(log)
    ranked = {"model": lists} | {name: [rule(case) for case in tested] for name, rule in rules.items()}

    groups = _by_shopper(tested)
    hits = {name: _hits(made, truths, LIST_LENGTH) for name, made in ranked.items()}
    best = max(rules, key=lambda name: hits[name].mean())
    known = {normalise(b.text) for history in log for b in history.behaviours if b.kind == "search"}
    rows = tuple(
        Row(name, *(_figure(_hits(made, truths, n), groups) for n in (10, 3, 1))) for name, made in ranked.items()
    )
    found = Evaluation(
        simulated=True,
        command=f"aigq evaluate models/{bundle.card.name}/{bundle.card.version} --shoppers {shoppers}",
        date=datetime.now(UTC).date().isoformat(),
        machine=f"{platform.machine()}, {platform.processor() or platform.system()}, CPU",
        git_revision=git_revision(),
        model=f"{bundle.card.name}/{bundle.card.version}",
        weights=sha256((bundle.path / "model.safetensors").read_bytes()).hexdigest(),
        seed=seed + HELD_OUT,
        shoppers=len(groups),
        cases=len(tested),
        valid_lists=round(sum(bool(made) for made in lists) / len(lists), 4),
        whole_lists=round(sum(len(made) == LIST_LENGTH for made in lists) / len(lists), 4),
        tokens_per_answer=_tokens(bundle, [text for text, _ in outputs]),
        compression=round(
            _tokens(bundle, [case.prompt() for case in tested[:500]])
            / _tokens(bundle, [case.prompt(plain=True) for case in tested[:500]]),
            3,
        ),
        seen_before=round(sum(truth in known for truth in truths) / len(truths), 4),
        rows=rows,
        gain=_figure(hits["model"] - hits[best], groups),
        best_rule=best,
        examples=tuple(
            Example(case.prompt(), case.next[:LIST_LENGTH], p.queries if isinstance(p, QueryList) else ())
            for case, p in list(zip(tested, parsed, strict=True))[:: max(1, len(tested) // SHOWN)][:SHOWN]
        ),
    )
    if out:
        _write(found, Path(out))
    return found


def record(path: str | Path, found: Evaluation) -> ModelBundle:
    """Writes what was measured into the bundle's card, before it is published."""
    bundle = ModelBundle.open(path)
    figures = {row.name: row.hr_10.value for row in found.rows}
    metrics = bundle.card.metrics | {
        "hr_10": figures["model"],
        "popularity_hr_10": figures["popularity"],
        "best_rule_hr_10": figures[found.best_rule],
        "valid_lists": found.valid_lists,
        "whole_lists": found.whole_lists,
    }
    write_card(bundle.path, msgspec.structs.replace(bundle.card, metrics=metrics))
    return ModelBundle.open(path)


def held_out(seed: int, shoppers: int, days: int) -> list[Case]:
    """Two moments of each shopper of another seed, after `days` days, that are followed by a search."""
    rng = Random(f"held out {seed}")
    from_ms = START_MS + days * DAY_MS
    log = histories(Market(seed, shoppers).events(START_MS, days + TEST_DAYS))
    return [case for history in log for case in cases(history, 2, rng, from_ms) if case.next]


def _hits(made: Sequence[tuple[str, ...]], truths: Sequence[str], first: int) -> np.ndarray:
    return np.array([truth in queries[:first] for queries, truth in zip(made, truths, strict=True)], dtype=float)


def _by_shopper(tested: Sequence[Case]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for i, case in enumerate(tested):
        groups.setdefault(case.user, []).append(i)
    return list(groups.values())


def _figure(values: np.ndarray, groups: Sequence[list[int]]) -> Figure:
    """Mean over cases with its 95 % interval: shoppers are drawn again, each with all of her cases."""
    sums = np.array([values[group].sum() for group in groups])
    counts = np.array([len(group) for group in groups])
    drawn = np.random.default_rng(0).integers(len(groups), size=(RESAMPLES, len(groups)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Figure(round(float(values.mean()), 4), round(float(low), 4), round(float(high), 4))


def _tokens(bundle: ModelBundle, texts: Sequence[str]) -> float:
    return round(sum(len(e.ids) for e in bundle.tokenizer.encode_batch(list(texts))) / len(texts), 1)


def _write(found: Evaluation, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    (folder / "model.md").write_text(report(found))


def report(found: Evaluation) -> str:
    """The evaluation as a page."""
    table = "\n".join(
        f"| {row.name} | {_shown(row.hr_10)} | {_shown(row.hr_3)} | {_shown(row.hr_1)} |" for row in found.rows
    )
    examples = "\n\n".join(
        f"```\n{example.prompt}\n```\n- next searches: {', '.join(example.next)}\n- the model's list: {', '.join(example.queries)}"
        for example in found.examples
    )
    return f"""# The shipped model on held-out simulated shoppers

Simulated shoppers, not real ones: the figures say that the chain learns what there is to learn in `simulation/`, and nothing
about a real shop. Neither the shoppers nor the days of the test were trained on.

| | HR@10 | HR@3 | HR@1 |
|---|---|---|---|
{table}

HR@n: the shopper's next search is among the first n queries (normalised equality); in brackets 95 % intervals, bootstrap over
{found.shoppers} shoppers ({found.cases} moments). The model hits {_shown(found.gain)} more of the next searches at 10 than
{found.best_rule}, the best rule (paired). {found.seen_before:.1%} of the next searches were in the training log at all.

- {found.valid_lists:.1%} of the greedy outputs are lists by the job's rules (`inference/output.py`: at least five good queries);
  {found.whole_lists:.1%} hold ten.
- An answer has {found.tokens_per_answer} tokens; a compressed prompt has {found.compression:.0%} of the tokens of the plain one.

| | |
|---|---|
| model | {found.model}, sha256 of its weights {found.weights[:16]}... |
| command | `{found.command}` |
| seed of the shoppers | {found.seed} |
| date, machine | {found.date}, {found.machine} |
| revision | {found.git_revision} |

## {len(found.examples)} examples, evenly spaced over the test

{examples}
"""


def _shown(figure: Figure) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
