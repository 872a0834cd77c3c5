"""Claim: the fired requests in the store are the queue; this source takes from it what the engine has room for.

Each look at the store does two things. Shoppers whose change has come due while they were silent are fired (`expire`, by
the log clock that the tracking has saved). Then as many requests are claimed as the engine takes, newest first, so that
overload costs age and never memory; those of low priority (a backfill's) after all others, and few at once. Between two looks
the source wakes for every result, so that no finished list waits.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping

import apache_beam as beam
from apache_beam import coders
from apache_beam.io.unbounded_source import CheckpointMark, ReadFromUnboundedSource, UnboundedReader, UnboundedSource
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp

from interest import TriggerPolicy
from store.client import Applied, Claim, ShopperStore
from transforms import metrics
from transforms.drain import DRAINING, TRACKED
from transforms.fire_due import fire_due
from transforms.generate_queries import Generation, decode_change

LOG = logging.getLogger(__name__)

BLOCK_S = 0.2
"""Longest time in one call of the reader. Waiting here costs nothing; a bundle of Beam's costs 10 ms (facts of Prism)."""
IDLE_POLL_S = 0.2
"""Between two looks after `IDLE_AFTER_S` without a request: a fifth of the cost, and still within half a second."""
IDLE_AFTER_S = 10.0
REPORT_S = 1.0


class Claimer:
    """Looks at the store. One per process, used by one thread at a time."""

    def __init__(
        self,
        store: ShopperStore,
        policy: TriggerPolicy,
        generation: Generation,
        max_age_s: float = 3_600.0,
        catch_up_s: float = 30.0,
        poll_s: float = 0.05,
        low_in_flight: int = 64,
    ):
        """
        max_age_s: by the log clock; 0 for never. What an operator asked for has no age.
        catch_up_s: so far behind the wall clock the tracking may be before claims wait for it, and so long they wait at most;
            those of low priority wait for as long as it is behind.
        low_in_flight: requests of low priority that this worker holds at once.
        """
        self._store = store
        self._policy = policy
        self._generation = generation
        self._max_age_ms = int(max_age_s * 1000)
        self._catch_up_ms = int(catch_up_s * 1000)
        self._poll_s = poll_s
        self._low_in_flight = low_in_flight
        self._next_look = 0.0
        self._active_at = time.monotonic()
        self._behind_since: float | None = None
        self._reported_at = 0.0
        self.finished = False
        """Nothing will come any more: the process drains, or a bounded run has ended."""

    def next_batch(self) -> list[Claim] | None:
        """Claims to submit; an empty list where only results are to be emitted; None after `BLOCK_S` without either.

        Raises StoreUnavailable, WriterFenced.
        """
        until = time.monotonic() + BLOCK_S
        while True:
            claims = self._look() if time.monotonic() >= self._next_look else []
            if claims or self._generation.has_answers():
                return claims
            if self.finished or time.monotonic() >= until:
                return None
            self._generation.wait_for_answers(max(0.0, min(self._next_look, until) - time.monotonic()))

    def _look(self) -> list[Claim]:
        tracked = TRACKED.is_set()  # asked first: what the last save made due is fired before this run ends
        progress = self._store.progress()
        _, fired = fire_due(self._store, self._policy, {where: applied.clock_ms for where, applied in progress.items()})
        claims = [] if DRAINING.is_set() or self._tracking_is_behind(progress) else self._claim(progress)
        now = time.monotonic()
        if fired or claims or self._generation.in_flight:
            self._active_at = now
        idle = now - self._active_at > IDLE_AFTER_S
        self._next_look = now + (max(self._poll_s, IDLE_POLL_S) if idle else self._poll_s)
        self._generation.renew_leases()
        self._report(now)
        self.finished = self._is_finished(bool(fired or claims), tracked)
        return claims

    def _tracking_is_behind(self, progress: Mapping[tuple[int, int], Applied]) -> bool:
        """Whether claims are held back: what is claimed now would be conflated by what the tracking is about to read.

        Only for a while: a job that never catches up (or an imported log) still makes lists.
        """
        # A partition that has no records yet has no log clock, and nothing to be behind with.
        clocks = [applied.clock_ms for applied in progress.values() if applied.clock_ms]
        if not clocks or not self._catch_up_ms:
            return False
        behind_ms = time.time() * 1000 - min(clocks)
        if behind_ms <= self._catch_up_ms:
            self._behind_since = None
            return False
        if self._behind_since is None:
            self._behind_since = time.monotonic()
            LOG.info(
                "the tracking is %.0f s behind; requests wait for it, at most %d ms",
                behind_ms / 1000,
                self._catch_up_ms,
            )
        return (time.monotonic() - self._behind_since) * 1000 < self._catch_up_ms

    def _claim(self, progress: Mapping[tuple[int, int], Applied]) -> list[Claim]:
        claims = self._store.claim(self._generation.room(), self._generation.lease_ms, self._low_room())
        if not self._max_age_ms or not claims:
            return claims
        # Age is by the log clock, like everything that decides: an imported log of years ago is not old.
        clock_ms = max((applied.clock_ms for applied in progress.values()), default=0)
        young: list[Claim] = []
        for claim in claims:
            change = decode_change(claim.blob)
            if change.origin or clock_ms - change.as_of_ms <= self._max_age_ms:
                young.append(claim)
            elif self._store.finish(claim.user, claim.run_id, "expired"):
                metrics.REQUESTS.labels("expired").inc()
        return young

    def _low_room(self) -> int:
        if self._behind_since is not None:
            return 0
        return max(0, self._low_in_flight - self._generation.asked_for_in_flight)

    def _report(self, now: float) -> None:
        if now - self._reported_at < REPORT_S:
            return
        self._reported_at = now
        depth = self._store.depth()
        metrics.QUEUE_DEPTH.labels("waiting").set(depth.waiting)
        metrics.QUEUE_DEPTH.labels("leased").set(depth.leased)
        metrics.QUEUE_DEPTH.labels("low").set(depth.low)
        age_s = 0.0 if depth.oldest_as_of_ms is None else max(0.0, time.time() - depth.oldest_as_of_ms / 1000)
        metrics.QUEUE_AGE.set(age_s)

    def _is_finished(self, found_something: bool, tracked: bool) -> bool:
        if found_something or self._generation.in_flight:
            return False
        if DRAINING.is_set():
            return True
        if not tracked:
            return False
        depth = self._store.depth()
        return not depth.waiting and not depth.leased


