"""What docs/decisions/0007 expected before the first training, and what became of it."""

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from training.yardstick.bootstrap import Estimate
from training.yardstick.measure import COVERED, EBR
from training.yardstick.metrics import PRIMARY
from training.yardstick.results import (
    BLENDED,
    GAIN,
    GAIN_OVER_POPULARITY,
    PROMPT_TOKENS,
    Part,
    Row,
    gain_over_it,
    widest,
)

SHOWN, REFUTED, OPEN = "shown", "refuted", "not decided"
AGED = "popularity-7d"
LOST = f"{PRIMARY} lost by 7 d"
Verdict = Callable[[Estimate], str]


class Finding(NamedTuple):
    number: int
    """In the decision's table."""
    expected: str
    figures: tuple[str, ...]
    """One a market: what was measured, with its interval."""
    verdict: str
    """Shown where every figure shows it, refuted where one refutes it."""


def above(bound: float = 0.0) -> Verdict:
    """The whole interval lies above the bound; refuted where it lies below."""
    return lambda found: SHOWN if found.low > bound else REFUTED if found.high < bound else OPEN


def below(bound: float = 0.0) -> Verdict:
    return lambda found: SHOWN if found.high < bound else REFUTED if found.low > bound else OPEN


def between(low: float, high: float) -> Verdict:
    return lambda found: (
        SHOWN if low < found.low and found.high < high else REFUTED if found.low > high or found.high < low else OPEN
    )


def findings(parts: Sequence[Part], rows: Sequence[Row]) -> list[Finding]:
    """Those of which there are figures. Expectation 9 is a benchmark of its own (bench/subwords.py)."""
    null, real = {p.market for p in parts if p.null}, {p.market for p in parts if p.real}
    still = {p.market for p in parts if "drift 0" in p.market}
    moving = {p.market for p in parts} - null - real - still
    direct = {p.direct for p in parts if p.direct}
    judged = widest(rows)

    def of(metric: str, markets: set[str], models: Container[str] | None = None) -> list[Row]:
        """None: of every contender."""
        return [
            row
            for row in judged
            if row.metric == metric and row.market in markets and (models is None or row.model in models)
        ]

    def finding(number: int, expected: str, *evidence: tuple[Sequence[Row], Verdict]) -> Finding:
        pairs = [(row, verdict) for found, verdict in evidence for row in found]
        verdicts = {verdict(row.estimate) for row, verdict in pairs}
        return Finding(
            number,
            expected,
            tuple(_figure(row) for row, _ in pairs),
            REFUTED if REFUTED in verdicts else OPEN if OPEN in verdicts or not verdicts else SHOWN,
        )

    best_on_null = sorted(of(GAIN_OVER_POPULARITY, null), key=lambda row: -row.high)[:1]
    covered = [row for judge in ("clicks", "truth") for row in of(f"{COVERED} ({judge}) gain over {EBR}", moving, direct)]  # fmt: skip
    ordered = [row for metric in ("HR@3", "NDCG@10") for row in of(gain_over_it(metric, "il-sft"), moving, {"sft"})]
    alike = of(gain_over_it("HR@30", "il-sft"), moving, {"sft"})
    made = [
        finding(1, "the Direct model beats the best baseline on both laws", (of(GAIN, moving, direct), above())),
        finding(2, "on the null market nothing beats popularity", (best_on_null, below(0.01))),
        finding(
            3,
            "labels ordered by interest lose less than .01 where order counts, and are alike within .02 where it does not",
            (ordered, above(-0.01)),
            (alike, between(-0.02, 0.02)),
        ),
        finding(
            4,
            "compressed prompts lose less than .01, with less than half of the tokens",
            (of(gain_over_it(PRIMARY, "prompts-compressed"), moving, {"prompts-plain"}), above(-0.01)),
            (_shares(of(PROMPT_TOKENS, moving)), below(0.5)),
        ),
        finding(5, "the model covers categories better than the two-tower", (covered, above())),
        finding(6, "an untrained SmolLM2 is below popularity", (of(GAIN_OVER_POPULARITY, moving, {"zero-shot"}), below())),
        finding(
            7,
            "statistics of the last week lose by a week's age where the market moves, and less than .02 where it does not",
            (of(LOST, moving, {AGED}), above()),
            (of(LOST, still, {AGED}), between(-0.02, 0.02)),
        ),
        finding(8, "on the real log the blend loses less than .02 by the model", (of(BLENDED, real, direct), above(-0.02))),
    ]  # fmt: skip
    return [each for each in made if each.figures]


def _shares(tokens: Sequence[Row]) -> list[Row]:
    """Tokens of compressed prompts over those of plain ones, by market."""
    plain = {row.market: row.value for row in tokens if row.model == "prompts-plain"}
    return [
        Row(row.market, row.split, row.model, row.seed, f"{PROMPT_TOKENS} of plain ones", *(each / plain[row.market] for each in row.estimate))
        for row in tokens
        if row.model == "prompts-compressed" and row.market in plain
    ]  # fmt: skip


def _figure(row: Row) -> str:
    value, low, high = (f"{each:+.3f}" for each in row.estimate)
    return f"{row.market}, {row.seed or 'log'}: {row.model}, {row.metric} {value} [{low}, {high}]"
