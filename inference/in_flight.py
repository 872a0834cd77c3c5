"""Requests that an engine has taken and not answered yet: each is answered exactly once, and counted."""

import itertools
import threading
import time
from dataclasses import replace

from inference.engine import Answer, EngineStats, Generated, GivenBack, OnDone, Rejected


class Tally:
    """Totals of an engine, added to from several threads."""

    def __init__(self) -> None:
        self.stats = EngineStats()
        self._lock = threading.Lock()

    def add(self, **more: int) -> None:
        with self._lock:
            self.stats = replace(self.stats, **{name: getattr(self.stats, name) + n for name, n in more.items()})


class InFlight:
    """Thread-safe: every step is one operation on a dict."""

    def __init__(self, tally: Tally):
        self.alive_at = time.monotonic()
        """When the newest answer came, or the first request after a pause: silence is counted from here."""
        self._tally = tally
        self._requests: dict[int, tuple[str, OnDone]] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._requests)

    def take(self, request_id: str, on_done: OnDone) -> int:
        """A number for the request: its id may be in flight twice (an expired lease), a number is not."""
        if not self._requests:
            self.alive_at = time.monotonic()
        number = next(self._numbers)
        self._requests[number] = (request_id, on_done)
        return number

    def answer(self, number: int, answer: Answer, prefix_hit_tokens: int = 0) -> None:
        """Does nothing where the request has been answered before."""
        request = self._requests.pop(number, None)
        if request is None:
            return
        match answer:
            case Generated():
                self.alive_at = time.monotonic()
                self._tally.add(
                    generated=1,
                    prompt_tokens=answer.prompt_tokens,
                    output_tokens=answer.output_tokens,
                    prefix_hit_tokens=prefix_hit_tokens,
                )
            case Rejected():
                self._tally.add(rejected=1)
            case GivenBack():
                self._tally.add(given_back=1)
        request_id, on_done = request
        on_done(request_id, answer)

    def give_back(self, why: str) -> None:
        """All of them."""
        for number in list(self._requests):
            self.answer(number, GivenBack(why))