class _NoPosition(CheckpointMark):
    """Nothing to remember: the queue is in the store, and a claim is undone by its lease."""


class _NoPositionCoder(coders.Coder):
    def encode(self, value: _NoPosition) -> bytes:
        return b""

    def decode(self, encoded: bytes) -> _NoPosition:
        return _NoPosition()

    def is_deterministic(self) -> bool:
        return True


class _Reader(UnboundedReader):
    def __init__(self, claimer: Claimer):
        self._claimer = claimer
        self._batch: list[Claim] = []

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        batch = self._claimer.next_batch()
        self._batch = batch or []
        return batch is not None

    def get_current(self) -> list[Claim]:
        return self._batch

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp.now()

    def get_watermark(self) -> Timestamp:
        return MAX_TIMESTAMP if self._claimer.finished else Timestamp.now()

    def get_checkpoint_mark(self) -> CheckpointMark:
        return _NoPosition()


class ClaimSource(UnboundedSource):
    def __init__(self, claimer_of_process: Callable[[], Claimer]):
        self._claimer_of_process = claimer_of_process

    def split(self, desired_num_splits: int, options: object = None) -> Iterable[UnboundedSource]:
        return [self]  # one a process is enough: concurrency is the engine's

    def create_reader(self, options: object, checkpoint_mark: CheckpointMark | None) -> UnboundedReader:
        return _Reader(self._claimer_of_process())

    def get_checkpoint_mark_coder(self) -> coders.Coder:
        return _NoPositionCoder()


class ClaimRequests(beam.PTransform):
    """Emits batches of claims; an empty batch is a tick that lets results flow."""

    def __init__(self, claimer_of_process: Callable[[], Claimer], poll_s: float = 0.05):
        super().__init__()
        self._source = ClaimSource(claimer_of_process)
        self._poll_s = poll_s

    def expand(self, input_or_inputs):
        return input_or_inputs | ReadFromUnboundedSource(
            self._source, poll_interval=self._poll_s, max_read_time_seconds=1.0
        )
