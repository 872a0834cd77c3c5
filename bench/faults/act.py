"""One run of an operator's command: a job under load, the command killed at a random instant, the same command again to its end."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bench.faults.evidence import OperationRecord, is_held, namespaces, operations, shards_of
from bench.faults.load import Load, events
from bench.faults.stage import GRACE_S, PARTITIONS, POLICY, DidNotRecover, Job, Stage
from bench.result import ROOT
from local import process
from store.client import ShopperStore
from tests.integration.oracle import Record, Rule, Shopper, fold_log, read_topic
from tests.integration.oracle_store import Stored, read_progress, read_store
from tests.integration.verdict import Verdict, judge

SHOPPERS = 40
SHOWN = 400
"""Characters of a command's last line, where it failed; all of it is in the log."""
PATIENCE_S = 180.0
"""A command that has not ended by then is stuck."""


class Watcher:
    """A home page that reads all the time: who was ever shown an older list than before, and what the name stood for."""

    def __init__(self, stage: Stage, users: Iterable[str]):
        self.older: list[str] = []
        self.stood_for: list[str] = []
        """Namespaces, in the order in which the name was moved to them."""
        self._stage, self._users = stage, list(users)
        self._store = ShopperStore(stage.store.url, stage.name, follow_s=0.2)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        newest: dict[str, int] = {}
        while not self._over.wait(0.1):
            namespace = self._stage.namespace
            if [namespace] != self.stood_for[-1:]:
                self.stood_for.append(namespace)
            for user in self._users:
                runs = self._store.runs(user)
                as_of_ms = runs[0].as_of_ms if runs else 0
                if as_of_ms < newest.get(user, 0):
                    self.older.append(f"{user} was shown a list as of {newest[user]}, then one as of {as_of_ms}")
                newest[user] = as_of_ms


