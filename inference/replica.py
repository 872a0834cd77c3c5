"""One vLLM engine with one model version, in child processes, driven by a thread of its own.

A replica starts once, serves, dies or is closed; it never comes back. Starting anew, changing the version and deciding
that a silent replica is dead are `local_engine`'s.
"""

import asyncio
import itertools
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer

from inference.engine import Answer, Generated, GivenBack, OnDone, Rejected, ServedModel

LOG = logging.getLogger(__name__)

CANARY = "Please recommend the next 10 queries."
"""A prompt that any model can read; one token of answer says that the whole chain works."""
SHUTDOWN_S = 15.0
"""What vLLM's processes get to end by themselves before they are killed."""


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs. The defaults are for a small model on a few cores, measured in docs/decisions/0003-generation.md."""

    max_output_tokens: int = 160
    """Ten queries are 40 to 70 tokens; a model that has not stopped by twice that will not."""
    max_running: int = 256
    """Sequences in one step of the model."""
    kv_cache_mb: int = 512
    block_size: int = 32
    """Tokens; only whole blocks are found in the prefix cache. On a CPU 32 is the least that its kernels like."""
    temperature: float = 0.0
    dtype: str = "auto"
    """auto: see `dtype_of_cpu`."""
    cpu_cores: str = "auto"
    """Cores of the model's threads (VLLM_CPU_OMP_THREADS_BIND)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answered request."""

    prompt_tokens: int
    output_tokens: int
    prefix_hit_tokens: int


class Replica:
    """`state` goes starting -> ready -> dead. Every request taken is answered exactly once, at the latest when it dies."""

    def __init__(self, model: ServedModel, settings: VllmSettings, on_usage: Callable[[Usage], None]):
        self.model = model
        self.state: Literal["starting", "ready", "dead"] = "starting"
        self.error = ""
        """Why it died; empty where it was closed."""
        self.alive_at = time.monotonic()
        """When the newest answer came, or the first request after a pause: silence is counted from here."""
        self._settings = settings
        self._on_usage = on_usage
        self._open: dict[int, tuple[str, OnDone]] = {}
        self._numbers = itertools.count()
        self._closing = False
        self._children: set[int] = set()
        self._llm: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"vllm-{model.version}", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def submit(self, request_id: str, prompt: str, on_done: OnDone) -> None:
        if self.state != "ready":
            on_done(request_id, GivenBack(f"the model is {self.state}"))
            return
        ids = self._tokenizer.encode(prompt).ids
        most = self._max_model_len - self._settings.max_output_tokens
        # vLLM ends a prompt that leaves too little room for the answer silently, with finish_reason=length.
        if not 0 < len(ids) <= most:
            on_done(request_id, Rejected(f"the prompt has {len(ids)} tokens; the model reads 1 to {most}"))
            return
        number = next(self._numbers)
        if not self._open:
            self.alive_at = time.monotonic()
        self._open[number] = (request_id, on_done)
        try:
            self._loop.call_soon_threadsafe(self._begin, number, ids)
        except RuntimeError:  # the loop has just been closed
            self._answer(number, GivenBack("the model has just stopped"))

    def poll(self) -> None:
        """Notices processes that have died while nothing was in flight."""
        llm = self._llm
        if self.state == "ready" and llm is not None and llm.errored:
            self._die("vLLM's engine process has died")

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
                self.alive_at = time.monotonic()
                self.state = "ready" if not self._closing else "dead"
            if self.state == "ready":
                self._loop.run_forever()
        except BaseException as error:
            if not self._closing:
                LOG.exception("model %s did not start", self.model.version)
            self.error = self.error or repr(error)
        finally:
            self.state = "dead"
            self._give_back()
            if self._llm is not None:
                self._llm.shutdown(timeout=SHUTDOWN_S)
                self._llm = None
            self._kill_children()
            pending = asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            self._loop.close()
            self._give_back()

    def _start(self) -> None:
        self._tokenizer = Tokenizer.from_file(os.path.join(self.model.path, "tokenizer.json"))
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

    def _kill_children(self) -> None:
        for child in multiprocessing.active_children():
            if child.pid in self._children:
                child.kill()
                child.join(1.0)

    async def _generate_canary(self) -> None:
        from vllm import SamplingParams

        ids = self._tokenizer.encode(CANARY).ids
        params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
        async for _ in self._llm.generate({"type": "token", "prompt_token_ids": ids}, params, "canary"):
            pass

    def _begin(self, number: int, ids: list[int]) -> None:
        # The loop keeps only weak references to tasks; the request's own entry in vLLM keeps this one alive.
        self._loop.create_task(self._serve(number, ids))

    async def _serve(self, number: int, ids: list[int]) -> None:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            prompt = {"type": "token", "prompt_token_ids": ids}
            outputs = [output async for output in self._llm.generate(prompt, self._params, str(number))]
            self._answer(number, self._read(outputs[-1]))
        except VLLMClientError as error:
            self._answer(number, Rejected(str(error)))
        except EngineDeadError:
            self._die("vLLM's engine process has died")
        except asyncio.CancelledError:
            self._answer(number, GivenBack("the model is being closed"))
        except Exception as error:
            LOG.exception("a request failed inside the engine")
            self._answer(number, GivenBack(repr(error)))

    def _read(self, output: Any) -> Answer:
        completion = output.outputs[0]
        ids = list(completion.token_ids)
        if ids and ids[-1] in self._params.stop_token_ids:
            ids.pop()
        usage = Usage(len(output.prompt_token_ids), len(completion.token_ids), output.num_cached_tokens or 0)
        self._on_usage(usage)
        return Generated(
            text=self._tokenizer.decode(ids, skip_special_tokens=False),
            finish="length" if completion.finish_reason == "length" else "stop",
            prompt_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            model=self.model,
            finished_ms=int(time.time() * 1000),
        )

    def _answer(self, number: int, answer: Answer) -> None:
        self.alive_at = time.monotonic()
        request = self._open.pop(number, None)
        if request:
            request[1](request[0], answer)

    def _die(self, why: str) -> None:
        if self.state == "dead":
            return
        was_ready = self.state == "ready"
        self.state, self.error = "dead", why
        self._give_back()
        if was_ready:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _give_back(self) -> None:
        for number in list(self._open):
            self._answer(number, GivenBack(self.error or "the model is being closed"))
