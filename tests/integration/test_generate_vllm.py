"""vLLM itself: answers, bad prompts, death, a new version, orphans, and a server by URL. One engine serves most tests."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from inference.engine import Answer, Engine, Generated, GivenBack, Rejected, ServedModel
from inference.local_engine import LocalEngine
from inference.model_versions import latest, promote, publish, roll_back
from inference.replica import VllmSettings
from inference.server_engine import ServerEngine, ServerSettings
from local.ports import free_port
from training.tiny import random_bundle

SETTINGS = VllmSettings(max_output_tokens=24, kv_cache_mb=64)
PROMPT = "Please recommend the next 10 queries. Profile: {}. Behaviours: {<1><now><search> dell laptop}<list>"
pytestmark = pytest.mark.timeout(1_200)


@dataclass
class Answers:
    """Waits for answers; a second answer to one request fails the test."""

    by_id: dict[str, Answer] = field(default_factory=dict)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    twice: list[str] = field(default_factory=list)

    def on_done(self, request_id: str, answer: Answer) -> None:
        with self.arrived:
            if request_id in self.by_id:
                self.twice.append(request_id)
            self.by_id[request_id] = answer
            self.arrived.notify_all()

    def wait(self, count: int) -> dict[str, Answer]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.by_id) >= count, 240), f"{len(self.by_id)} of {count} came"
        assert not self.twice
        return self.by_id


@dataclass(frozen=True)
class Served:
    engine: LocalEngine
    models: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    add_version(folder, "1")
    engine = LocalEngine(lambda: latest(folder / "models", "tiny"), SETTINGS, in_flight=64)
    try:
        until(lambda: engine.state() == "ready")
        yield Served(engine, folder)
    finally:
        engine.close()
    assert not vllm_processes(psutil.Process())


def add_version(folder: Path, version: str) -> None:
    publish(random_bundle(folder / f"bundle-{version}", version=version, seed=int(version)).path, folder / "models")
    promote(folder / "models", "tiny", version)


def until(done: Callable[[], object], most_s: float = 400) -> None:
    end = time.monotonic() + most_s
    while not done():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def vllm_processes(parent: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in parent.children(recursive=True):
        try:
            if "VLLM" in child.name() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


def ask(engine: Engine, prompts: dict[str, str]) -> dict[str, Answer]:
    answers = Answers()
    for request_id, prompt in prompts.items():
        engine.submit(request_id, prompt, answers.on_done)
    return answers.wait(len(prompts))


def test_each_request_gets_its_own_answer(served: Served):
    prompts = {f"r{n}": PROMPT.replace("dell", f"dell {n}") for n in range(40)}
    together = ask(served.engine, prompts)
    assert set(together) == set(prompts)
    for answer in together.values():
        assert isinstance(answer, Generated)
        assert 0 < answer.output_tokens <= SETTINGS.max_output_tokens
        assert answer.prompt_tokens > 10
        assert answer.model.version == "tiny/1"
        assert answer.finish == ("length" if answer.output_tokens == SETTINGS.max_output_tokens else "stop")


def test_bad_prompts_fail_alone(served: Served):
    answers = ask(served.engine, {"good": PROMPT, "long": PROMPT * 200, "empty": "", "also good": PROMPT + " "})
    assert isinstance(answers["long"], Rejected)
    assert "tokens" in answers["long"].detail
    assert isinstance(answers["empty"], Rejected)
    assert isinstance(answers["good"], Generated)
    assert isinstance(answers["also good"], Generated)


def test_a_shared_beginning_is_found_in_the_prefix_cache(served: Served):
    before = served.engine.stats()
    shared = PROMPT.replace("dell laptop", "a long history of searches " * 5)
    ask(served.engine, {"first": shared})
    ask(served.engine, {"second": shared + " tv"})
    after = served.engine.stats()
    assert after.prefix_hit_tokens > before.prefix_hit_tokens
    assert after.generated == before.generated + 2


def test_a_full_engine_is_busy_and_not_dead(served: Served):
    answers = Answers()
    for n in range(served.engine.room()):
        served.engine.submit(f"r{n}", PROMPT, answers.on_done)
    assert served.engine.state() == "busy"
    assert served.engine.room() == 0
    answers.wait(64)
    assert served.engine.state() == "ready"
    assert served.engine.room() == 64


def test_a_hanging_engine_is_killed_and_replaced(served: Served, monkeypatch: pytest.MonkeyPatch):
    """Its process lives and says nothing: no signal but silence."""
    engine, answers = served.engine, Answers()
    starts = engine.stats().starts
    monkeypatch.setattr("inference.local_engine.CANARY_AFTER_S", 0.5)
    monkeypatch.setattr("inference.local_engine.SILENT_S", 3.0)
    hanging = vllm_processes(psutil.Process())
    for process in hanging:
        process.suspend()
    engine.submit("r", PROMPT, answers.on_done)
    assert isinstance(answers.wait(1)["r"], GivenBack)
    monkeypatch.undo()
    until(lambda: engine.stats().starts == starts + 1)
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in hanging)
    assert isinstance(ask(engine, {"after": PROMPT})["after"], Generated)


@pytest.mark.parametrize("name", ["EngineCor", "Worker"])
def test_a_killed_engine_gives_back_what_was_in_flight_and_comes_up_again(served: Served, name: str):
    engine, answers = served.engine, Answers()
    starts = engine.stats().starts
    victim = next(p for p in vllm_processes(psutil.Process()) if name in p.name())
    victim.suspend()  # so that nothing is answered before it dies
    for n in range(32):
        engine.submit(f"r{n}", PROMPT, answers.on_done)
    victim.kill()
    given_back = answers.wait(32)
    assert all(isinstance(answer, GivenBack) for answer in given_back.values())
    until(lambda: engine.state() == "dead" or engine.stats().starts > starts)
    until(lambda: engine.state() == "ready")
    assert engine.stats().starts == starts + 1
    assert isinstance(ask(engine, {"after": PROMPT})["after"], Generated)


def test_a_new_version_is_picked_up_without_a_pause(served: Served):
    engine = served.engine
    answered: dict[str, Answer] = {}
    add_version(served.models, "2")
    while "tiny/2" not in {a.model.version for a in answered.values() if isinstance(a, Generated)}:
        answered |= ask(engine, {f"{len(answered)}-{n}": PROMPT for n in range(4)})
    assert all(isinstance(answer, Generated) for answer in answered.values())
    until(lambda: len([p for p in vllm_processes(psutil.Process()) if "Worker" in p.name()]) == 1)


def test_a_roll_back_takes_effect_in_the_running_engine(served: Served):
    engine, models = served.engine, served.models / "models"
    given_up = engine.model()
    assert given_up is not None
    assert given_up.version == "tiny/2"
    asked_at = time.monotonic()
    rolled_back = roll_back(models, "tiny", "worse lists")
    assert (rolled_back.version, rolled_back.promotion) == ("tiny/1", given_up.promotion + 1)
    answered: dict[str, Answer] = {}
    while rolled_back not in {a.model for a in answered.values() if isinstance(a, Generated)}:
        answered |= ask(engine, {f"{len(answered)}-{n}": PROMPT for n in range(4)})
    took_s = time.monotonic() - asked_at
    print(f"{took_s:.1f} s from the roll-back to the first list of the older version")
    assert all(isinstance(answer, Generated) for answer in answered.values()), "it serves all the time"
    after = ask(engine, {f"after-{n}": PROMPT for n in range(8)})
    assert {a.model for a in after.values() if isinstance(a, Generated)} == {rolled_back}


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(served: Served):
    engine = served.engine
    model = engine.model()
    broken = served.models / "models" / "tiny" / "broken"
    broken.mkdir()
    current = served.models / "models" / "tiny" / "CURRENT"
    before = current.read_text()
    try:
        (broken / "card.json").write_text((served.models / "bundle-1" / "card.json").read_text())
        current.write_text('{"version": "broken", "promotion": 9}')
        time.sleep(4)
        assert engine.model() == model
        assert isinstance(ask(engine, {"still": PROMPT})["still"], Generated)
    finally:
        current.write_text(before)


def test_a_model_promoted_anew_serves_under_its_new_number(served: Served):
    engine, current = served.engine, served.models / "models" / "tiny" / "CURRENT"
    model = engine.model()
    assert model is not None
    current.write_text(
        current.read_text().replace(f'"promotion": {model.promotion}', f'"promotion": {model.promotion + 5}')
    )
    until(lambda: (now := engine.model()) is not None and now.promotion == model.promotion + 5)
    answer = ask(engine, {"r": PROMPT})["r"]
    assert isinstance(answer, Generated)
    assert answer.model.promotion == model.promotion + 5


ORPHAN = """
import os, signal, sys, time
from inference.engine import ServedModel
from inference.local_engine import LocalEngine
from inference.replica import VllmSettings
if __name__ == "__main__":
    model = ServedModel(sys.argv[1], "tiny/1", 1, "1")
    engine = LocalEngine(lambda: model, VllmSettings(kv_cache_mb=64))
    while engine.state() != "ready":
        time.sleep(0.1)
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_killed_worker_leaves_no_engine_behind(served: Served, tmp_path: Path):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    root = Path(__file__).parents[2]
    worker = subprocess.Popen(
        [sys.executable, script, served.models / "bundle-1"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout is not None
        assert any(line.strip() == "ready" for line in worker.stdout)
        children = vllm_processes(psutil.Process(worker.pid))
        assert len(children) == 2
        worker.send_signal(signal.SIGKILL)
        until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in children), 60)
    finally:
        worker.kill()
        worker.wait()