@dataclass
class Act:
    """A run while it is played: what a command's play types, and what has been found wrong beside the verdict."""

    stage: Stage
    rng: random.Random
    busy_s: float | None
    """How long the command works when nobody kills it, from its first write until its operation is done; None: not known, so it
    is not killed."""
    load: Load
    watcher: Watcher
    thorough: bool = True
    """False: one kill of a command that is else killed in many ways."""
    wrong: dict[str, list[str]] = field(default_factory=dict)
    """By what of Row it counts as: lost, doubled, overwritten, stuck, orphans."""
    took_s: list[float] = field(default_factory=list)
    """Of commands that nobody killed, likewise."""
    instants_s: list[float] = field(default_factory=list)
    """Of each kill in the middle of the work, from its first write on."""
    phases: list[str] = field(default_factory=list)
    """Of each kill: which part of its work the operation was at."""
    recovery_s: list[float] = field(default_factory=list)
    """From the start of the same command again to its end."""
    _commands: int = 0

    def __post_init__(self) -> None:
        self.folder = self.stage.folder / self.stage.name
        self.folder.mkdir()

    def kafka(self) -> list[str]:
        stage = self.stage
        return [f"--bootstrap={stage.broker.bootstrap}", f"--dead_letter_topic={stage.name}-letters", *self.in_store()]

    def in_store(self) -> list[str]:
        return [f"--store={self.stage.store.url}", f"--namespace={self.stage.name}"]

    def options(self) -> list[str]:
        """Of the job's commands: where everything is."""
        stage = self.stage
        topics = [f"--topic={stage.topic}", f"--results_topic={stage.name}-lists"]
        return [*self.kafka(), *topics, f"--models={stage.models}", f"--model_server={stage.gate.url}"]

    def found(self, kind: str, lines: Iterable[str]) -> None:
        self.wrong.setdefault(kind, []).extend(lines)

    def type(self, *words: str) -> str:
        """What the command prints. Raises DidNotRecover where it does not end with 0."""
        job = self._start(words)
        self._to_its_end(job, words)
        return job.child.log.read_text(errors="replace")

    def struck(self, *words: str, has_begun: Callable[[float], bool], phase: Callable[[], str] | None = None) -> None:
        """The command is killed at an instant of its work, given again, maybe killed again, and given again to its end.

        has_begun: whether a command that was started at this Unix time has written something.
        phase: the part of its work that it is at, empty where its work is done; None: as its operation says.
        """
        phase = phase or (lambda: self._phase(words[0]))
        if self.busy_s is None:
            job, begun = self._begun(words, has_begun)
            while job.child.running and phase():
                self._look(job, 0.02)
            self.took_s.append(round(time.time() - begun, 3))
            self._to_its_end(job, words)
            return
        for _ in range(self.rng.choice((1, 2)) if self.thorough else 1):
            self._strike(words, has_begun, phase, self.rng.uniform(0, self.busy_s))
        again = time.monotonic()
        self._to_its_end(self._start(words), words)
        self.recovery_s.append(round(time.monotonic() - again, 2))
        if is_held(self.stage.store.url, self.stage.name):
            self.found("stuck", [f"{words[0]} has ended, and the name is still held: no job may start"])

    def _begun(self, words: Iterable[str], has_begun: Callable[[float], bool]) -> tuple[Job, float]:
        """The command, and when (Unix time) it was seen to have written something."""
        started = time.time()
        job = self._start(words)
        looked = time.monotonic()
        while job.child.running and not has_begun(started):
            time.sleep(0.005)
            if time.monotonic() - looked > 0.5:
                self._look(job, 0)
                looked = time.monotonic()
        return job, time.time()

    def _strike(
        self, words: Sequence[str], has_begun: Callable[[float], bool], phase: Callable[[], str], after_s: float
    ) -> None:
        job, begun = self._begun(words, has_begun)
        while job.child.running and (left := begun + after_s - time.time()) > 0:
            if left > 0.3:
                self._look(job, 0.05)
            else:
                time.sleep(left)
        if job.child.running:
            struck_s = round(time.time() - begun, 3)
            job.child.kill()  # at once: to look at its processes takes longer than some commands
            if at := phase():
                self.instants_s.append(struck_s)
                self.phases.append(at)
            time.sleep(self.rng.uniform(0, 1))
        self._check_orphans(job, words)

    def operation_began(self, kind: str) -> Callable[[float], bool]:
        """Has it written down that it works?"""

        def has_begun(started: float) -> bool:
            return any(each.updated_ms > started * 1000 for each in self._operations(kind))

        return has_begun

    def check_ended(self, kind: str) -> None:
        """Every operation of the kind says that it is done."""
        left = [each for each in self._operations(kind) if each.status != "done"]
        self.found("stuck", [f"{each.id} is {each.status}" for each in left])

    def check_moves(self, times: int) -> None:
        """The name was moved so often, and nothing is left of tries that were killed."""
        stood_for = self.watcher.stood_for
        if len(stood_for) != times + 1 or len(set(stood_for)) != len(stood_for):
            self.found(
                "doubled", [f"the name stood for {stood_for} one after the other, should be moved {times} times"]
            )
        left = namespaces(self.stage.store.url, self.stage.name) - set(stood_for)
        self.found("orphans", [f"namespace {each} is left over" for each in sorted(left)])

    def burst(self, count: int, shoppers: int = SHOPPERS) -> None:
        """So many events at once, beside the load."""
        made = events(self.rng.randrange(1 << 30), shoppers)
        self.load.again([_record(next(made)) for _ in range(count)])

    def applied(self, until_ms: int = 0) -> None:
        """Waits until the job has taken all that is in the log now."""
        ends = self.stage.ends()
        self.stage.wait("end of the log", lambda: self._has_reached(ends, until_ms), PATIENCE_S)

    def level(self) -> None:
        """Waits until all that forms has fired, too, and every request has ended. What has not is the verdict's."""
        self.applied(int((time.time() + GRACE_S) * 1000))
        try:
            self.stage.wait("end of the requests", lambda: self._progress()[1] == 0, 60)
        except DidNotRecover as error:
            self.found("stuck", [str(error).splitlines()[0]])

    def records(self) -> list[Record]:
        return read_topic(self.stage.broker.bootstrap, self.stage.topic)

    def expected(self, records: Iterable[Record]) -> dict[str, Shopper]:
        names = Rule.__dataclass_fields__.keys() - {"trigger_version"}
        return fold_log(records, Rule(POLICY.version, **{name: getattr(POLICY, name) for name in names}))

    def stored(self, namespace: str = "") -> Stored:
        url, namespace = self.stage.store.url, namespace or self.stage.namespace
        return read_store(url, namespace, shards_of(url, namespace))

    def verdict(self) -> Verdict:
        """Of what the running job promises: the log folded once more, and the store."""
        return judge(self.expected(self.records()), self.stored())

    def _operations(self, kind: str) -> list[OperationRecord]:
        """Of a command, by its word."""
        return operations(self.stage.store.url, "redrive" if kind == "dlq" else kind, self.stage.name)

    def _phase(self, kind: str) -> str:
        """Of the command that is at work; empty where it has done it."""
        newest = self._operations(kind)[-1]
        return newest.phase if newest.status == "running" else ""

    def _start(self, words: Iterable[str]) -> Job:
        self._commands += 1
        log = self.folder / f"command-{self._commands}.log"
        command = process.python("cli", *words)
        return Job(process.start("command", command, log, env={"COLUMNS": "200"}, cwd=ROOT))

    def _look(self, job: Job, wait_s: float) -> None:
        """While a command runs: which processes it has, and the job is started again where the command has fenced it."""
        job.look()
        self.stage.supervise()
        time.sleep(wait_s)

    def _to_its_end(self, job: Job, words: Iterable[str]) -> None:
        said = " ".join(words)
        deadline = time.monotonic() + PATIENCE_S
        while job.child.running:
            if time.monotonic() > deadline:
                job.kill()
                raise DidNotRecover(f"{said}: not done within {PATIENCE_S:g} s: {job.child.log_tail(1)[-SHOWN:]}")
            self._look(job, 0.1)
        status = job.child.wait()
        self._check_orphans(job, said.split())
        job.kill()
        if status != 0:
            raise DidNotRecover(f"{said}: ended with status {status}: {job.child.log_tail(1)[-SHOWN:]}")

    def _check_orphans(self, job: Job, words: Iterable[str]) -> None:
        self.found("orphans", [f"{orphan} of {' '.join(words)[:60]}" for orphan in job.orphans()])

    def _progress(self) -> tuple[dict[tuple[int, int], tuple[int, int]], int]:
        url, namespace = self.stage.store.url, self.stage.namespace
        return read_progress(url, namespace, shards_of(url, namespace))

    def _has_reached(self, ends: dict[int, int], until_ms: int) -> bool:
        applied, _ = self._progress()
        parts = {partition for _, partition in applied}
        return len(parts) == PARTITIONS and all(
            next_offset >= ends[partition] and clock >= until_ms
            for (_, partition), (next_offset, clock) in applied.items()
        )


def _record(event: dict[str, object]) -> tuple[str, bytes]:
    return str(event["user"]), json.dumps(event).encode()
