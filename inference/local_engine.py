"""vLLM in child processes of the worker: kept alive, and moved to a new model version without a restart.

A supervising thread looks after one serving replica: starts it in the background, notices its death within a second and
starts another, and when the current version changes brings the new one up beside the old, moves the pointer, drains the
old and ends it. Requests in flight on a dead replica are given back; their leases bring them here again.
"""

import logging
import threading
import time
from collections.abc import Callable

from inference.engine import EngineState, EngineStats, GivenBack, OnDone, ServedModel
from inference.in_flight import Tally
from inference.replica import Replica, VllmSettings

LOG = logging.getLogger(__name__)

TICK_S = 0.1
WATCH_S = 1.0
"""How often the current version is looked up."""
CANARY_AFTER_S = 10.0
"""A replica that has answered nothing for so long is asked for one token."""
SILENT_S = 90.0
"""Without an answer and without a canary for so long a replica is dead: a step takes a tenth of a second, or seconds where the
machine is overloaded."""
DRAIN_S = 60.0
MOST_BACKOFF_S = 60.0


class LocalEngine:
    """An `Engine`. `current` names the version to serve (it may change at any time); None where there is none yet.

    in_flight: three times what vLLM runs at once: claims come in rounds, and between two of them the batch must not run low.
    """

    def __init__(
        self,
        current: Callable[[], ServedModel | None],
        settings: VllmSettings | None = None,
        in_flight: int = 768,
    ):
        self._current = current
        self._settings = settings or VllmSettings()
        self._most = in_flight
        self._serving: Replica | None = None
        self._starting: Replica | None = None
        self._draining: list[tuple[Replica, float]] = []
        self._has_served = False
        self._failures = 0
        self._retry_at = 0.0
        self._watch_at = 0.0
        self._watch_error = ""
        self._wanted: ServedModel | None = None
        self._tally = Tally()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request_id: str, prompt: str, on_done: OnDone) -> None:
        serving = self._serving
        if serving is not None:
            serving.submit(request_id, prompt, on_done)
        else:
            self._tally.add(given_back=1)
            on_done(request_id, GivenBack(f"the engine is {self.state()}"))

    def room(self) -> int:
        serving = self._serving
        if serving is None or serving.state != "ready":
            return 0
        return max(0, self._most - len(serving.in_flight))

    def state(self) -> EngineState:
        serving = self._serving
        if serving is not None and serving.state == "ready":
            return "ready" if self.room() else "busy"
        return "dead" if self._has_served or self._failures else "starting"

    def model(self) -> ServedModel | None:
        serving = self._serving
        return serving.model if serving else None

    def stats(self) -> EngineStats:
        return self._tally.stats

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _supervise(self) -> None:
        while not self._closing.wait(TICK_S):
            try:
                self._watch()
                self._look_after_serving()
                self._look_after_starting()
                self._look_after_draining()
            except Exception:
                LOG.exception("the engine's supervisor met an error and goes on")
        replicas = [r for r in (self._serving, self._starting, *(r for r, _ in self._draining)) if r]
        self._serving = self._starting = None
        for replica in replicas:
            replica.close()
        for replica in replicas:
            replica.join(10.0)

    def _watch(self) -> None:
        """Takes note of the version that is to be served."""
        if time.monotonic() < self._watch_at:
            return
        self._watch_at = time.monotonic() + WATCH_S
        try:
            wanted = self._current()
        except Exception as error:  # a bundle that cannot be read must not end the one that serves
            if str(error) != self._watch_error:
                LOG.error("the current model version cannot be read: %s", error)
            self._watch_error = str(error)
            return
        self._watch_error = ""
        if wanted is None or wanted == self._wanted:
            return
        self._wanted, self._retry_at = wanted, 0.0
        serving = self._serving
        if serving is not None and serving.model.version == wanted.version:
            serving.model = wanted  # the same weights, promoted anew

    def _look_after_serving(self) -> None:
        serving = self._serving
        if serving is None:
            return
        serving.poll()
        silent_s = time.monotonic() - serving.in_flight.alive_at
        if serving.state == "ready" and silent_s > SILENT_S:
            serving.fail(
                f"no answer and no canary for {silent_s:.0f} s with {len(serving.in_flight)} requests in flight"
            )
        elif silent_s > CANARY_AFTER_S:
            serving.send_canary()
        if serving.state == "dead":
            LOG.error("model %s died (%s); starting it anew", serving.model.version, serving.error)
            self._serving = None

    def _look_after_starting(self) -> None:
        new, wanted, now = self._starting, self._wanted, time.monotonic()
        if new is None:
            changed = wanted is not None and (self._serving is None or self._serving.model.version != wanted.version)
            if wanted is not None and changed and now >= self._retry_at:
                LOG.info("loading model %s (a minute on a cold disk)", wanted.version)
                self._starting = Replica(wanted, self._settings, self._tally)
            return
        if new.state == "starting":
            return
        self._starting = None
        if new.state == "dead":
            self._failures += 1
            wait_s = min(MOST_BACKOFF_S, 2.0**self._failures)
            self._retry_at = now + wait_s
            LOG.error("model %s did not start (%s); next try in %.0f s", new.model.version, new.error, wait_s)
            return
        old, self._serving = self._serving, new
        self._has_served, self._failures = True, 0
        self._tally.add(starts=1)
        LOG.info("model %s (promotion %d) serves", new.model.version, new.model.promotion)
        if old is not None:
            self._draining.append((old, now + DRAIN_S))

    def _look_after_draining(self) -> None:
        for replica, until in list(self._draining):
            replica.poll()
            if not replica.in_flight or replica.state == "dead" or time.monotonic() > until:
                replica.close()
                self._draining.remove((replica, until))
