"""The faults: each a function that is called while the job works under load, and what it must be like afterwards.

A fault returns when it is over and the job may recover. Random instants come from the run's own generator, so a seed
names a run.
"""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from bench.faults.load import Load, ProducerClock, honest_clock, wrong_clocks
from bench.faults.stage import FENCED, DidNotRecover, Stage, exit_status


@dataclass(frozen=True)
class Fault:
    name: str
    does: str
    strike: Callable[[Stage, Load, random.Random], None]
    clock: ProducerClock = honest_clock
    engine: bool = False
    """Needs an engine in the job."""
    strikes_model: bool = False
    """It has recovered when there is a new list, not already when the log is applied."""
    model_absent_at_start: bool = False
    noticed: str = ""
    """What the job's log must say afterwards: a fault that struck nothing proves nothing."""
    within_s: float = 120.0
    """How long recovery may take: a stuck job is told from a slow machine by this."""


def kill_job(stage: Stage, load: Load, rng: random.Random) -> None:
    stage.jobs[-1].kill()
    time.sleep(rng.uniform(0, 1))
    stage.start_job()


def kill_engine(stage: Stage, load: Load, rng: random.Random) -> None:
    job = stage.jobs[-1]
    job.look()
    cores = [each for each in job.family if each.is_running() and "EngineCor" in each.name()]
    if not cores:
        raise DidNotRecover(f"{stage.name}: no engine process below the job")
    psutil.Process(cores[-1].pid).kill()


def restart_broker(stage: Stage, load: Load, rng: random.Random) -> None:
    if rng.random() < 0.5:
        stage.broker.kill()
    else:
        stage.broker.stop()
    time.sleep(rng.uniform(0, 3))
    stage.broker.start()


def kill_store(stage: Stage, load: Load, rng: random.Random) -> None:
    stage.store.kill()
    time.sleep(rng.uniform(0, 2))
    stage.store.start()


def restore_older_store(stage: Stage, load: Load, rng: random.Random) -> None:
    """The store goes back by seconds, its lists and requests too. It must be noticed and read again."""
    copy = stage.folder / f"{stage.name}-older"
    stage.store.copy_append_files(copy)
    time.sleep(rng.uniform(1, 4))
    stage.store.kill()
    stage.store.restore_append_files(copy)
    stage.store.start()
    shutil.rmtree(copy)


def second_instance(stage: Stage, load: Load, rng: random.Random) -> None:
    first = stage.jobs[-1]
    stage.start_job()
    if (status := exit_status(first, 60)) != FENCED:
        raise DidNotRecover(f"{stage.name}: the older of two jobs ended with {status}, should be fenced ({FENCED})")


def zombie(frozen_s: float) -> Callable[[Stage, Load, random.Random], None]:
    def strike(stage: Stage, load: Load, rng: random.Random) -> None:
        first = stage.jobs[-1]
        first.freeze()
        stage.start_job()
        time.sleep(frozen_s)
        first.thaw()
        if (status := exit_status(first, 60)) != FENCED:
            raise DidNotRecover(f"{stage.name}: the woken job ended with {status}, should be fenced ({FENCED})")

    return strike


def model_away(away_s: float) -> Callable[[Stage, Load, random.Random], None]:
    def strike(stage: Stage, load: Load, rng: random.Random) -> None:
        stage.gate.shut()
        time.sleep(away_s)
        stage.gate.open()

    return strike


def duplicate_and_shuffle(stage: Stage, load: Load, rng: random.Random) -> None:
    """The last seconds once more: as they were, then in another order."""
    window = load.produced[-rng.randint(200, 1_000) :]
    load.again(window)
    load.again(rng.sample(window, len(window)))


def nothing(stage: Stage, load: Load, rng: random.Random) -> None:
    pass


FAULTS = (
    Fault("kill_job", "kill -9 of the job's process group", kill_job),
    Fault("kill_engine", "kill -9 of vLLM's EngineCore", kill_engine, engine=True, strikes_model=True, within_s=300),
    Fault("restart_broker", "the broker is killed or stopped, and comes back", restart_broker),
    Fault("kill_store", "kill -9 of Valkey with append-only file", kill_store),
    Fault(
        "older_store",
        "an older append-only file is restored",
        restore_older_store,
        noticed="the store lost saves; reading them again",
    ),
    Fault("two_instances", "a second job by mistake", second_instance),
    Fault("zombie", "a job sleeps 30 s while another takes over, then wakes", zombie(30), within_s=150),
    Fault(
        "model_absent_at_start",
        "the model server is there 10 s late",
        model_away(10),
        strikes_model=True,
        model_absent_at_start=True,
    ),
    Fault(
        "model_away",
        "the model server is away for a minute in mid-run",
        model_away(60),
        strikes_model=True,
        within_s=180,
    ),
    Fault(
        "duplicated_window", "a window of events is produced twice more, shuffled the last time", duplicate_and_shuffle
    ),
    Fault("wrong_clocks", "producers an hour ahead and a year behind", nothing, clock=wrong_clocks),
)
