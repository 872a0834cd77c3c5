"""One seeded history of the job and everything that can happen to it, in one thread on a simulated clock.

    run(seed)      raises Broken, with the last steps and how to replay it

Processes take turns at every command they send to the store. They are killed there, frozen (a newer job begins, they wake
later), answers are lost, the store comes back older, the engine is slow and fails. In the end all faults stop, the rest is
read, generated and written, and what the store holds is compared with one fold over the records.
"""

import logging
from collections.abc import Callable
from contextlib import contextmanager
from random import Random

from interest import decode
from store.client import WriterFenced
from tests.sameness.simulated_job import Job, Letters, Results, Worker, World
from tests.sameness.simulated_log import GRID_MS, POLICY, T0, a_log, one_pass
from tests.sameness.simulated_store import Faults, Server, SimulatedStore
from tests.sameness.simulated_time import SimulatedTime
from tests.sameness.verdict import Broken, Ledger, at_the_end, at_this_moment
from transforms.generate_queries import decode_change
from transforms.want_lists import wanted_list

STEPS = 230
SHARDS = 2
LOST_SECOND_MS = 1_000
"""How far the store goes back: `appendfsync everysec`."""
PATIENCE = 600
"""Rounds without faults until everything must have ended."""


class Killed(BaseException):
    """kill -9: nothing of the process runs on."""


