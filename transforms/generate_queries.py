"""Generate: claimed requests become lists, many in flight at once on one engine.

Requests are submitted by the bundle that claimed them and their results are emitted by whichever bundle comes next
("carry"), so a slow request never holds up a bundle or drains the engine's batch. That steps outside Beam's bundle
contract: what a bundle emits is not what it took. It rests on the leases instead: a request that is lost with this process
becomes claimable again when its lease runs out. docs/decisions/0003-generation.md has the figures.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import apache_beam as beam
import msgspec

from inference.allow_list import NONE, AllowLists
from inference.engine import Answer, Engine, EngineStats, Generated, GivenBack, Rejected, ServedModel
from inference.output import Malformed, QueryRules, parse_list
from inference.prompt import build_prompt
from schemas import Change, DeadLetter, QueryRun
from store.client import Claim, Outcome, ShopperStore
from transforms import metrics
from transforms.dead_letters import DeadLetterWriter

LOG = logging.getLogger(__name__)

BACK_OFF_MS = 5_000
"""A request that the engine gave back waits this long, times its attempts, before it may be claimed again."""
_STATES = {"starting": 0, "ready": 1, "busy": 2, "dead": 3}

decode_change = msgspec.msgpack.Decoder(Change).decode


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request in flight here."""

    claim: Claim
    change: Change
    claimed_ms: int


