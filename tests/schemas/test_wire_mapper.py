"""A user's own mapper: found by name, and whatever it does, the job goes on."""

import sys
from pathlib import Path

import msgspec
import pytest

from schemas import BehaviourEvent, Item
from schemas.codec import decoder_for
from schemas.validate import Rejection
from schemas.wire_mapper import SKIP, load_mapper

NOW = 1_780_000_000_000
MODULE = """
from schemas import BehaviourEvent
from schemas.wire_mapper import SKIP

def to_event(record):
    what = record.decode()
    if what == "event": return BehaviourEvent("e", "u", "search", 1_780_000_000_000, query="  red\\tshoes ")
    if what == "skip": return SKIP
    if what == "refuse": return "not one of ours"
    if what == "nothing": return None
    if what == "no user": return BehaviourEvent("e", None, "search", 1_780_000_000_000, query="red")
    if what == "no time": return BehaviourEvent("e", "u", "search", "yesterday", query="red")
    if what == "half a character": return BehaviourEvent("e", "u", "search", 1_780_000_000_000, query="red \\ud800 shoes")
    if what == "half a user": return BehaviourEvent("e", "\\udfff", "search", 1_780_000_000_000, query="red")
    raise KeyError("price")

not_a_function = 3
"""


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A mapper in the current folder, as a user has it."""
    module = f"mapper_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / f"broken_{module}.py").write_text("price = 1 / 0", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return f"{module}:to_event"


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        ("refuse", "mapper_refused", "not one of ours"),
        ("nothing", "mapper_raised", "NoneType"),
        ("no user", "wrong_shape", "$.user"),
        ("no time", "wrong_shape", "$.time_ms"),
        ("half a user", "bad_id", "control character"),
        ("anything", "mapper_raised", "KeyError: 'price' at mapper_"),
    ],
)
def test_what_a_mapper_does_wrong_is_a_rejection_that_says_so(name: str, record: str, reason: str, said: str) -> None:
    (rejection,) = decoder_for(mapper=name).decode([record.encode()])
    assert isinstance(rejection, Rejection)
    assert rejection.reason == reason
    assert said in rejection.detail


def test_a_mappers_event_is_checked_and_cleaned_like_any_other(name: str) -> None:
    clean = BehaviourEvent("e", "u", "search", NOW, query="red shoes")
    assert decoder_for(mapper=name).decode([b"event", b"skip", b"half a character"]) == [
        clean,
        SKIP,
        BehaviourEvent("e", "u", "search", NOW, query="red   shoes"),
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("to_event", "module:function"),
        ("no.such.module:to_event", "no.such"),
        ("{module}:nothing", "has no nothing"),
        ("broken_{module}:to_event", r"ZeroDivisionError.* at broken_mapper_.*\.py:1"),
        ("{module}:not_a_function", "int, not a function"),
    ],
)
def test_a_mapper_that_is_not_there_is_refused_at_start(name: str, wrong: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_mapper(wrong.replace("{module}", name.partition(":")[0]))


def ga4(**fields: object) -> bytes:
    return msgspec.json.encode(
        {"event_timestamp": NOW * 1000, "user_pseudo_id": "17.42", "device": {"os": "x"}} | fields
    )


def test_the_example_reads_searches_and_clicks_and_skips_the_rest() -> None:
    search = ga4(
        event_name="view_search_results", event_params=[{"key": "search_term", "value": {"string_value": "red shoes"}}]
    )
    item = {"item_id": "i1", "item_name": "Red shoe", "item_category": "Shoes", "item_brand": "A", "price": 3.5}
    click = ga4(event_name="select_item", user_id="u9", items=[item])
    results = decoder_for(mapper="examples.ga4_mapper:to_event").decode(
        [search, click, ga4(event_name="page_view"), ga4(event_name="select_item"), b"{"]
    )
    stamp = NOW * 1000
    assert results[0] == BehaviourEvent(f"17.42.{stamp}.view_search_results", "17.42", "search", NOW, query="red shoes")
    clicked = Item("i1", "Red shoe", "Shoes", {"brand": "A"})
    assert results[1] == BehaviourEvent(f"17.42.{stamp}.select_item", "u9", "click", NOW, item=clicked)
    assert results[2] is SKIP
    assert [r.reason for r in results[3:]] == ["mapper_refused"] * 2  # type: ignore[union-attr]