class Simulation(Faults):
    def __init__(self, seed: int, clock: SimulatedTime):
        self.seed, self.rng, self.clock = seed, Random(seed), clock
        log = a_log(self.rng)
        users = sorted({r.event.user for records in log.partitions for r in records if r.event})
        self.server = Server(users, SHARDS, self.clock)
        self.ledger = Ledger(one_pass(log), self.server, self.clock)
        results = Results(self) if self.rng.random() < 0.7 else None
        max_age_s = self.rng.choice((0.0, 0.0, 8.0))
        self.world = World(log, self.server, clock, self, self.ledger.submitted, max_age_s, Letters(self), results)
        self.trace: list[str] = []
        self.snapshots: list[tuple[int, tuple]] = []
        self.frozen: list[Job] = []
        self.running: list[Job] = []
        """Whose steps are in progress, the innermost last."""
        self._faulty = False
        self.job = self._new_job()
        self._person = SimulatedStore(self.server, self)
        self._person.begin("backfill")
        self._faulty = True

    # What happens around a command of the store

    def interrupt(self) -> None:
        if not self._faulty:
            return
        if len(self.running) < 3 and self.rng.random() < 0.08:
            self._act(nested=True)
        if self.running and not self.running[-1].alive:
            raise Killed

    def loses_answer(self) -> bool:
        return self._faulty and self.rng.random() < 0.02

    def fired(self, user: str, run_id: str, blob: bytes) -> None:
        self.ledger.fired(user, run_id, blob)

    def claimed(self, run_id: str, until_ms: int) -> None:
        self.ledger.claimed(run_id, until_ms)

    def extended(self, run_id: str, until_ms: int) -> None:
        self.ledger.leased[run_id] = until_ms

    # Steps

    def run(self) -> None:
        for _ in range(STEPS):
            self.clock.advance(self.rng.choice((0, 0, 1, 1, 2, 5)) * GRID_MS)
            self._act()
            at_this_moment(self.ledger)
        self._faulty = False
        self._say("no more faults")
        self._end()
        at_the_end(self.ledger, self.world)

    def _act(self, nested: bool = False) -> None:
        actions: list[tuple[int, Callable[[], None]]] = [(8, self._answer)]
        for job in (self.job, *self.frozen[-1:]):
            worker, what = (
                self.rng.choice(job.workers),
                self.rng.choice(("reads", "reads", "reads", "generates", "generates")),
            )
            if what not in worker.busy:
                actions.append((70 if job is self.job else 6, lambda j=job, w=worker, d=what: self._step(j, w, d)))
        actions += [
            (8, self._snapshot),
            (4 if nested else 1, self._go_back),
            (4 if nested else 2, self._kill),
            (1, self._freeze),
            (4, self._backfill),
        ]
        weights = [weight for weight, _ in actions]
        chosen = self.rng.choices(actions, weights)[0][1]
        if nested:
            self._say("in between:")
        chosen()

    def _step(self, job: Job, worker: Worker, what: str) -> None:
        self._say(f"{'job' if job is self.job else 'an old job'} {what}")
        try:
            with self._in(job, worker, what):
                if what == "reads":
                    worker.read(self.rng)
                else:
                    worker.generate()
        except Killed:
            self._say("killed in the middle")
        except WriterFenced as fenced:
            if job is self.job:
                raise Broken("the newest job is fenced") from fenced
            self._say("the old job is fenced")
            job.alive, self.frozen = False, [each for each in self.frozen if each is not job]

    @contextmanager
    def _in(self, job: Job, worker: Worker, what: str):
        self.running.append(job)
        worker.busy.add(what)
        try:
            yield
        finally:
            self.running.pop()
            worker.busy.discard(what)

    def _answer(self) -> None:
        engines = [worker.engine for worker in self.job.workers if worker.engine.held]
        if engines:
            engine = self.rng.choice(engines)
            for _ in range(self.rng.randint(1, len(engine.held))):
                engine.answer(self.rng.randrange(len(engine.held)), fails=self.rng.random() < 0.15)
            self._say("the engine answers")

    def _snapshot(self) -> None:
        now = self.clock.now_ms
        self.snapshots = [each for each in self.snapshots if now - each[0] <= LOST_SECOND_MS]
        self.snapshots.append((now, self.server.snapshot()))

    def _go_back(self) -> None:
        recent = [each for each in self.snapshots if self.clock.now_ms - each[0] <= LOST_SECOND_MS]
        if recent:
            at = self.rng.randrange(len(recent))
            self._say(f"the store goes back to {recent[at][0] - T0}")
            self.snapshots = recent[: at + 1]
            self.server.go_back(recent[at][1])
            self.ledger.went_back()

    def _kill(self) -> None:
        self._say("kill -9, a new job begins")
        self.job.alive = False
        self.job = self._new_job()
        if self.rng.random() < 0.2:  # what killed the job has struck the store too
            self._go_back()

    def _freeze(self) -> None:
        self._say("the job is frozen, a new one begins")
        self.frozen.append(self.job)
        self.job = self._new_job()

    def _new_job(self) -> Job:
        faulty, self._faulty = self._faulty, False
        self.clock.advance(GRID_MS)
        try:
            return Job(self.world, workers=self.rng.randint(1, 2))
        finally:
            self._faulty = faulty

    def _backfill(self) -> None:
        """An operator asks for a list of low priority, now and then for the same one again."""
        clock = min((clock for _, clock in self.server.model.applied.values()), default=0)
        user = self.rng.choice(self.server.users)
        as_of = (clock - self.rng.choice((0, 500, 2_000))) // 1_000 * 1_000
        blob = self.server.model.shoppers[user].blob
        wanted = wanted_list(user, decode(blob), as_of, "operation", POLICY.version) if blob else None
        if wanted is not None:
            faulty, self._faulty = self._faulty, False
            answer = self._person.want("backfill", [wanted], low=True)[0]
            self._faulty = faulty
            self._say(f"backfill of {user} as of {as_of - T0}: {answer}")
            self.ledger.wanted(decode_change(wanted.blob), answer)

    def _end(self) -> None:
        job = self.job
        for _ in range(PATIENCE):
            self.clock.advance(5 * GRID_MS)
            for worker in job.workers:
                with self._in(job, worker, "the rest"):
                    for partition in worker.partitions:
                        worker.track(partition, 1_000, proven=True)
                    worker.read(self.rng)
                    while worker.engine.held:
                        worker.engine.answer(0)
                    worker.generate()
            at_this_moment(self.ledger)
            if self._is_quiet():
                return
        raise Broken("work is left over", self.ledger.left_over())

    def _is_quiet(self) -> bool:
        model = self.server.model
        ends = [len(records) for records in self.world.log.partitions]
        return (
            all(held[0] == ends[partition] for (_, partition), held in model.applied.items())
            and not any(s.waiting or s.leased or s.due for s in model.shoppers.values())
            and not any(worker.generation.in_flight for worker in self.job.workers)
        )

    def _say(self, what: str) -> None:
        self.trace.append(f"{self.clock.now_ms - T0:6d} {'  ' * len(self.running)}{what}")


def run(seed: int) -> Simulation:
    """Raises Broken: what is wrong, the last steps before it, and how to see it again."""
    simulation = None
    logging.disable(logging.ERROR)
    clock = SimulatedTime(T0)
    try:
        with clock.in_the_product():
            simulation = Simulation(seed, clock)
            simulation.run()
            return simulation
    except Exception as error:
        steps = "\n".join(simulation.trace[-25:]) if simulation else ""
        raise Broken(
            f"seed {seed}: {error!r}\n{steps}\nagain: AIGQ_SIM_SEED={seed} pytest tests/sameness/test_simulation.py"
        ) from error
    finally:
        logging.disable(logging.NOTSET)


__all__ = ["Broken", "Simulation", "run"]