class Generation:
    """The engine, what is in flight on it and what has come back: one per process. Thread-safe.

    The queue of what has come back must be the process's and not a DoFn's: Beam makes several, and results that wait in one
    that gets no more bundles are lost (464 of 700 came out).
    """

    def __init__(
        self,
        engine: Engine,
        store: ShopperStore,
        letters: DeadLetterWriter,
        rules: QueryRules,
        lease_s: float = 60.0,
        attempts: int = 3,
        allow_list: str = NONE,
    ):
        """allow_list: which one says what lists may hold (`inference.allow_list.file_for`), whatever the engine obeys."""
        self._engine = engine
        self._store = store
        self._letters = letters
        self._rules = rules
        self._lease_ms = int(lease_s * 1000)
        self._attempts = attempts
        self._allow_lists = AllowLists(allow_list)
        self._rules_of: dict[str, QueryRules] = {}
        self._submitted: dict[str, Submitted] = {}
        self._answers: queue.SimpleQueue[tuple[str, Answer]] = queue.SimpleQueue()
        self._answered = threading.Event()
        self._renewed_at = time.monotonic()
        self._counted = EngineStats()
        self._collecting = threading.Lock()

    @property
    def in_flight(self) -> int:
        """Requests whose results have not been collected yet."""
        return len(self._submitted)

    @property
    def asked_for_in_flight(self) -> int:
        """Of them those that an operator asked for."""
        return sum(bool(submitted.change.origin) for submitted in list(self._submitted.values()))

    @property
    def lease_ms(self) -> int:
        return self._lease_ms

    def room(self) -> int:
        return self._engine.room()

    def has_answers(self) -> bool:
        return not self._answers.empty()

    def wait_for_answers(self, timeout_s: float) -> None:
        """Returns as soon as there is a result to collect."""
        if self._answered.wait(timeout_s):
            self._answered.clear()

    def submit(self, claims: Sequence[Claim]) -> None:
        now_ms = int(time.time() * 1000)
        for claim in claims:
            if claim.run_id in self._submitted:  # its lease ran out while it was in flight; it still is
                continue
            if claim.attempt > self._attempts:
                self._end(claim, "exhausted", f"tried {self._attempts} times without an answer from the engine")
                continue
            change = decode_change(claim.blob)
            self._submitted[claim.run_id] = Submitted(claim, change, now_ms)
            prompt = build_prompt(change.profile, change.behaviours, change.as_of_ms)
            self._engine.submit(claim.run_id, prompt, self._on_done)

    def collect(self) -> list[QueryRun]:
        """The lists that have come back since the last call; what was no list has been ended in its own way.

        Raises DeadLettersUnavailable, StoreUnavailable, WriterFenced.
        """
        with self._collecting:
            runs: list[QueryRun] = []
            while self.has_answers():
                run_id, answer = self._answers.get()
                # Forgotten first: if the next line raises, the request is free again when its lease runs out.
                run = self._settle(self._submitted.pop(run_id), answer)
                if run:
                    runs.append(run)
            self._report()
            return runs

    def renew_leases(self) -> None:
        """Of what is still in flight, three times in their length: a long queue in the engine is no failure. Call it often."""
        if time.monotonic() - self._renewed_at < self._lease_ms / 3000:
            return
        self._renewed_at = time.monotonic()
        claims = [submitted.claim for submitted in list(self._submitted.values())]
        if claims:
            self._store.extend(claims, self._lease_ms)

    def _on_done(self, run_id: str, answer: Answer) -> None:
        self._answers.put((run_id, answer))
        self._answered.set()

    def _settle(self, submitted: Submitted, answer: Answer) -> QueryRun | None:
        claim = submitted.claim
        match answer:
            case Generated():
                parsed = parse_list(answer.text, self._rules_for(answer.model), answer.finish)
                for reason in parsed.dropped:
                    metrics.DROPPED.labels(reason).inc()
                if not isinstance(parsed, Malformed):
                    return query_run(submitted, answer, parsed.queries)
                self._end(claim, "malformed", f"{parsed.reason}: {parsed.detail}", answer.text)
            case Rejected():
                self._end(claim, "malformed", answer.detail)
            case GivenBack():
                LOG.warning("run %s was given back (attempt %d): %s", claim.run_id, claim.attempt, answer.detail)
                self._store.extend([claim], BACK_OFF_MS * claim.attempt)
        return None

    def _rules_for(self, model: ServedModel) -> QueryRules:
        """What this model's queries must be. Raises BadAllowList."""
        if model.path not in self._rules_of:
            allowed = self._allow_lists.of(model)
            self._rules_of[model.path] = replace(self._rules, supported=allowed.queries if allowed else None)
        return self._rules_of[model.path]

    def _end(self, claim: Claim, outcome: Outcome, detail: str, text: str = "") -> None:
        """Ends a request without a list: the letter first, so that nothing is lost between the two."""
        self._letters.write(
            [
                DeadLetter(
                    stage="generate",
                    reason=outcome,
                    detail=detail,
                    topic="",
                    partition=-1,
                    offset=-1,
                    time_ms=int(time.time() * 1000),
                    user=claim.user,
                    run_id=claim.run_id,
                    raw=text.encode("utf-8", "replace"),
                )
            ]
        )
        if self._store.finish(claim.user, claim.run_id, outcome):
            metrics.REQUESTS.labels(outcome).inc()

    def _report(self) -> None:
        stats, before = self._engine.stats(), self._counted
        self._counted = stats
        metrics.PROMPT_TOKENS.inc(stats.prompt_tokens - before.prompt_tokens)
        metrics.OUTPUT_TOKENS.inc(stats.output_tokens - before.output_tokens)
        metrics.PREFIX_HITS.inc(stats.prefix_hit_tokens - before.prefix_hit_tokens)
        metrics.ENGINE_ROOM.set(self._engine.room())
        if model := self._engine.model():
            metrics.ALLOWED.set(len(self._rules_for(model).supported or ()))
        metrics.ENGINE_STATE.set(_STATES[self._engine.state()])


def query_run(submitted: Submitted, answer: Generated, queries: tuple[str, ...]) -> QueryRun:
    """A list with where it comes from; `stored_ms` is set when it is written."""
    change = submitted.change
    return QueryRun(
        run_id=change.run_id,
        user=change.user,
        as_of_ms=change.as_of_ms,
        queries=queries,
        model_version=answer.model.version,
        promotion=answer.model.promotion,
        prompt_version=answer.model.prompt_version,
        trigger_version=change.trigger_version,
        reasons=change.reasons,
        newest_ms=change.newest_ms,
        claimed_ms=submitted.claimed_ms,
        generated_ms=answer.finished_ms,
        stored_ms=0,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        origin=change.origin,
        replaces=change.replaces,
    )


class GenerateQueries(beam.DoFn):
    """Takes claims (an empty batch is a tick) and emits the lists that have been finished meanwhile, as one element."""

    def __init__(self, generation_of_process: Callable[[], Generation]):
        self._generation_of_process = generation_of_process

    def setup(self) -> None:
        self._generation = self._generation_of_process()

    def process(self, element: list[Claim]) -> Iterable[list[QueryRun]]:
        self._generation.submit(element)
        runs = self._generation.collect()
        if runs:
            yield runs
