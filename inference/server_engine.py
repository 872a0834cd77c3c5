"""A vLLM server by URL behind the engine's seam, for workers without an accelerator of their own.

The server batches; this side keeps a bounded number of requests open, repeats what may be repeated, and asks for one token
now and then: a dead engine behind a live server answers /health with 200, but not that.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import msgspec

from inference.engine import Answer, EngineState, EngineStats, Generated, GivenBack, OnDone, Rejected, ServedModel
from inference.in_flight import InFlight, Tally
from inference.prompt import PROMPT_VERSION, SEPARATOR, build_prompt
from inference.vocabulary import END

LOG = logging.getLogger(__name__)

PROBE_S = 1.0
"""Between two looks at a server that does not answer."""
CANARY_AFTER_S = 5.0
"""A server that has answered nothing for so long is asked for one token."""
FIRST_WAIT_S = 0.2
REPEATING, AMONG = 3, 300
"""So many lists with a repeated query, among so many: the server lacks our logits processor, which leaves next to none."""


@dataclass(frozen=True)
class ServerSettings:
    max_output_tokens: int = 160
    temperature: float = 0.0
    timeout_s: float = 60.0
    """For one answer, queueing in the server included."""
    canary_timeout_s: float = 30.0
    tries: int = 4
    """Of one request, 0.2, 0.4, 0.8 s apart, before it is given back to its lease."""


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None


class _TokenDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _TokenDetails | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _AnotherModel(Exception):
    """The server no longer serves the model that it was asked for."""


class ServerEngine:
    """An `Engine`. Serves whatever the server does; `current` gives the promotion counter where the versions agree."""

    def __init__(
        self,
        url: str,
        current: Callable[[], ServedModel | None] = lambda: None,
        settings: ServerSettings | None = None,
        in_flight: int = 768,
    ):
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._current = current
        self._settings = settings or ServerSettings()
        self._most = in_flight
        self._tally = Tally()
        self._in_flight = InFlight(self._tally)
        self._tasks: set[asyncio.Task[None]] = set()
        self._model: ServedModel | None = None
        self._alive = False
        self._closed = False
        self._lists = self._repeating = 0
        self._loop = asyncio.new_event_loop()
        limits = httpx.Limits(max_connections=in_flight + 1, max_keepalive_connections=in_flight + 1)
        self._client = httpx.AsyncClient(limits=limits)
        self._watching = self._loop.create_task(self._watch())
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)
        self._thread.start()

    def submit(self, request_id: str, prompt: str, on_done: OnDone) -> None:
        number = self._in_flight.take(request_id, on_done)
        if self._model is None or self._closed:
            self._in_flight.answer(number, GivenBack(f"the model server is {self.state()}"))
            return
        try:
            self._loop.call_soon_threadsafe(self._begin, number, prompt)
        except RuntimeError:  # the loop has just been closed
            self._in_flight.answer(number, GivenBack("the engine is being closed"))

    def room(self) -> int:
        return max(0, self._most - len(self._in_flight)) if self._alive else 0

    def state(self) -> EngineState:
        if self._alive:
            return "ready" if len(self._in_flight) < self._most else "busy"
        return "dead" if self._model else "starting"

    def model(self) -> ServedModel | None:
        return self._model

    def stats(self) -> EngineStats:
        return self._tally.stats

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.call_soon_threadsafe(self._watching.cancel)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._watching)
        except asyncio.CancelledError:
            pass
        finally:
            self._alive = False
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._in_flight.give_back("the engine is being closed")
            self._loop.run_until_complete(self._client.aclose())
            self._loop.close()
            self._in_flight.give_back("the engine is being closed")

    async def _watch(self) -> None:
        while True:
            silent_s = time.monotonic() - self._in_flight.alive_at
            if not self._alive or silent_s > CANARY_AFTER_S:
                try:
                    await self._probe()
                except Exception:
                    LOG.exception("looking at the model server failed in an unknown way; it is tried again")
            await asyncio.sleep(PROBE_S)

    async def _probe(self) -> None:
        """One token from whatever the server serves."""
        begun = time.monotonic()
        try:
            model = await self._look_up_model()
            await self._complete(build_prompt({}, (), 0), model, 1, self._settings.canary_timeout_s)
        except (httpx.HTTPError, msgspec.DecodeError, _AnotherModel) as error:
            # A full server may keep the canary waiting; answers to others that came meanwhile show that it lives.
            if self._alive and self._in_flight.alive_at < begun:
                LOG.error("the model server at %s does not answer: %r", self._url, error)
                self._alive = False
            return
        if not self._alive:
            LOG.info("the model server at %s serves %s", self._url, model.version)
            self._tally.add(starts=1)
        self._alive, self._in_flight.alive_at = True, time.monotonic()

    async def _look_up_model(self) -> ServedModel:
        response = await self._client.get(f"{self._url}/models", timeout=self._settings.canary_timeout_s)
        response.raise_for_status()
        models = msgspec.json.decode(response.content, type=_Models).data
        if not models:
            raise _AnotherModel("the server serves no model")
        current = self._current()
        if current is not None and current.version in {model.id for model in models}:
            self._model = current
        else:
            self._model = ServedModel(self._url, models[0].id, 0, PROMPT_VERSION)
        return self._model

    def _begin(self, number: int, prompt: str) -> None:
        task = self._loop.create_task(self._serve(number, prompt))
        self._tasks.add(task)  # the loop keeps only weak references
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, number: int, prompt: str) -> None:
        try:
            answer, prefix_hit_tokens = await self._generate(prompt)
        except Exception as error:
            LOG.exception("a request to the model server failed")
            answer, prefix_hit_tokens = GivenBack(repr(error)), 0
        self._in_flight.answer(number, answer, prefix_hit_tokens)

    async def _generate(self, prompt: str) -> tuple[Answer, int]:
        """The answer, and how many tokens of the prompt the server's prefix cache held."""
        detail, stale = "", False
        for attempt in range(self._settings.tries):
            if attempt:
                await asyncio.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
            try:
                model = self._model
                if model is None or stale:
                    model = await self._look_up_model()
                completion = await self._complete(
                    prompt, model, self._settings.max_output_tokens, self._settings.timeout_s
                )
            except _AnotherModel:
                detail, stale = "the server serves another model now", True
            except httpx.HTTPStatusError as error:
                detail = f"HTTP {error.response.status_code}: {error.response.text[:200]}"
                if error.response.status_code in (400, 413, 422):
                    return Rejected(detail), 0
            except (httpx.HTTPError, msgspec.DecodeError) as error:
                detail = repr(error)
            else:
                generated, prefix_hit_tokens = _read(completion, model)
                self._notice_repeats(generated)
                return generated, prefix_hit_tokens
        self._alive = False  # no more requests until a canary has come back
        return GivenBack(f"the model server at {self._url} failed {self._settings.tries} times; {detail}"), 0

    def _notice_repeats(self, generated: Generated) -> None:
        """No call tells which logits processors a server runs; its lists do."""
        whole = generated.text.split(SEPARATOR)[: -1 if generated.finish == "length" else None]
        queries = [query for piece in whole if (query := piece.strip())]
        repeats = len(set(queries)) < len(queries)
        self._lists += 1
        self._repeating += repeats
        if repeats and self._repeating == REPEATING and self._lists <= AMONG:
            LOG.warning(
                "%d of the first %d lists from the model server at %s repeat a query, so that shoppers get shorter ones. Start "
                "it with --logits-processors inference.vllm_distinct:DistinctQueries (docs/model-server.md)",
                *(self._repeating, self._lists, self._url),
            )

    async def _complete(self, prompt: str, model: ServedModel, most_tokens: int, timeout_s: float) -> _Completion:
        response = await self._client.post(
            f"{self._url}/completions",
            json={
                "model": model.version,
                "prompt": prompt,
                "max_tokens": most_tokens,
                "temperature": self._settings.temperature,
                # The separator of the answer is a special token.
                "skip_special_tokens": False,
                "spaces_between_special_tokens": False,
            },
            timeout=httpx.Timeout(timeout_s, connect=2.0),
        )
        if response.status_code == 404:
            raise _AnotherModel(model.version)
        response.raise_for_status()
        completion = msgspec.json.decode(response.content, type=_Completion)
        if not completion.choices:
            raise msgspec.DecodeError("a completion without choices")
        return completion


def _read(completion: _Completion, model: ServedModel) -> tuple[Generated, int]:
    choice, usage = completion.choices[0], completion.usage
    generated = Generated(
        text=choice.text.removesuffix(END),
        finish="length" if choice.finish_reason == "length" else "stop",
        prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        model=model,
        finished_ms=int(time.time() * 1000),
    )
    details = usage.prompt_tokens_details
    return generated, (details.cached_tokens or 0) if details else 0