@dataclass
class Server:
    """vLLM's own OpenAI-compatible server."""

    url: str
    process: subprocess.Popen


def start_server(bundle: Path, port: int, name: str, log: Path) -> Server:
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(bundle), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--served-model-name", name]
    command += ["--kv-cache-memory-bytes", str(64 << 20), "--block-size", "32"]
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    return Server(f"http://127.0.0.1:{port}", process)


def stop(server: Server) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def test_a_server_by_url_answers_like_the_engine_and_may_come_late_die_and_return(served: Served, tmp_path: Path):
    port, bundle, log = free_port(), served.models / "bundle-1", tmp_path / "server.log"
    current = ServedModel("", "tiny/1", 7, "1")
    engine = ServerEngine(
        f"http://127.0.0.1:{port}", lambda: current, ServerSettings(max_output_tokens=24), in_flight=32
    )
    server = None
    try:
        answer = ask(engine, {"early": PROMPT})["early"]
        assert isinstance(answer, GivenBack)
        assert engine.state() == "starting"
        assert engine.room() == 0

        server = start_server(bundle, port, "tiny/1", log)
        until(lambda: engine.state() == "ready")
        prompts = {f"r{n}": PROMPT.replace("dell", f"dell {n}") for n in range(32)}
        answers = ask(engine, prompts | {"long": PROMPT * 200})
        assert isinstance(answers.pop("long"), Rejected)
        for one in answers.values():
            assert isinstance(one, Generated)
            assert one.model == current
            assert one.output_tokens > 0
        assert engine.stats().output_tokens == sum(
            a.output_tokens for a in answers.values() if isinstance(a, Generated)
        )

        stop(server)
        assert isinstance(ask(engine, {"lost": PROMPT})["lost"], GivenBack)
        assert engine.state() == "dead"
        server = start_server(bundle, port, "tiny/1b", log)
        until(lambda: engine.state() == "ready")
        back = ask(engine, {"back": PROMPT})["back"]
        assert isinstance(back, Generated)
        assert back.model.version == "tiny/1b", "what the server serves, not what was expected"
    finally:
        engine.close()
        if server:
            stop(server)
