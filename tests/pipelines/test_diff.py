"""`aigq diff` says of every shopper one reason, and the right one; and its sums hold both sides to one rule."""

import io
import json

import pytest
from msgspec.structs import replace
from rich.console import Console
from typer.testing import CliRunner

from cli import app
from pipelines.diff import Diff, Side, compare
from pipelines.diff_reasons import MEANINGS, WAITING, Came, History
from pipelines.diff_report import as_json, screen
from pipelines.operation import Window
from schemas import QueryRun

OLD, NEW = "policy-1", "policy-2"


def a_run(id: str, as_of_ms: int, words: str = "tv", policy: str = OLD, **more) -> QueryRun:
    queries = tuple(f"{words} {number}" for number in range(10))
    run = QueryRun(id, "ann", as_of_ms, queries, "m/1", 1, "1", policy, (), as_of_ms - 5, 0, 0, 0, 80, 40)
    return replace(run, **more)


def side(*runs: QueryRun, policy: str = OLD, whole: bool = True, **ended: str) -> History:
    """`ended`: run id = outcome; the digits of the id are its as-of."""
    came = {id: Came("ann", int(id[1:]), outcome) for id, outcome in ended.items()}
    came |= {run.run_id: Came("ann", run.as_of_ms, "published") for run in runs}
    return History(runs, came, frozenset({policy}), whole)


R10, R20 = a_run("r10", 10), a_run("r20", 20, "lego")
CASES = [
    ("same list", side(R10), side(a_run("s11", 11, policy=NEW), policy=NEW), False),
    ("other trigger", side(R10), side(a_run("s11", 11, "lego", NEW), policy=NEW), False),
    ("only here", side(R10), side(policy=NEW), False),
    ("only here", side(R10), side(policy=NEW, whole=False), True),
    ("only there", side(policy=OLD), side(a_run("s11", 11, policy=NEW), policy=NEW), False),
    ("other model", side(R10), side(a_run("r10", 10, "lego", model_version="m/2")), False),
    ("other model", side(R10), side(a_run("r10", 10, "lego", prompt_version="2")), True),
    ("other words", side(R10), side(a_run("r10", 10, "lego")), True),
    # the same change, with an event more: its due hung by max_wait or cooldown
    ("late event", side(R10), side(a_run("r10", 10, "lego", newest_ms=9)), True),
    ("other behaviours", side(R10), side(a_run("r10", 10, "lego", newest_ms=9)), False),
    ("other behaviours", side(R10), side(a_run("r10", 10, "lego", prompt_tokens=99)), False),
    # a change that one side has not
    ("late event", side(R10), side(a_run("r12", 12, "lego")), True),
    ("late event", side(R10), side(), True),
    ("late event", side(), side(R10), True),
    ("other behaviours", side(R20), side(a_run("r12", 12)), False),
    ("other behaviours", side(R10), side(), False),
    # no list of the other policy's own change: what became of that is the reason, not the policy
    ("malformed there", side(R10), side(policy=NEW, s11="conflated", s12="malformed"), False),
    # live under lag: its newest change of the window was conflated by one after it
    ("conflated here", side(R10, r20="conflated"), side(R20, R10), True),
    ("not kept there", side(R20), side(R10, r20="published"), False),
    ("not kept here", side(r20="published"), side(R20), False),
    ("not kept there", side(R20), side(R10, whole=False), False),
]
CASES += [
    (
        f"{ended} {place}",
        *((side(R20), side(R10, r20=ended)) if place == "there" else (side(r20=ended), side(R20))),
        True,
    )
    for ended in ("conflated", "malformed", "exhausted", "expired", "refused", "cancelled", WAITING)
    for place in ("here", "there")
]


@pytest.mark.parametrize(("reason", "here", "there", "late"), CASES)
def test_every_shopper_has_the_one_reason_that_the_two_sides_account_for(reason, here, there, late):
    assert compare("ann", here, there, late).why == reason


def test_no_reason_is_left_untried():
    assert {reason for reason, *_ in CASES} == MEANINGS.keys()


def test_overlap_counts_the_queries_that_both_lists_show():
    left = a_run("r1", 1)
    after = (*left.queries[:4], "a", "b", "c", "d", "e", "f", "below the ten")
    right = replace(left, run_id="s1", trigger_version=NEW, queries=after)
    found = compare("ann", side(left), side(right, policy=NEW))
    assert (found.both, found.overlap, found.added) == (True, 0.4, ("a", "b", "c", "d", "e", "f"))
    assert found.lost == left.queries[4:]
    alone = compare("ann", side(left), side(policy=NEW))
    assert (alone.both, alone.overlap, alone.lost) == (False, 0, left.queries)


def a_side(name: str, ended: dict[str, int], lists: int, tokens: int, **more) -> Side:
    rest = {"by_operators": 0, "whole": True, "late_records": {}} | more
    return Side(name, sum(ended.values()), ended, ended["published"], lists, tokens, tokens // 2, **rest)


def shown(here: Side, there: Side) -> str:
    shoppers = tuple(compare(f"u{n}", side(R10), side(policy=NEW)) for n in range(3))
    said = io.StringIO()
    Console(file=said, width=200).print(screen(Diff(Window(0, 1_000), here, there, shoppers), 2))
    return said.getvalue()


def test_the_sums_say_what_became_of_every_change_and_what_they_do_not_hold():
    here = a_side("live", {"published": 100, "conflated": 2}, 100, 8_000, late_records={2: 3})
    there = a_side("tried", {"published": 90, "conflated": 10, "malformed": 4}, 90, 7_200, by_operators=5)
    said = shown(here, there)
    for words in ("changes came due", "102", "104", "late records, ever", "3 (partition 2: 3)", "-10 (-10%)"):
        assert words in said
    assert "tried: conflated changes cost no tokens. A job that keeps up makes lists of them: up to +800 prompt" in said
    assert "tried: 4 generations became no list" in said
    assert "tried: 5 lists that operators' commands asked for are left out" in said
    assert "3 shoppers; overlap@10 0.00 over the 0 who have a list on both sides" in said
    assert MEANINGS["only here"] in said
    assert said.index("changes came due") < said.index("only here") < said.index("the 2 that differ most")
    assert "not comparable" not in said


def test_tokens_of_a_side_whose_lists_are_gone_are_not_compared():
    said = shown(
        a_side("live", {"published": 100}, 60, 4_800), a_side("tried", {"published": 90}, 90, 7_200, whole=False)
    )
    assert said.count("not comparable") == 2
    assert "live: the tokens are of 60 of its 100 lists" in said
    assert "tried: some changes ended too long ago" in said


def test_json_holds_every_difference_and_both_sides_counts():
    here = a_side("live", {"published": 1, "expired": 2}, 1, 80, late_records={2: 3})
    shoppers = (compare("ann", side(R10), side(R10)), compare("bob", side(R10), side(policy=NEW)))
    found = json.loads(as_json(Diff(Window(0, 9), here, here, shoppers)))
    assert found["here"]["ended"] == {"published": 1, "expired": 2}
    assert found["there"]["late_records"] == {"2": 3}
    assert found["why"] == {"same list": 1, "only here": 1}
    assert [each["user"] for each in found["differ"]] == ["bob"]


@pytest.mark.parametrize("end", ["--from=2026-11-24T02:10:00Z", "--to=2026-11-24T02:10:00Z"])
def test_half_a_window_is_refused(end):
    said = CliRunner().invoke(app, ["diff", "live", "tried", end])
    assert said.exit_code == 2
    assert "both --from and --to" in said.output
