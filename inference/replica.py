"""One vLLM engine with one model version, in child processes, driven by a thread of its own.

A replica starts once, serves, dies or is closed; it never comes back. Starting anew, changing the version and deciding
that a silent replica is dead are `local_engine`'s.
"""

import asyncio
import logging
import multiprocessing
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import psutil
from tokenizers import Tokenizer

from inference.allow_list import AUTO
from inference.engine import Answer, Generated, GivenBack, OnDone, Rejected, ServedModel
from inference.in_flight import InFlight, Tally
from inference.model_bundle import ModelBundle
from inference.prompt import build_prompt

LOG = logging.getLogger(__name__)

CANARY = build_prompt({}, (), 0)
"""One token of answer to it says that the whole chain works."""
SHUTDOWN_S = 3.0
"""What vLLM's processes get to end by themselves before they are killed."""


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs. The defaults are for a small model on a few cores, measured in docs/decisions/0003-generation.md."""

    max_output_tokens: int | None = None
    """None takes what the bundle's generation settings say."""
    max_running: int = 256
    """Sequences in one step of the model."""
    kv_cache_mb: int = 512
    block_size: int = 32
    """Tokens; only whole blocks are found in the prefix cache. On a CPU 32 is the least that its kernels like."""
    dtype: str = "auto"
    """auto: fp32 on a CPU. bf16 is up to 50 times slower without native support; with AVX512_BF16 a model of hidden size 256
    made 125 instead of 232 tokens a second alone, and as many at 256 in flight. On AMX with a larger model measure anew."""
    cpu_cores: str = "auto"
    """Cores of the model's threads (VLLM_CPU_OMP_THREADS_BIND)."""
    allow_list: str = AUTO
    """auto: the one in the bundle, if it has one. Else a file, or none (`allow_list.py`)."""


