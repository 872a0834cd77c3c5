"""Item descriptions: by rule, by an endpoint (real HTTP on loopback), kept by item, writer and what was described."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.describe_items import app
from inference import describe_items as module
from inference.describe_items import Descriptions, RuleWriter, by_rule, describe_items, read_descriptions
from inference.description_endpoint import EndpointFailed, EndpointWriter
from inference.prompt import MOST_CHARACTERS, build_prompt, content
from schemas import Behaviour, Item

LAPTOP = Item(
    "1",
    'Dell - Inspiron 15.6" Touch-Screen Laptop - 8GB Memory - 256GB SSD (INS15-3520) - Black',
    "Electronics > Laptops",
    {"brand": "Dell", "price": "499.99"},
)
TV = Item("2", "Samsung UN55F6300 Smart HDTV, Pack of 2", "pcmcat1934", {"features": "55 inch, wall mount"})
PHONE = Item("3", "Apple iPhone 17 256GB (Unlocked)", "Phones", {"brand": "Apple"})


def test_the_rule_says_brand_what_is_special_and_category():
    assert by_rule(LAPTOP) == 'dell inspiron 15.6" touch-screen 8gb laptops'
    assert by_rule(TV) == "samsung smart hdtv 55 inch wall mount"
    assert by_rule(PHONE) == "apple iphone 17 256gb phones"


@given(st.builds(Item, st.text(max_size=5), st.text(max_size=90), st.text(max_size=60), st.dictionaries(st.sampled_from(["brand", "features", "price", "x"]), st.text(max_size=60))))  # fmt: skip
def test_whatever_the_item_a_description_fits_a_prompt_as_it_is(item: Item):
    text = by_rule(item)
    assert len(text) <= MOST_CHARACTERS
    assert content(text) == text == by_rule(item)
    assert bool(text) >= bool(content(item.title))


def test_only_what_is_new_or_changed_is_written(tmp_path: Path):
    out = tmp_path / "out"
    assert describe_items([LAPTOP, TV], RuleWriter(), out).written == 2
    before = out.read_bytes()
    assert describe_items([LAPTOP, TV], RuleWriter(), out).written == 0
    assert out.read_bytes() == before
    larger = Item(TV.id, TV.title, TV.category, {"features": "65 inch, wall mount"})
    assert describe_items([larger, PHONE], RuleWriter(), out).written == 2
    held = read_descriptions(out)
    assert set(held) == {"1", "2", "3"}, "what the shop no longer sells stays"
    assert "65 inch" in held["2"].description


def test_a_click_is_told_by_its_description_where_a_prompt_is_asked_to_and_else_as_ever(tmp_path: Path):
    describe_items([LAPTOP], RuleWriter(), tmp_path / "out")
    clicks = [Behaviour(0, 1, "click", LAPTOP.title), Behaviour(0, 2, "search", LAPTOP.title), Behaviour(0, 3, "click", "no such item")]  # fmt: skip
    told = build_prompt({}, clicks, 0, describe=Descriptions.read(tmp_path / "out").of)
    assert f"<1><now><click> {by_rule(LAPTOP)};;" in told
    assert f"<2><now><search> {content(LAPTOP.title)};;" in told
    assert "<3><now><click> no such item}" in told
    assert f"<1><now><click> {content(LAPTOP.title)};;" in build_prompt({}, clicks, 0)


@dataclass
class Script:
    """How the endpoint answers: (status, text); a text of None is no JSON."""

    answer: Callable[[dict], tuple[int, str | None]] = lambda request: (200, "A Nice Laptop; of Dell's")
    requests: list[dict] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            script.requests.append(request)
            script.keys.add(self.headers["Authorization"])
            code, text = script.answer(request) if self.path == "/v1/chat/completions" else (404, "no such path")
            body = b"<html>" if text is None else json.dumps({"choices": [{"message": {"content": text}}]}).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def writer(url: str, **changed) -> EndpointWriter:
    return replace(EndpointWriter(url, "small", "secret", first_wait_s=0.01, tries=3), **changed)


def test_the_endpoint_is_told_all_of_an_item_and_its_answer_is_kept_as_prompts_hold_it(url: str, script: Script, tmp_path: Path):  # fmt: skip
    script.answer = lambda request: (
        200,
        '\n"A Nice  Laptop; of Dell\'s that goes on for very much longer"\nSecond line',
    )
    found = describe_items([LAPTOP], writer(url + "/v1/"), tmp_path / "out")
    assert (found.written, found.fallen_back) == (1, 0)
    held = read_descriptions(tmp_path / "out")["1"]
    assert held.description == "a nice laptop of dell's that goes on for very"
    assert held.writer == writer(url).version
    (request,) = script.requests
    assert request["model"] == "small"
    told = request["messages"][1]["content"]
    assert LAPTOP.title in told
    assert "brand: Dell" in told
    assert script.keys == {"Bearer secret"}


def test_what_is_kept_is_not_asked_again_but_by_another_model(url: str, script: Script, tmp_path: Path):
    out = tmp_path / "out"
    for model, asked in (("small", 2), ("small", 2), ("large", 4)):
        describe_items([LAPTOP, TV], writer(url, model=model), out)
        assert len(script.requests) == asked


@pytest.mark.parametrize("trouble", [(503, "busy"), (429, "slow down"), (200, None)])
def test_a_passing_failure_is_tried_again(url: str, script: Script, tmp_path: Path, trouble: tuple[int, str | None]):
    script.answer = lambda request: trouble if len(script.requests) < 3 else (200, "dell laptop")
    describe_items([LAPTOP], writer(url), tmp_path / "out")
    assert read_descriptions(tmp_path / "out")["1"].description == "dell laptop"
    assert len(script.requests) == 3


@pytest.mark.parametrize("answer", [(400, "too long"), (200, ""), (200, " ;;\n<>")])
def test_an_item_that_gets_no_answer_of_use_is_described_by_rule_and_tried_again_next_time(url: str, script: Script, tmp_path: Path, answer):  # fmt: skip
    script.answer = lambda request: answer if "Samsung" in str(request) else (200, "dell laptop")
    out = tmp_path / "out"
    assert describe_items([LAPTOP, TV], writer(url), out).fallen_back == 1
    held = read_descriptions(out)
    assert (held["1"].description, held["2"].description) == ("dell laptop", by_rule(TV))
    assert held["2"].writer == RuleWriter.version
    script.answer = lambda request: (200, "samsung tv")
    assert describe_items([LAPTOP, TV], writer(url), out).written == 1
    assert read_descriptions(out)["2"].description == "samsung tv"


@pytest.mark.parametrize(("code", "said"), [(401, "AIGQ_ENDPOINT_KEY"), (500, "failed 3 times for item")])
def test_what_was_written_before_the_endpoint_failed_is_kept(url: str, script: Script, tmp_path: Path, monkeypatch, code: int, said: str):  # fmt: skip
    monkeypatch.setattr(module, "BATCH", 2)
    items = [replace_id(LAPTOP, n) for n in range(6)]
    script.answer = lambda request: (code, "no") if len(script.requests) > 4 else (200, "dell laptop")
    with pytest.raises(EndpointFailed, match=said):
        describe_items(items, writer(url, at_once=1), tmp_path / "out")
    assert len(read_descriptions(tmp_path / "out")) == 4
    script.answer = lambda request: (200, "dell laptop")
    assert describe_items(items, writer(url), tmp_path / "out").written == 2


def replace_id(item: Item, number: int) -> Item:
    return Item(str(number), item.title, item.category, item.attributes)


def items_file(path: Path, items: list[Item]) -> str:
    rows = [(each.id, each.title, each.category, list(each.attributes.items())) for each in items]
    attributes = pa.array([row[3] for row in rows], pa.map_(pa.string(), pa.string()))
    columns = [pa.array([row[n] for row in rows]) for n in range(3)]
    pq.write_table(pa.table([*columns, attributes], ["id", "title", "category", "attributes"]), path)
    return str(path)


def test_the_command_describes_a_shops_items_by_rule_or_by_an_endpoint(url: str, script: Script, tmp_path: Path):
    items, out = items_file(tmp_path / "items", [LAPTOP, TV, PHONE]), str(tmp_path / "out")
    done = CliRunner().invoke(app, ["--items", items, "--out", out])
    assert done.exit_code == 0, done.output
    assert "3 items, 3 written now by rule/1" in done.output
    asked = CliRunner().invoke(app, ["--items", items, "--out", out, "--endpoint", url, "--model", "small"])
    assert asked.exit_code == 0, asked.output
    assert len(script.requests) == 3
    assert set(script.keys) == {None}
    assert CliRunner().invoke(app, ["--items", items, "--out", out, "--endpoint", url]).exit_code == 2


def test_a_file_that_holds_no_items_is_said(tmp_path: Path):
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "items")
    with pytest.raises(ValueError, match="holds no items"):
        module.read_items(tmp_path / "items")
