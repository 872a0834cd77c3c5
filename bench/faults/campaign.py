"""One run of a fault, or of a command that is killed: load, strike, recovery, quiet, verdict. And many runs of many, a row each."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.faults.act import SHOPPERS, Act, Watcher
from bench.faults.load import Load
from bench.faults.operators import Command
from bench.faults.scenarios import Fault
from bench.faults.stage import DidNotRecover, Stage
from tests.integration.verdict import Verdict


@dataclass
class Row:
    """What a fault came to, over all its runs."""

    fault: str
    does: str
    runs: int = 0
    events: int = 0
    behaviours: int = 0
    """Held at the end, all of them compared."""
    requests: int = 0
    lists: int = 0
    """Requests that ended published."""
    lost: int = 0
    """Behaviours lost and requests that never came about."""
    doubled: int = 0
    """Behaviours doubled, requests that ended twice or have no ground."""
    overwritten: int = 0
    """Newer lists or requests that gave way to older ones."""
    wrong_interest: int = 0
    stuck: int = 0
    """Requests that did not end, and jobs that did not recover."""
    orphans: int = 0
    """Processes that outlived their job."""
    close_calls: int = 0
    """Shoppers not compared, because a decision of theirs hung by less than rounding."""
    outcomes: dict[str, int] = field(default_factory=dict)
    recovery_s: list[float] = field(default_factory=list)
    """Per run: from the end of the fault until all that lay in the log by then was applied (and, where
    the model was struck, until the next list). Of a killed command: from its last start to its end."""
    instants_s: list[float] = field(default_factory=list)
    """Of a killed command, per kill: seconds after its first write. A kill that came after the end of its work is none."""
    phases: dict[str, int] = field(default_factory=dict)
    """Of a killed command: in which part of its work it was killed how often."""
    seeds: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What was wrong in words, with the seed."""

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.overwritten or self.wrong_interest or self.stuck or self.orphans)

    def add(self, seed: int, events: int, verdict: Verdict) -> None:
        self.events += events
        self.behaviours += verdict.behaviours
        self.requests += verdict.requests
        self.lists += verdict.outcomes.get("published", 0)
        self.lost += len(verdict.lost) + len(verdict.never_fired)
        self.doubled += len(verdict.doubled) + len(verdict.ended_twice) + len(verdict.unfounded)
        self.overwritten += len(verdict.overwritten) + len(verdict.newest_missing)
        self.wrong_interest += len(verdict.interest)
        self.stuck += len(verdict.stuck)
        self.close_calls += verdict.close_calls
        for outcome, count in verdict.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        if verdict.wrong:
            self.wrong.append(f"seed {seed}: {verdict}")


def try_fault(stage: Stage, fault: Fault, seed: int, row: Row, per_s: float = 200.0, before_s: float = 6.0) -> None:
    """One run, added to `row`. The seed decides the events and the instant."""
    rng = random.Random(seed)
    stage.begin(f"{fault.name.replace('_', '-')}-{seed}-{int(time.time()) % 100_000}")
    row.runs += 1
    row.seeds.append(seed)
    load = Load(stage.broker.bootstrap, stage.topic, seed, per_s, clock=fault.clock).start()
    try:
        if fault.model_absent_at_start:
            stage.gate.shut()
        stage.start_job(*(("--model_server=",) if fault.engine else ()))
        stage.wait("first event applied", lambda: stage.has_reached(dict.fromkeys(range(4), 1)), fault.within_s)
        if fault.engine:
            stage.wait("first list", lambda: stage.published() > 0, 300)
        time.sleep(rng.uniform(0, before_s))
        fault.strike(stage, load, rng)
        ends, lists = stage.ends(), stage.published()
        recovery_s = stage.wait(
            "recovery",
            lambda: stage.has_reached(ends) and (not fault.strikes_model or stage.published() > lists),
            fault.within_s,
        )
        row.recovery_s.append(round(recovery_s, 2))
        time.sleep(2)
        load.stop()
        stage.settle(fault.within_s)
        row.add(seed, len(load.produced), stage.verdict())
        if not any(fault.noticed in job.child.log.read_text(errors="replace") for job in stage.jobs):
            raise DidNotRecover(f"no log says {fault.noticed!r}: the fault struck nothing, or was not noticed")
    except DidNotRecover as error:
        row.stuck += 1
        row.wrong.append(f"seed {seed}: {error}")
    finally:
        stage.gate.open()
        if not load.stopped:
            load.stop()
        stage.close()
        orphans = [orphan for job in stage.jobs for orphan in job.orphans()]
        row.orphans += len(orphans)
        row.wrong += [f"seed {seed}: orphan {orphan}" for orphan in orphans]


