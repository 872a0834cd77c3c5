"""The allow-list as a file, and in what becomes of a model's text."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inference.allow_list import FILE_NAME, AllowedQuery, AllowList, AllowLists, BadAllowList, file_for
from inference.engine import ServedModel
from inference.model_bundle import BadBundle, ModelBundle
from inference.output import Malformed, QueryList, QueryRules, parse_list
from training.tiny import random_bundle

ROWS = [
    AllowedQuery("usb c cable", "usb-c cable", 9),
    AllowedQuery("mouse", "mouse", 5),
    AllowedQuery("rare", "rare", 4),
]


def test_a_list_is_sorted_and_holds_what_enough_shoppers_searched(tmp_path: Path):
    allowed = AllowList.of(ROWS, 5, until_ms=7)
    assert [row.query for row in allowed.rows] == ["mouse", "usb c cable"]
    allowed.write(tmp_path / "list")
    assert AllowList.read(tmp_path / "list") == allowed
    assert allowed.facts.digest == AllowList.of(reversed(ROWS), 5).facts.digest, "the rows alone make the digest"
    assert allowed.facts.digest != AllowList.of(ROWS, 4).facts.digest


def test_an_empty_list_is_a_list(tmp_path: Path):
    AllowList.of([]).write(tmp_path / "list")
    assert AllowList.read(tmp_path / "list").queries == frozenset()


def test_a_file_that_was_changed_is_refused(tmp_path: Path):
    AllowList.of(ROWS).write(tmp_path / "list")
    table = pq.read_table(tmp_path / "list")
    pq.write_table(table.slice(0, 1).replace_schema_metadata(table.schema.metadata), tmp_path / "list")
    with pytest.raises(BadAllowList, match="not what was counted"):
        AllowList.read(tmp_path / "list")


@pytest.mark.parametrize("content", [None, b"", b"dell laptop\n"])
def test_what_is_no_list_is_refused_by_name(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    with pytest.raises(BadAllowList, match=rf"{tmp_path}/list is no allow-list"):
        AllowList.read(tmp_path / "list")


def test_auto_is_the_list_in_the_bundle_where_it_has_one(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    model = ServedModel(str(tmp_path), "m/1", 1, "1")
    assert file_for("auto", tmp_path) is None
    assert AllowLists("auto").of(model) is None
    assert "m/1 writes freely: no allow-list in its bundle" in caplog.text
    AllowList.of(ROWS).write(tmp_path / FILE_NAME)
    found = AllowLists("auto").of(model)
    assert found is not None
    assert found.queries == {"mouse", "usb c cable"}
    assert AllowLists("none").of(model) is None
    AllowList.of(ROWS, 1).write(tmp_path / "other")
    other = AllowLists(str(tmp_path / "other")).of(model)
    assert other is not None
    assert "rare" in other.queries


def test_a_bundle_with_a_broken_list_is_no_bundle(tmp_path: Path):
    bundle = random_bundle(tmp_path)
    AllowList.of(ROWS).write(tmp_path / FILE_NAME)
    assert ModelBundle.open(tmp_path).digest != bundle.digest, "the list is part of what is published"
    (tmp_path / FILE_NAME).write_bytes(b"no list")
    with pytest.raises(BadBundle, match="is no allow-list"):
        ModelBundle.open(tmp_path)


def test_a_query_that_is_not_supported_is_dropped_in_any_spelling():
    rules = QueryRules(fewest=1, supported=frozenset({"usb c cable", "mouse"}))
    found = parse_list("USB-C  cable!;;anna's diary;;Mouse", rules)
    assert found == QueryList(("USB-C cable!", "Mouse"), ("unsupported",))
    nothing = parse_list("anna's diary;;mouse pad", rules)
    assert isinstance(nothing, Malformed)
    assert nothing.dropped == ("unsupported", "unsupported")
