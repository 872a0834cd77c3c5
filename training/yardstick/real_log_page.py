"""real-log.json and real-log.md: what a run on a real log found, without a word of the log; and words.md, which stays where it was made."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from training.yardstick.bootstrap import Estimate
from training.yardstick.examples import Words
from training.yardstick.measure import RESERVED
from training.yardstick.quality_log import COMPARED, RealLogResult
from training.yardstick.real_log import ALL, ONE
from training.yardstick.report import Figures
from training.yardstick.results import BLENDED, BOUNDS, VALID

WORDS = "words.md"
TARGET = "real_blend_plus_lm_lower"


def write_page(result: RealLogResult, ten: Sequence[Words], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "real-log.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    (out / "real-log.md").write_text(page(result))
    (out / WORDS).write_text(words(ten))


def page(result: RealLogResult) -> str:
    facts, part = result.facts, result.part
    figures = Figures(part.rows)
    names = figures.models()
    counts = {fact.name: fact.value for fact in part.facts}
    one, every = int(counts.get(f"cases, {ONE}", 0)), int(counts.get(f"cases, {ALL}", 0))
    sections = [
        "# A real log, day by day\n",
        f"{facts.rows:,} rows of {facts.shoppers:,} shoppers in {facts.days} days; {facts.campaign_codes:,} searches were campaign codes and are in nothing below. "
        f"From {result.first_day} on every search of a shopper of whom something is known is a case: {part.cases:,} of {part.shoppers:,} shoppers, "
        f"{one:,} of shoppers whose rows are all of the leading category ({facts.leading_category}), {every:,} of the others. "
        f"Statistics are made anew every day from all before it; the model was trained before {result.first_day} and stays. Every list has the same number of candidates. "
        "In brackets 95 % intervals, paired bootstrap over shoppers. How it is judged: docs/real-log.md.\n",
        "## The next query\n",
        _table(
            ["", *(f"{metric}" for metric in COMPARED), f"HR@10, {ONE}", f"HR@30, {ONE}", f"HR@10, {ALL}", f"HR@30, {ALL}"],
            [
                [
                    name,
                    *(_value(figures.of(name, metric), interval=metric in ("HR@10", "HR@30")) for metric in COMPARED),
                    *(_value(figures.of(name, m, split), interval=m == "HR@10") for split in (ONE, ALL) for m in ("HR@10", "HR@30")),
                ]
                for name in names
            ],
        ),
        f"Of the cases {counts['next query was in the log']:.1%} are queries that somebody had searched before {result.first_day}, "
        f"{counts['next query is an own earlier one']:.1%} are own earlier ones.\n",
    ]  # fmt: skip
    if part.models:
        sections += _of_models(result, figures)
    sections += _of_every_search(result)
    sections += _of_weeks(result)
    sections += _of_examples(result)
    sections.append(f"`{part.command}`: {result.seconds:.0f} s, {part.date}, {part.machine}, revision {part.git_revision}\n")  # fmt: skip
    return "\n".join(sections)


def _of_models(result: RealLogResult, figures: Figures) -> list[str]:
    lines = ["## The model in the blend\n"]
    rows = []
    for model in result.part.models:
        gains = [(metric, BLENDED.replace("HR@10", metric)) for metric in COMPARED]
        for split in ("all", ONE, ALL):
            if figures.of(model, BLENDED, split):
                rows.append([f"{model}, {split}", *(_value(figures.of(model, m, split), sign=True) for _, m in gains)])
    lines += ["The blend with the model as one more source, over the blend without it, at the same number of candidates:\n"]  # fmt: skip
    lines += [_table(["", *COMPARED], rows)]
    if gain := figures.of(result.part.direct, BLENDED):
        comparison = "met" if gain.low >= float(BOUNDS[TARGET].split()[1]) else "missed"
        lines += [f"`{TARGET}` = {gain.low:+.4f} ({BOUNDS[TARGET]}): {comparison}.\n"]
    reserved = [
        [model, *(_value(figures.of(model, f"HR@{k} gain of the best baseline with it"), sign=True) for k in RESERVED)]
        for model in result.part.models
    ]
    lines += [
        f"Without learning where to put it, with places of {result.part.base} given to the model's first queries:\n"
    ]
    lines += [_table(["", *(f"{given} of {k} places" for k, given in RESERVED.items())], reserved)]
    for model in result.part.models:
        if valid := figures.of(model, VALID):
            lines += [f"{model}: {valid.value:.1%} of its outputs are lists by the job's rules.\n"]
    lines += ["## What the model beats\n", "Paired differences; where the interval is above 0 the model beats it.\n"]
    for model in dict.fromkeys(each.model for each in result.beats):
        of_model = {(each.baseline, each.metric): each for each in result.beats if each.model == model}
        cells = [
            [
                baseline,
                *(
                    _value(Estimate(each.value, each.low, each.high), sign=True, bold=each.low > 0)
                    for metric in COMPARED
                    for each in [of_model[baseline, metric]]
                ),
            ]
            for baseline in dict.fromkeys(baseline for baseline, _ in of_model)
        ]
        lines += [f"{model} over\n", _table(["", *COMPARED], cells)]
    return lines


def _of_every_search(result: RealLogResult) -> list[str]:
    rows = [
        [f"{e.model}, from {e.from_day}", f"{e.searches:,}", f"HR@{e.place}", _value(e.frozen, True), _value(e.daily, True), _value(e.gain, sign=True)]
        for e in result.every_search
    ]  # fmt: skip
    weeks = [
        [f"{e.model}, from {e.from_day}", *(f"{frozen:.3f} / {daily:.3f}" for frozen, daily in e.by_week)]
        for e in result.every_search
        if e.place == 10
    ]
    longest = max((len(row) for row in weeks), default=1)
    weeks = [row + [""] * (longest - len(row)) for row in weeks]
    return [
        "## Popularity, frozen against daily\n",
        "Every search of the period, of shoppers without a history too. Frozen: counted before the first day. Daily: counted anew before each day.\n",
        _table(["", "searches", "", "frozen", "daily", "daily - frozen"], rows),
        "HR@10 by week, frozen / daily:\n",
        _table(["", *(f"week {n}" for n in range(1, longest))], weeks),
    ]


def _of_weeks(result: RealLogResult) -> list[str]:
    if not result.weeks:
        return []
    cases = {week.number: week.cases for week in result.weeks}
    rows = [
        [name, *(_value(Estimate(w.value, w.low, w.high), True) for w in result.weeks if w.model == name)]
        for name in dict.fromkeys(week.model for week in result.weeks)
    ]
    return [
        "## How a frozen model ages\n",
        "HR@10 on the cases of each week. The model was trained before the first one, all else is counted anew every day.\n",
        _table(["", *(f"week {number}, {count} cases" for number, count in cases.items())], rows),
    ]


def _of_examples(result: RealLogResult) -> list[str]:
    if not result.examples:
        return []
    shown = list(result.examples[0].places)
    rows = [
        [
            "hit" if e.hit else "missed",
            e.part,
            f"{e.searches} + {e.clicks}, {e.newest_age_h:g} h ago",
            e.kind,
            *(str(e.places[name] or "-") for name in shown),
        ]
        for e in result.examples
    ]
    return [
        "## Ten cases\n",
        f"Drawn, not chosen: five that {shown[-1]} hit at ten, five that it missed. The terms of the log allow no words of it here; the same ten with words are "
        f"in {WORDS} beside the files of a run.\n",
        _table(
            ["", "part", "searches + clicks before, newest", "the next query is", *(f"place by {n}" for n in shown)],
            rows,
        ),
    ]


def words(ten: Sequence[Words]) -> str:
    lines = ["# Ten cases with their words: for this machine only\n"]
    for number, each in enumerate(ten, 1):
        hit = "hit" if each.example.hit else "missed"
        lines += [f"## {number}: {hit}; {each.example.kind}\n", *(f"- {text}" for text in each.seen)]
        lines += [f"- then searched: **{each.next}**\n"]
        lines += [f"{name}: {'; '.join(ranked)}\n" for name, ranked in each.lists.items()]
    return "\n".join(lines)


def _value(estimate: Estimate | None, interval: bool = False, sign: bool = False, bold: bool = False) -> str:
    if estimate is None:
        return ""
    form = "{:+.3f}" if sign else "{:.3f}"
    value, low, high = (form.format(each) for each in estimate)
    text = f"**{value}**" if bold else value
    return f"{text} [{low}, {high}]" if interval or sign else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(each)} |" for each in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"