def try_command(
    stage: Stage, command: Command, seed: int, row: Row, busy_s: float | None, thorough: bool = True
) -> list[float]:
    """One run, added to `row`. Returns how long the command worked where nobody killed it (see Act.busy_s)."""
    rng = random.Random(seed)
    stage.begin(f"{command.name.replace('_', '-')}-{seed}-{int(time.time()) % 100_000}")
    row.runs += 1
    row.seeds.append(seed)
    load = Load(stage.broker.bootstrap, stage.topic, seed, per_s=40, shoppers=SHOPPERS).start()
    act = Act(stage, rng, busy_s, load, Watcher(stage, [f"shopper-{number}" for number in range(12)]), thorough)
    try:
        stage.start_job(*command.job_options)
        stage.wait("first list", lambda: stage.published() > 0, 120)
        time.sleep(rng.uniform(0, 3 if thorough else 0.5))
        judged = command.play(act)
        time.sleep(1)
        load.stop()
        act.level()
        stage.close()
        act.watcher.stop()
        row.add(seed, len(act.records()), judged())
        act.found("overwritten", act.watcher.older)
    except DidNotRecover as error:
        act.found("stuck", [str(error)])
    finally:
        if not load.stopped:
            load.stop()
        stage.close()
        act.watcher.stop()
        act.found("orphans", [orphan for job in stage.jobs for orphan in job.orphans()])
        row.instants_s += act.instants_s
        row.recovery_s += act.recovery_s
        for phase in act.phases:
            row.phases[phase] = row.phases.get(phase, 0) + 1
        for kind, lines in act.wrong.items():
            setattr(row, kind, getattr(row, kind) + len(lines))
            row.wrong += [f"seed {seed}: {kind}: {line}" for line in lines[:20]]
    return act.took_s


def try_command_often(stage: Stage, command: Command, kills: int, seed: int) -> Row:
    """Until it was killed so often in the middle of its work; a kill that comes after its end is tried again."""
    row, busy_s = Row(command.name, command.does), None
    while len(row.instants_s) < kills and row.runs < 2 * kills + 1:
        begun, wrong_before = time.monotonic(), len(row.wrong)
        took = try_command(stage, command, seed + row.runs, row, busy_s)
        if took and not command.measures_itself:
            busy_s = max(took)
        said = "; ".join(row.wrong[wrong_before:]) or "clean"
        print(
            f"{command.name} {len(row.instants_s)}/{kills}: {said} ({time.monotonic() - begun:.0f} s; unkilled {took}, "
            f"killed {row.instants_s}, again {row.recovery_s})",
            flush=True,
        )
    return row


def run_campaign(stage: Stage, faults: Sequence[Fault], runs: int, seed: int, per_s: float) -> Iterator[Row]:
    """Each fault's row as soon as its runs are over."""
    for number, fault in enumerate(faults):
        row = Row(fault.name, fault.does)
        for run in range(runs):
            begun, wrong_before = time.monotonic(), len(row.wrong)
            try_fault(stage, fault, seed + 1_000 * number + run, row, per_s)
            said = "; ".join(row.wrong[wrong_before:]) or "clean"
            print(f"{fault.name} {run + 1}/{runs}: {said} ({time.monotonic() - begun:.0f} s)", flush=True)
        yield row
