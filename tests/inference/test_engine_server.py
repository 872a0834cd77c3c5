"""The server engine against a scripted HTTP server: what is repeated, what is refused, when it counts as dead."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from inference.engine import Answer, Generated, GivenBack, Rejected, ServedModel
from inference.server_engine import ServerEngine, ServerSettings

Reply = tuple[int, object]


def completion(text: str = "tv;; radio<end>", finish: str = "stop") -> Reply:
    usage = {"prompt_tokens": 50, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 32}}
    return 200, {"choices": [{"text": text, "finish_reason": finish}], "usage": usage}


@dataclass
class Script:
    """How the server answers."""

    model: str = "small/1"
    answer: Callable[[dict], Reply] = lambda request: completion()
    requests: list[dict] = field(default_factory=list)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(200, {"data": [{"id": script.model}]})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            script.requests.append(request)
            if request["model"] != script.model:
                self._reply(404, {"error": "no such model"})
            else:
                self._reply(*script.answer(request))

        def _reply(self, code: int, body: object) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the engine was closed
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def engine(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerEngine]:
    monkeypatch.setattr("inference.server_engine.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("inference.server_engine.PROBE_S", 0.05)
    monkeypatch.setattr("inference.server_engine.CANARY_AFTER_S", 0.1)
    engine = ServerEngine(
        url, lambda: ServedModel("", "small/1", 4, "1"), ServerSettings(canary_timeout_s=1), in_flight=8
    )
    until(lambda: engine.state() == "ready")
    yield engine
    engine.close()


def until(done: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def ask(engine: ServerEngine, prompt: str = "a prompt") -> Answer:
    answers: list[Answer] = []
    engine.submit("r", prompt, lambda id, answer: answers.append(answer))
    until(lambda: answers)
    return answers[0]


def test_an_answer_carries_text_tokens_and_the_promotion(engine: ServerEngine, script: Script):
    answer = ask(engine)
    assert isinstance(answer, Generated)
    assert (answer.text, answer.finish, answer.prompt_tokens, answer.output_tokens) == ("tv;; radio", "stop", 50, 5)
    assert answer.model == ServedModel("", "small/1", 4, "1")
    assert engine.stats().prefix_hit_tokens == 32
    request = next(r for r in script.requests if r["prompt"] == "a prompt")
    assert request["skip_special_tokens"] is False, "the separator of the list is one"


def test_what_the_server_refuses_is_refused_at_once(engine: ServerEngine, script: Script):
    script.answer = lambda request: (
        (400, {"error": "the prompt is too long"}) if request["prompt"] == "long" else completion()
    )
    answer = ask(engine, "long")
    assert isinstance(answer, Rejected)
    assert "too long" in answer.detail
    assert sum(r["prompt"] == "long" for r in script.requests) == 1
    assert engine.state() == "ready"


@pytest.mark.parametrize("trouble", [(500, {}), (503, {}), (429, {}), (200, b"not JSON"), (200, {"choices": []})])
def test_what_may_pass_is_tried_again(engine: ServerEngine, script: Script, trouble: Reply):
    replies = iter([trouble, trouble])
    script.answer = lambda request: next(replies, completion()) if request["prompt"] == "a prompt" else completion()
    assert isinstance(ask(engine), Generated)
    assert sum(r["prompt"] == "a prompt" for r in script.requests) == 3


def test_what_does_not_pass_is_given_back_and_the_server_is_dead_until_a_canary_comes_back(
    engine: ServerEngine, script: Script
):
    script.answer = lambda request: (500, {})
    assert isinstance(ask(engine), GivenBack)
    assert engine.state() == "dead"
    assert engine.room() == 0
    script.answer = lambda request: completion()
    until(lambda: engine.state() == "ready")
    assert engine.room() == 8


def test_a_server_that_only_says_it_is_well_is_dead(engine: ServerEngine, script: Script):
    """Its models are listed, its engine generates nothing."""
    script.answer = lambda request: (500, {})
    until(lambda: engine.state() == "dead")


def test_a_new_model_on_the_server_is_picked_up(engine: ServerEngine, script: Script):
    script.model = "small/2"
    answer = ask(engine)
    assert isinstance(answer, Generated)
    assert (answer.model.version, answer.model.promotion) == ("small/2", 0), "not the version that CURRENT promotes"


@pytest.mark.parametrize(
    ("text", "finish", "warned"),
    [
        ("tv;; radio;; tv<end>", "stop", True),
        ("tv;; radio;; tv stand;; <end>", "stop", False),
        ("tv;; radio;; tv", "length", False),  # the last one is half a query
    ],
)
def test_a_server_whose_lists_repeat_queries_is_said_once_to_lack_the_logits_processor(
    engine: ServerEngine, script: Script, caplog: pytest.LogCaptureFixture, text: str, finish: str, warned: bool
):
    script.answer = lambda request: completion(text, finish) if request["prompt"] == "a prompt" else completion()
    for _ in range(8):
        ask(engine)
    said = [message for message in caplog.messages if "--logits-processors inference.vllm_distinct" in message]
    assert len(said) == warned
    assert not said or said[0].startswith("3 of the first 3 lists from the model server at http://127.0.0.1")


def test_closing_gives_back_what_is_in_flight(engine: ServerEngine, script: Script):
    held = threading.Event()

    def hold(request: dict) -> Reply:
        if request["prompt"] == "a prompt":
            held.wait(30)
        return completion()

    script.answer = hold
    answers: list[Answer] = []
    engine.submit("r", "a prompt", lambda id, answer: answers.append(answer))
    until(lambda: any(r["prompt"] == "a prompt" for r in script.requests))
    engine.close()
    held.set()
    assert answers == [GivenBack("the engine is being closed")]
    engine.submit("late", "a prompt", lambda id, answer: answers.append(answer))
    assert len(answers) == 2
