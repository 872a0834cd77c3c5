"""One job as processes that can die: the real tracker, claimer, generation and writer, around a reader and an engine that
are moved by hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from zlib import crc32

from inference.engine import Answer, GivenBack, OnDone, Rejected
from inference.output import QueryRules
from inference.scripted_engine import ScriptedEngine, generated
from schemas import DeadLetter, QueryRun
from store.client import ShardSave
from tests.sameness.simulated_log import POLICY, Log
from tests.sameness.simulated_store import Faults, Server, SimulatedStore
from tests.sameness.simulated_time import SimulatedTime
from transforms import read_events
from transforms.batches import EventBatch
from transforms.claim_requests import Claimer
from transforms.dead_letter_limits import DeadLetterLimits
from transforms.generate_queries import Generation
from transforms.rewinds import Rewinds
from transforms.track_interest import Tracker
from transforms.write_query_lists import ListWriter

TOPIC = "behaviour"
ACKNOWLEDGED_AFTER = 4
"""Others have that many chances while the broker is waited for."""
WORDS = "one two three four five six seven eight nine ten"


class Letters:
    """The topic of dead letters: what is written to it stays."""

    def __init__(self, faults: Faults) -> None:
        self.written: list[DeadLetter] = []
        self._faults = faults

    def write(self, letters: Sequence[DeadLetter]) -> None:
        for _ in range(ACKNOWLEDGED_AFTER):
            self._faults.interrupt()
        self.written += letters


class Results:
    """The topic of lists."""

    def __init__(self, faults: Faults) -> None:
        self.produced: list[QueryRun] = []
        self._faults = faults

    def produce(self, runs: Sequence[QueryRun]) -> None:
        for _ in range(ACKNOWLEDGED_AFTER):
            self._faults.interrupt()
        self.produced += runs


def scripted_answer(run_id: str, prompt: str) -> Answer:
    """The same at every try: most runs get a list that tells its prompt, some are malformed or rejected."""
    kind = crc32(run_id.encode()) % 16
    if kind == 0:
        return generated("no list")
    if kind in (1, 2):
        return Rejected("too long")
    return generated(";; ".join(f"{query_of(prompt)} {word}" for word in WORDS.split()))


def query_of(prompt: str) -> str:
    letters = "abcdefghijklmnop"
    return "".join(letters[int(digit, 16)] for digit in f"{crc32(prompt.encode()):08x}")


class HandEngine(ScriptedEngine):
    """Answers when it is told to, in the thread that tells it."""

    def __init__(self, submitted: Callable[[str, str], None]):
        super().__init__(scripted_answer, in_flight=6)
        self._submitted = submitted
        self.held: list[tuple[int, str, str]] = []

    def submit(self, request_id: str, prompt: str, on_done: OnDone) -> None:
        self._submitted(request_id, prompt)
        self.held.append((self._in_flight.take(request_id, on_done), request_id, prompt))

    def answer(self, position: int, fails: bool = False) -> None:
        number, request_id, prompt = self.held.pop(position)
        if fails:
            self._in_flight.answer(number, GivenBack("the engine failed"))
        else:
            self._answer(number, request_id, prompt)


class PatientGeneration(Generation):
    """Waiting for an answer is time that passes."""

    clock: SimulatedTime

    def wait_for_answers(self, timeout_s: float) -> None:
        self.clock.advance(round(timeout_s * 1000) or 50)


@dataclass
class World:
    """What outlives every process."""

    log: Log
    server: Server
    clock: SimulatedTime
    faults: Faults
    submitted: Callable[[str, str], None]
    max_age_s: float
    letters: Letters
    results: Results | None


class Worker:
    """A process of the job, with a share of the partitions."""

    def __init__(self, world: World, track_epoch: Any, generate_epoch: Any, partitions: Sequence[int]):
        self.busy: set[str] = set()
        """What it is in the middle of: reading and generating are threads of one process."""
        self._world, self.partitions = world, partitions
        self.store: Any = SimulatedStore(world.server, world.faults)
        self.store.begin("track", track_epoch)
        self.store.begin("generate", generate_epoch)
        letters: Any = world.letters
        self._rewinds = Rewinds()
        self.tracker = Tracker(self.store, POLICY, letters, DeadLetterLimits(run=0, ratio=1), self._rewinds.ask)
        self.engine = HandEngine(world.submitted)
        self.generation = PatientGeneration(self.engine, self.store, letters, QueryRules(), lease_s=2.0)
        self.generation.clock = world.clock
        self.claimer = Claimer(self.store, POLICY, self.generation, max_age_s=world.max_age_s, catch_up_s=1.0)
        results: Any = world.results
        self.writer = ListWriter(self.store, results)
        self._next: dict[int, int] = {}
        for partition in partitions:
            applied = self.store.applied(partition)
            self._next[partition] = min((each.next_offset for each in applied.values()), default=0)

    def read(self, rng: Random) -> None:
        """A batch, or a tick with progress, of one partition; now and then from further back."""
        partition = rng.choice(self.partitions)
        for rewound, offset in self._rewinds.take(TOPIC, self.partitions).items():
            self._next[rewound] = offset
        if rng.random() < 0.1:  # the runner made the reader anew, from an older mark
            self._next[partition] = max(0, self._next[partition] - rng.randrange(8))
        self.track(partition, rng.randint(1, 12), proven=rng.random() < 0.8)

    def track(self, partition: int, most: int, proven: bool) -> None:
        now, start = self._world.clock.now_ms, self._next[partition]
        end = min(self._world.log.visible(partition, now), start + most)
        records = list(enumerate(self._world.log.partitions[partition]))[start:end]
        alive = [(offset, record.append_ms, record.event) for offset, record in records if record.event is not None]
        progress_ms = now - read_events.GRACE_MS if proven and start >= end else None
        self._next[partition] = max(start, end)
        self.tracker.track(
            EventBatch(
                topic=TOPIC,
                topic_id="id",
                partition=partition,
                start_offset=start,
                offsets=[offset for offset, _, _ in alive],
                ingest_ms=[append_ms for _, append_ms, _ in alive],
                events=[event for _, _, event in alive],
                next_offset=self._next[partition],
                progress_ms=progress_ms,
            )
        )

    def generate(self) -> None:
        """Claims, submits, collects, writes, as the generate branch does in one element."""
        self.generation.submit(self.claimer.next_batch() or [])
        self._world.faults.interrupt()
        runs = self.generation.collect()
        self._world.faults.interrupt()
        if runs:
            self.writer.write(runs)


class Job:
    """Workers that share their epochs."""

    def __init__(self, world: World, workers: int):
        self.alive = True
        self.workers: list[Worker] = []
        driver: Any = SimulatedStore(world.server, world.faults)
        track_epoch, generate_epoch = driver.begin("track"), driver.begin("generate")
        partitions = range(len(world.log.partitions))
        for partition in partitions:
            unwritten = [shard for shard in range(driver.shards) if shard not in driver.applied(partition)]
            driver.save_many([ShardSave(shard, partition, 0, 0, 0, []) for shard in unwritten])
        for number in range(workers):
            share = list(partitions)[number::workers]
            self.workers.append(Worker(world, track_epoch, generate_epoch, share))
