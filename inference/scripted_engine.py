"""An `Engine` without a model: a function answers. For tests of what stands around the model, and to time the job without it."""

import threading
import time
from collections.abc import Callable

from inference.engine import Answer, EngineState, EngineStats, Generated, OnDone, ServedModel
from inference.in_flight import InFlight, Tally

MODEL = ServedModel(path="", version="scripted/1", promotion=1, prompt_version="1")
TEN = ";; ".join(f"query number {word}" for word in "one two three four five six seven eight nine ten".split())


def generated(text: str = TEN, model: ServedModel = MODEL) -> Generated:
    return Generated(text, "stop", 100, 50, model, int(time.time() * 1000))


class ScriptedEngine:
    """Answers each request with `script(request_id, prompt)`, `delay_s` later and in another thread; None: never."""

    def __init__(
        self,
        script: Callable[[str, str], Answer | None] = lambda request_id, prompt: generated(),
        delay_s: float = 0.0,
        in_flight: int = 256,
    ):
        self.script = script
        self.forced_state: EngineState | None = None
        self._delay_s = delay_s
        self._most = in_flight
        self._tally = Tally()
        self._in_flight = InFlight(self._tally)

    def submit(self, request_id: str, prompt: str, on_done: OnDone) -> None:
        number = self._in_flight.take(request_id, on_done)
        timer = threading.Timer(self._delay_s, self._answer, (number, request_id, prompt))
        timer.daemon = True
        timer.start()

    def _answer(self, number: int, request_id: str, prompt: str) -> None:
        answer = self.script(request_id, prompt)
        if answer is not None:
            self._in_flight.answer(number, answer)

    def room(self) -> int:
        return max(0, self._most - len(self._in_flight)) if self.state() in ("ready", "busy") else 0

    def state(self) -> EngineState:
        return self.forced_state or ("ready" if len(self._in_flight) < self._most else "busy")

    def model(self) -> ServedModel | None:
        return MODEL

    def stats(self) -> EngineStats:
        return self._tally.stats

    def close(self) -> None:
        self._in_flight.give_back("the engine is being closed")
