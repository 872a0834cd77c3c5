"""The seam between requests and a model: submit a prompt, and hear back once.

Two engines stand behind it: `local_engine.LocalEngine` (vLLM in child processes of the worker) and
`server_engine.ServerEngine` (any OpenAI-compatible server by URL). Many requests are in flight at once and share the
engine's continuous batching; each is answered for itself, so a slow or bad one never holds up or fails its neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

EngineState = Literal["starting", "ready", "busy", "dead"]
"""starting: no model is up yet. ready: takes requests. busy: all places are taken, results are coming. dead: the model has
stopped answering; it is being started anew. Busy and dead are two states: one needs patience, the other an operator."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Which model an answer came from, and where it lies."""

    path: str
    """Folder of the bundle, or the server's name of the model."""
    version: str
    promotion: int
    """Counts every change of the current version, roll-backs too: of two lists with one as-of the higher wins."""
    prompt_version: str


@dataclass(frozen=True, slots=True)
class Generated:
    """The model's text. `finish` is `length` where it was cut off."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    output_tokens: int
    model: ServedModel
    finished_ms: int
    """Wall clock."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """This prompt fails whenever it is tried: too long, empty."""

    detail: str


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The engine failed, not the prompt: try it again later."""

    detail: str


Answer = Generated | Rejected | GivenBack
OnDone = Callable[[str, Answer], None]
"""Called once for every request with its id, from a thread of the engine: it must return at once and never raise."""


@dataclass(frozen=True)
class EngineStats:
    """Totals since the engine was made."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    prefix_hit_tokens: int = 0
    """Prompt tokens that the prefix cache held."""
    generated: int = 0
    rejected: int = 0
    given_back: int = 0
    starts: int = 0
    """Times a model came up: the first, after a failure, for a new version."""


class Engine(Protocol):
    """Thread-safe. Starts in the background when made; takes requests as soon as `state()` is ready."""

    def submit(self, request_id: str, prompt: str, on_done: OnDone) -> None:
        """Takes a request. Never raises and never waits: what cannot be taken is answered `GivenBack` at once."""
        ...

    def room(self) -> int:
        """How many more requests it takes now; 0 while starting or dead."""
        ...

    def state(self) -> EngineState: ...

    def model(self) -> ServedModel | None:
        """The model that takes new requests; None before the first is up."""
        ...

    def stats(self) -> EngineStats: ...

    def close(self) -> None:
        """Ends it with all its processes; what is in flight is given back. Returns when that is done."""
        ...
