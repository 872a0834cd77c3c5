"""Verdicts on what was expected: by whole intervals, over all draws, and one figure against it is enough."""

import msgspec

from training.yardstick.expected import OPEN, REFUTED, SHOWN, findings
from training.yardstick.report import page
from training.yardstick.results import GAIN, GAIN_OVER_POPULARITY, Part, Quality, Row, gain_over_it, over_all_draws

LOST = "HR@10 lost by 7 d"


def part(market: str, seed: str = "1", *, null: bool = False) -> Part:
    return Part(
        market=market, seed=seed, null=null, direct="direct", models=("direct", "il-sft", "sft"), base="blend", command="", date="",
        machine="", git_revision="", cases=1, shoppers=1, facts=(), fitted=(), rows=(),
    )  # fmt: skip


def row(market: str, model: str, metric: str, low: float, high: float, seed: str = "1") -> Row:
    return Row(market, "all", model, seed, metric, (low + high) / 2, low, high)


def verdicts(parts: list[Part], *rows: Row) -> dict[int, str]:
    return {each.number: each.verdict for each in findings(parts, rows)}


MISSIONS, HABITS = part("missions, drift 1"), part("habits, drift 1")


def test_one_law_against_it_refutes_and_one_in_doubt_leaves_it_open():
    def judged(habits: tuple[float, float]) -> str:
        shown = row(MISSIONS.market, "direct", GAIN, 0.01, 0.03)
        return verdicts([MISSIONS, HABITS], shown, row(HABITS.market, "direct", GAIN, *habits))[1]

    assert judged((0.001, 0.02)) == SHOWN
    assert judged((-0.01, 0.02)) == OPEN
    assert judged((-0.05, -0.01)) == REFUTED


def test_draws_are_judged_together():
    rows = [row(MISSIONS.market, "direct", GAIN, low, low + 0.02, seed) for seed, low in (("1", -0.03), ("2", 0.05), ("3", 0.06))]  # fmt: skip
    (found,) = findings([MISSIONS, part(MISSIONS.market, "2")], [*rows, *over_all_draws(rows)])
    assert len(found.figures) == 1
    assert "all draws" in found.figures[0]


def test_on_the_null_market_the_best_of_all_counts_and_it_is_no_evidence_elsewhere():
    null = part("missions, drift 1, null", null=True)
    small, large = (row(null.market, name, GAIN_OVER_POPULARITY, -0.01, high) for name, high in (("a", 0.005), ("b", 0.02)))  # fmt: skip
    assert verdicts([null], small) == {2: SHOWN}
    assert verdicts([null], small, large) == {2: OPEN}
    assert verdicts([null], row(null.market, "direct", GAIN, -0.2, -0.1)) == {}


def test_age_costs_where_the_market_moves_alone():
    still = part("missions, drift 0")
    moved = row(MISSIONS.market, "popularity-7d", LOST, 0.01, 0.03)
    assert verdicts([MISSIONS, still], moved, row(still.market, "popularity-7d", LOST, -0.01, 0.01)) == {7: SHOWN}
    assert verdicts([MISSIONS, still], moved, row(still.market, "popularity-7d", LOST, 0.03, 0.05)) == {7: REFUTED}


def test_compressed_prompts_lose_nothing_for_less_than_half_of_the_tokens():
    market = MISSIONS.market
    gain = row(market, "prompts-plain", gain_over_it("HR@10", "prompts-compressed"), -0.008, 0.02)

    def tokens(compressed: float) -> list[Row]:
        models = (("prompts-compressed", compressed), ("prompts-plain", 200.0))
        return [row(market, model, "prompt tokens", count, count) for model, count in models]

    assert verdicts([MISSIONS], gain, *tokens(90)) == {4: SHOWN}
    assert verdicts([MISSIONS], gain, *tokens(120)) == {4: REFUTED}


def test_baselines_alone_say_nothing_of_a_model():
    alone = msgspec.structs.replace(MISSIONS, direct="", models=())
    ceiling, zero = row(MISSIONS.market, "ceiling", GAIN, 0.2, 0.3), row(MISSIONS.market, "zero-shot", GAIN_OVER_POPULARITY, -0.3, -0.2)  # fmt: skip
    assert verdicts([alone], ceiling, zero) == {6: SHOWN}


def test_orders_may_lose_a_hundredth_where_order_counts_and_are_alike_where_it_does_not():
    def judged(hr3: float, hr30: float) -> str:
        pairs = (("HR@3", hr3), ("NDCG@10", 0.0), ("HR@30", hr30))
        return verdicts([MISSIONS], *(row(MISSIONS.market, "sft", gain_over_it(m, "il-sft"), low, low + 0.01) for m, low in pairs))[3]  # fmt: skip

    assert judged(-0.005, -0.005) == SHOWN
    assert judged(-0.03, -0.005) == REFUTED
    assert judged(-0.005, 0.015) == OPEN
    assert judged(-0.005, 0.03) == REFUTED, "better is not alike"


def test_the_page_names_figures_and_verdicts():
    found = row(MISSIONS.market, "sft", gain_over_it("HR@3", "il-sft"), -0.02, 0.01)
    text = page(Quality("quality", (found,), (), ()), [MISSIONS], {})
    assert "| 3 | labels ordered by interest" in text
    assert f"[-0.020, +0.010] | {OPEN} |" in text
