"""The figures for people: a table on the screen, a page, and pictures beside it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from training.yardstick.bootstrap import Estimate
from training.yardstick.examples import Words
from training.yardstick.expected import findings
from training.yardstick.measure import CEILING, COMPARED, RESERVED
from training.yardstick.metrics import PRIMARY
from training.yardstick.results import (
    DRAWS,
    GAIN,
    PROMPT_TOKENS,
    VALID,
    Part,
    Quality,
    Row,
    gain_over_it,
    read_parts,
    together,
    write_part,
)

COLUMNS = ("HR@10", "HR@3", "HR@1", "NDCG@10", "recall@10", "MRR", "HR@30", "recall@30")
MORE = ("category HR@10 (clicks)", "category HR@10 (truth)", "category HR@30 (clicks)", "category HR@30 (truth)", "unique categories@10 (clicks)", "unique categories@10 (truth)", "similarity@10", "similarity nearest@10", "clicked hints HR@10", VALID, PROMPT_TOKENS, "candidates")  # fmt: skip
SPLITS = ("all", "warm", "tail", "cold", "test day 1", "test day 2", "one category", "all categories")


class Figures:
    """Rows of one market, by what they are of."""

    def __init__(self, rows: Iterable[Row]):
        self._of = {(row.split, row.model, row.metric): row.estimate for row in rows}

    def of(self, model: str, metric: str, split: str = "all") -> Estimate | None:
        return self._of.get((split, model, metric))

    def models(self) -> list[str]:
        """Best first by the primary metric; the ceiling above all."""
        found = {model: self.of(model, PRIMARY) for _, model, _ in self._of}
        ranked = [(name, hits.value) for name, hits in found.items() if hits]
        return [name for name, _ in sorted(ranked, key=lambda pair: (pair[0] != CEILING, -pair[1], pair[0]))]

    def metrics(self, start: str) -> list[str]:
        return list(dict.fromkeys(metric for _, _, metric in self._of if metric.startswith(start)))

    def has(self, metric: str) -> bool:
        return any(name == metric for _, _, name in self._of)


def write(part: Part, out: Path) -> Quality:
    """Writes the part, and the pages of all parts in the folder."""
    write_part(part, out)
    return write_pages(read_parts(out), out)


def write_pages(parts: Sequence[Part], out: Path, core_hours: float = 0.0) -> Quality:
    """quality.json, quality.md and pictures. `core_hours`: what all of it took, where it is known."""
    from training.yardstick.plots import draw

    quality = together(parts, core_hours)
    (out / "quality.json").write_bytes(_by_lines(quality))
    pictures = {name: draw(rows, out, name) for name, rows in by_market(quality).items()}
    (out / "quality.md").write_text(page(quality, parts, pictures))
    return quality


def _by_lines(quality: Quality) -> bytes:
    """A line a row: there are thousands of them."""
    rows = b",\n".join(map(msgspec.json.encode, quality.rows))
    rest = msgspec.json.encode(msgspec.structs.replace(quality, rows=()))
    return rest.replace(b'"rows":[]', b'"rows":[\n' + rows + b"\n]", 1) + b"\n"


def by_market(quality: Quality) -> dict[str, list[Row]]:
    """Name and seed -> rows; a market with several draws is there a last time with all of them."""
    found: dict[str, list[Row]] = {}
    for row in quality.rows:
        found.setdefault(_name(row.market, row.seed), []).append(row)
    return found


def _name(market: str, seed: str) -> str:
    """A real log has no seed."""
    return ", ".join(filter(None, [market, seed if seed in ("", DRAWS) else f"seed {seed}"]))


def show(part: Part, console: Console) -> None:
    figures = Figures(part.rows)
    title = f"{_name(part.market, part.seed)}: {part.cases:,} cases of {part.shoppers:,} shoppers"
    for columns, heading in ((COLUMNS, title), (MORE, "beyond hits")):
        shown = [metric for metric in columns if figures.has(metric)]
        table = Table("contender", *shown, title=heading, header_style="bold")
        if columns == COLUMNS:
            table.add_column(f"{PRIMARY} over {part.base}")
        for name in figures.models():
            cells = [_value(figures.of(name, metric), interval=metric == PRIMARY) for metric in shown]
            gain = [_value(figures.of(name, GAIN), sign=True)] if columns == COLUMNS else []
            style = "bold" if name in part.models else "dim" if name == CEILING else ""
            table.add_row(name, *cells, *gain, style=style)
        console.print(table)
    for fact in part.facts:
        console.print(f"{fact.name}: {fact.value:.3f}")


def page(quality: Quality, parts: Sequence[Part], pictures: dict[str, list[str]]) -> str:
    sections = [
        "# Quality of lists\n",
        "How often a list holds what a shopper searches next by themselves. Figures and groups are defined in docs/yardstick.md; in brackets 95 % "
        "intervals (paired bootstrap over shoppers). A simulated market says that there is something to learn and that it is learned; "
        "it says nothing about a real shop. What a real log says: docs/real-log.md.\n",
    ]
    if quality.targets:
        rows = [[t.name, f"{t.value:.4f}", t.bound, "met" if t.met else f"missed: {t.cause}"] for t in quality.targets]
        sections += [_table(["target", "value", "bound", ""], rows)]
    if found := findings(parts, quality.rows):
        table = [[str(f.number), f.expected, "<br>".join(f.figures), f.verdict] for f in found]
        sections += ["What was expected before the first training (docs/decisions/0007):\n", _table(["", "expected", "figures", ""], table)]  # fmt: skip
        sections += [
            "The ninth, of special tokens, is a benchmark: docs/results/benchmarks.md, subwords. Why something was refuted or not decided: docs/decisions/0011.\n"
        ]
    if quality.core_hours:
        sections += [
            f"`make results`: {quality.core_hours:.1f} hours of a core in its steps, two at once; what a killed run threw away is not in it.\n"
        ]
    part_of = {_name(part.market, part.seed): part for part in parts}
    for name, rows in by_market(quality).items():
        sections.append(_section(name, Figures(rows), part_of.get(name), pictures.get(name, [])))
    return "\n".join(sections)


def _section(name: str, figures: Figures, part: Part | None, pictures: Sequence[str]) -> str:
    models = figures.models()
    shown = [metric for metric in COLUMNS if figures.has(metric)]
    lines = [f"## {name}\n"]
    if part:
        facts = "; ".join(f"{fact.name}: {fact.value:.3f}" for fact in part.facts)
        lines += [f"{part.cases:,} cases of {part.shoppers:,} shoppers. Best baseline: {part.base}. {facts}\n"]
    best = {m: _best(figures, models, m) for m in shown}
    cells = [[n, *(_value(figures.of(n, m), interval=m == PRIMARY, bold=best[m] == n) for m in shown), _value(figures.of(n, GAIN), sign=True)] for n in models]  # fmt: skip
    lines.append(_table(["", *shown, "HR@10 over the best baseline"], cells))
    lines += [f"![{name}]({picture})\n" for picture in pictures]
    splits = [split for split in SPLITS if any(figures.of(n, PRIMARY, split) for n in models)]
    lines += ["HR@10 by group:\n", _table(["", *splits], [[n, *(_value(figures.of(n, PRIMARY, s), interval=True) for s in splits)] for n in models])]  # fmt: skip
    more = [metric for metric in MORE if figures.has(metric)]
    lines += ["Beyond hits:\n", _table(["", *more], [[n, *(_value(figures.of(n, m)) for m in more)] for n in models])]
    budgets = {k: f"HR@{k} gain of the best baseline with it" for k in RESERVED}
    added = [n for n in models if figures.of(n, budgets[10])]
    if added:
        heads = [f"{given} of {k} places" for k, given in RESERVED.items()]
        lines += ["Added to the best baseline, at the same number of candidates:\n", _table(["", *heads], [[n, *(_value(figures.of(n, m), sign=True) for m in budgets.values())] for n in added])]  # fmt: skip
    if part and len(part.models) > 1:
        first, *others = part.models
        compared = [[n, *(_value(figures.of(n, gain_over_it(m, first)), sign=True) for m in COMPARED)] for n in others]
        lines += [f"{first} over other models:\n", _table(["", *COMPARED], compared)]
    ages = figures.metrics("HR@10 at age")
    aged = [n for n in models if any(figures.of(n, m) for m in ages)]
    if aged:
        lines += ["HR@10 by the age of what was learned:\n", _table(["", *(m.removeprefix("HR@10 at ") for m in ages)], [[n, *(_value(figures.of(n, m), interval=True) for m in ages)] for n in aged])]  # fmt: skip
    if part and part.examples:
        lines += _examples(part.examples)
    if part:
        fitted = [[f.model, f.setting, f"{f.fit_s:.1f}", f"{f.rank_s:.1f}"] for f in part.fitted]
        lines += [f"`{part.command}`, {part.date}, {part.machine}, revision {part.git_revision}\n", _table(["", "chosen on the log's last days", "fit, s", "rank, s"], fitted)]  # fmt: skip
    return "\n".join(lines)


def _examples(ten: Sequence[Words]) -> list[str]:
    lines = [f"Ten cases, drawn and not chosen: five that {list(ten[0].lists)[-1]} hit at ten, five that it missed. Simulated shoppers.\n"]  # fmt: skip
    rows = []
    for each in ten:
        before = "<br>".join(each.seen)
        lists = [
            "; ".join(f"**{query}**" if query == each.next else query for query in queries)
            for queries in each.lists.values()
        ]
        rows.append([before, f"{each.next} ({each.example.kind})", *lists])
    return [*lines, _table(["newest behaviours", "then searched", *ten[0].lists], rows)]


def _best(figures: Figures, models: Sequence[str], metric: str) -> str:
    known = [(estimate.value, name) for name in models if name != CEILING and (estimate := figures.of(name, metric))]
    return max(known)[1] if known else ""


def _value(estimate: Estimate | None, interval: bool = False, sign: bool = False, bold: bool = False) -> str:
    """A difference (`sign`) always comes with its interval."""
    if estimate is None:
        return ""
    form = "{:+.3f}" if sign else "{:.3f}" if estimate.value < 10 else "{:.1f}"
    value, low, high = (form.format(each) for each in estimate)
    text = f"**{value}**" if bold else value
    return f"{text} [{low}, {high}]" if interval or sign else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(each)} |" for each in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"