class Replica:
    """`state` goes starting -> ready -> dead. Every request taken is answered exactly once, at the latest when it dies."""

    def __init__(self, model: ServedModel, settings: VllmSettings, tally: Tally):
        self.model = model
        self.state: Literal["starting", "ready", "dead"] = "starting"
        self.error = ""
        """Why it died; empty where it was closed."""
        self.in_flight = InFlight(tally)
        self._settings = settings
        self._closing = False
        self._canary_is_out = False
        self._children: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._llm: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"vllm-{model.version}", daemon=True)
        self._thread.start()

    def submit(self, request_id: str, prompt: str, on_done: OnDone) -> None:
        number = self.in_flight.take(request_id, on_done)
        if self.state != "ready":
            self.in_flight.answer(number, GivenBack(f"the model is {self.state}"))
            return
        ids = self._tokenizer.encode(prompt).ids
        most = self._max_model_len - self._params.max_tokens
        # vLLM ends a prompt that leaves too little room for the answer silently, with finish_reason=length.
        if not 0 < len(ids) <= most:
            detail = f"the prompt has {len(ids)} tokens; the model reads 1 to {most}"
            self.in_flight.answer(number, Rejected(detail))
            return
        try:
            self._loop.call_soon_threadsafe(self._begin, number, ids)
        except RuntimeError:  # the loop has just been closed
            self.in_flight.answer(number, GivenBack("the model has just stopped"))

    def poll(self) -> None:
        """Notices processes that have died while nothing was in flight."""
        llm = self._llm
        if self.state == "ready" and llm is not None and llm.errored:
            self._die("vLLM's engine process has died")

    def send_canary(self) -> None:
        """Asks for one token, if that is not under way: its answer counts as a sign of life. Answers to requests come only when
        they are whole, which takes long in a full batch on a slow machine; a canary comes back after a step or two."""
        if self.state == "ready" and not self._canary_is_out:
            self._canary_is_out = True
            self._loop.call_soon_threadsafe(self._begin_canary)

    def fail(self, why: str) -> None:
        """Declares it dead from outside: its processes are killed, because they may hang rather than run."""
        self._die(why)
        self._kill_children()

    def close(self) -> None:
        """Begins to end it; `join` waits for that."""
        self._closing = True
        self._die("")

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._kill_children()
            self._thread.join(timeout_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._start()
            if self.state == "starting":
                self._loop.run_until_complete(self._generate_canary())
                self.state = "ready" if not self._closing else "dead"
            if self.state == "ready":
                self._loop.run_forever()
        except BaseException as error:
            if not self._closing:
                LOG.exception("model %s did not start", self.model.version)
            self.error = self.error or repr(error)
        finally:
            self.state = "dead"
            self.in_flight.give_back(self.error or "the model is being closed")
            processes = self._processes()
            if self._llm is not None:
                self._llm.shutdown(timeout=SHUTDOWN_S)
                self._llm = None
            _kill(processes)
            pending = asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            self._loop.close()
            self.in_flight.give_back(self.error or "the model is being closed")

    def _start(self) -> None:
        self._tokenizer = ModelBundle.open(self.model.path).tokenizer
        from inference.vllm_start import start_vllm

        others = {child.pid for child in multiprocessing.active_children()}
        started = threading.Event()
        watch = threading.Thread(target=self._watch_children, args=(others, started), daemon=True)
        watch.start()
        try:
            if not self._closing:
                self._llm, self._params = start_vllm(self.model.path, self._settings)
                self._max_model_len = self._llm.model_config.max_model_len
        finally:
            started.set()
            watch.join()

    def _watch_children(self, others: set[int | None], started: threading.Event) -> None:
        """Finds out which processes are this replica's. Killing them is all that interrupts vLLM's start."""
        while not started.wait(0.1):
            mine = {child.pid for child in multiprocessing.active_children() if child.pid not in others}
            self._children |= {pid for pid in mine if pid is not None}
            if self._closing:
                self._kill_children()

    def _processes(self) -> list[psutil.Process]:
        """EngineCore and what it started."""
        found: list[psutil.Process] = []
        for child in multiprocessing.active_children():
            if child.pid in self._children:
                with suppress(psutil.NoSuchProcess):
                    core = psutil.Process(child.pid)
                    found += [core, *core.children(recursive=True)]
        return found

    def _kill_children(self) -> None:
        _kill(self._processes())

    async def _generate_canary(self) -> None:
        from vllm import SamplingParams

        ids = self._tokenizer.encode(CANARY).ids
        params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
        async for _ in self._llm.generate({"type": "token", "prompt_token_ids": ids}, params, "canary"):
            pass
        self.in_flight.alive_at = time.monotonic()

    async def _send_canary(self) -> None:
        try:
            await self._generate_canary()
        except Exception as error:  # no sign of life; what follows from that is the supervisor's
            LOG.warning("a canary failed: %r", error)
        finally:
            self._canary_is_out = False

    def _begin_canary(self) -> None:
        self._keep(self._loop.create_task(self._send_canary()))

    def _begin(self, number: int, ids: list[int]) -> None:
        self._keep(self._loop.create_task(self._serve(number, ids)))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)  # the loop keeps only weak references
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, number: int, ids: list[int]) -> None:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            prompt = {"type": "token", "prompt_token_ids": ids}
            outputs = [output async for output in self._llm.generate(prompt, self._params, str(number))]
            self.in_flight.answer(number, self._read(outputs[-1]), outputs[-1].num_cached_tokens or 0)
        except VLLMClientError as error:
            self.in_flight.answer(number, Rejected(str(error)))
        except EngineDeadError:
            self._die("vLLM's engine process has died")
        except asyncio.CancelledError:
            self.in_flight.answer(number, GivenBack("the model is being closed"))
        except Exception as error:
            LOG.exception("a request failed inside the engine")
            self.in_flight.answer(number, GivenBack(repr(error)))

    def _read(self, output: Any) -> Answer:
        completion = output.outputs[0]
        return Generated(
            text=text_of(completion.token_ids, self._params.stop_token_ids or (), self._tokenizer),
            finish="length" if completion.finish_reason == "length" else "stop",
            prompt_tokens=len(output.prompt_token_ids),
            output_tokens=len(completion.token_ids),
            model=self.model,
            finished_ms=int(time.time() * 1000),
        )

    def _die(self, why: str) -> None:
        if self.state == "dead":
            return
        was_ready = self.state == "ready"
        self.state, self.error = "dead", why
        self.in_flight.give_back(self.error or "the model is being closed")
        if was_ready:
            self._loop.call_soon_threadsafe(self._loop.stop)


def text_of(ids: Sequence[int], ends: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of an answer without its end token. Other special tokens stay: the separator of the list is one."""
    whole = ids[:-1] if ids and ids[-1] in ends else ids
    return tokenizer.decode(list(whole), skip_special_tokens=False)


def _kill(processes: Sequence[psutil.Process]) -> None:
    """All of them at once: a hanging worker would not notice that its parent is gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5.0)
