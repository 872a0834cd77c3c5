"""What a backfill costs and whom it disturbs: its speed against bare vLLM, how it grows, and the shoppers' own lists meanwhile.

- Speed: two weeks of simulated shoppers, whose lists an idle job with the real model then makes by `aigq backfill --all`; against that,
  vLLM alone over the same prompts. The worker is one for backfills (`--low_in_flight` as `--in_flight`).
- Growth: preview and offering for ten times the shoppers, nothing generated.
- Shoppers' own lists: the load of bench.freshness, without a backfill and beside one, in turn: with an engine that answers at once and
  100 requests a second, and with the real model, its time included, at a tenth of that load, and 5 and 20 requests a second.
"""

import argparse
import contextlib
import io
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Producer

from bench import freshness, generation, paired
from bench.progress import show_progress
from bench.result import ROOT, Target, write
from bench.servers import Servers, servers
from inference.model_versions import latest
from inference.prompt import build_prompt
from interest import EMPTY, FOLD_VERSION, Arrival, TriggerPolicy, encode, fold
from local import process
from local.ports import free_port
from local.topics import create_topics
from pipelines.backfill import Backfill, Selection, backfill, users_of
from pipelines.list_requests import Limits, ListRequests, clocks_of
from pipelines.operation import Running, Window
from pipelines.screen import Screen
from schemas import BehaviourEvent, Item
from simulation.crowd import Crowd
from store.client import NamespaceMeta, ShardSave, ShopperStore, StateChange
from store.layout import shard_of
from store.operations import Operations
from transforms.generate_queries import decode_change

LOG = logging.getLogger(__name__)
EVER = Window(0, 1 << 47)
UNPACED = Limits(per_second=1e6, most_waiting=2_000)
PACES = {"scripted": (100.0,), "real": (5.0, 20.0)}
"""Requests a second beside the shoppers' own: where an engine answers at once, and where two cores make the lists. The targets are
of the highest."""
WITHIN_S = 900.0
SHARDS, PARTITION = 16, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="prove that it runs: no figures to quote")
    parser.add_argument("--models", default="models")
    parser.add_argument("--model", default="aigq-small")
    parser.add_argument("--seed", type=int, default=101)
    options = parser.parse_args()
    show_progress()
    speed = speeds(options, *(1, 60) if options.small else (2, 3_000))
    growth = grow(300 if options.small else 10_000, 1 if options.small else 3)
    seconds, rounds = (10, 1) if options.small else (60, 2)
    scripted, real = (paced(name, options, seconds, rounds) for name in ("scripted", "real"))
    figures = {
        "speed": speed,
        "growth": growth,
        "live_s_scripted_model": scripted,
        "live_s_real_model, a tenth of the load": real,
    }
    shared = "claims, prompts, parsing, stores and the runner take CPU on the two cores that the model computes on"
    targets = [
        Target("to_bare_vllm", round(speed["ratio"], 3), ">= 0.95", shared),
        Target("growth_10x", round(growth["ratio"], 2), "<= 11", "what does not grow with the shoppers is small here"),
        Target(
            "live_p95_ratio",
            ratio_of(scripted, max(PACES["scripted"])),
            "<= 1.25",
            "tracking, claims and stores of both share two cores with broker, store and runner",
        ),
        Target(
            "live_p95_ratio_real_model",
            ratio_of(real, max(PACES["real"])),
            "<= 1.25",
            "two cores make the lists of both: every request beside a shopper's own makes each step of the model longer",
        ),
    ]
    write("backfill", figures, targets, options.seed, options.small)


def paced(model: str, options: argparse.Namespace, seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds until shoppers' own lists are readable, without a backfill and beside one of each pace; the model's time is in them
    where it is the real one."""
    paces = {_beside(pace): pace for pace in (0.0, *PACES[model])}
    events_per_s = freshness.EVENTS_PER_S if model == "scripted" else freshness.EVENTS_PER_S // 10
    found: dict[str, list[float]] = {name: [] for name in paces}
    for number in range(rounds):
        for name in paired.in_turn(list(paces), number):
            waits = Play(model, events_per_s, seconds, paces[name], options).waits()
            found[name] += [wait.ours + (wait.model if model == "real" else 0) for wait in waits]
    return {name: {"lists": len(waits), **freshness.spread(waits)} for name, waits in found.items()}


def _beside(pace: float) -> str:
    return f"beside {pace:g} a second" if pace else "without"


def ratio_of(found: dict[str, dict[str, float]], pace: float) -> float:
    """p95 beside a backfill over p95 without."""
    return round(found[_beside(pace)]["p95"] / found["without"]["p95"], 3)


def speeds(options: argparse.Namespace, rounds: int, shoppers: int) -> dict[str, Any]:
    """Tokens a second of a backfill through a job, and of vLLM alone on the same prompts, in turn."""
    served = latest(options.models, options.model)
    if served is None:
        sys.exit(f"no model is promoted in {options.models}/{options.model}; docs/training.md tells how one is made")
    bare: list[dict[str, Any]] = []
    job: list[dict[str, Any]] = []
    with servers() as at:
        create_topics(at.kafka.bootstrap)
        generation.produce(at, Crowd(options.seed, shoppers))
        for number in range(rounds):
            store = generation.track(at, f"round{number}")
            store.begin("backfill")
            for user, request in list(store.waiting()):
                store.finish(user, request.run_id, "cancelled", "backfill")
            prompts = prompts_of(store)
            for name in paired.in_turn(["bare", "job"], number):
                if name == "bare":
                    bare.append(generation.run_bare(at, served.path, prompts))
                else:
                    job.append(through_job(at, store, options))
                LOG.info("round %d: %s %s", number + 1, name, (bare if name == "bare" else job)[-1])
    ratio = paired.ratio([run["tokens_per_s"] for run in job], [run["tokens_per_s"] for run in bare])
    return {"model": served.version, "shoppers": shoppers, "bare": bare, "job": job, "ratio": ratio.value}


def settings_of(store: ShopperStore) -> Backfill:
    return Backfill(store.calls.url, store.namespace, EVER, redo="all", limits=UNPACED)


def judge_of(store: ShopperStore, operation: str) -> Selection:
    return Selection(store, settings_of(store), operation, "t", clocks_of(store), {})


def prompts_of(store: ShopperStore) -> list[str]:
    users = sorted(set(users_of(store, settings_of(store))))
    wanted = [each for each in judge_of(store, "preview").judge(users) if not isinstance(each, str)]
    changes = [decode_change(each.blob) for each in wanted]
    return [build_prompt(change.profile, change.behaviours, change.as_of_ms) for change in changes]


def through_job(at: Servers, store: ShopperStore, options: argparse.Namespace) -> dict[str, Any]:
    """The job is up and idle when the backfill is given. From the first request taken to the last one ended."""
    port = free_port()
    words = [*generation.where(at, store.namespace), "--stages=generate", "--catch_up_s=0", "--low_in_flight=768"]
    words += [f"--models={options.models}", f"--model={options.model}", f"--metrics_port={port}"]
    child = process.start(
        f"job-{store.namespace}",
        process.python("pipelines.nearline", *words),
        at.folder / f"job-{store.namespace}.log",
        cwd=ROOT,
    )
    try:
        freshness.wait_until(child, lambda: " serves" in child.log.read_text(), WITHIN_S, "the model")
        freshness.wait_until(child, lambda: store.depth()[:2] == (0, 0), WITHIN_S, "the end of what was due")
        tokens, before = tokens_made(port), generation.cpu_seconds(child.pid)
        words = [
            f"--store={store.calls.url}",
            f"--namespace={store.namespace}",
            "--from=2000-01-01T00:00Z",
            "--to=2286-01-01T00:00Z",
        ]
        words += ["--all", "--execute", f"--per_second={UNPACED.per_second}", "--most_waiting=1000000"]
        command = process.start(
            "backfill",
            process.python("cli", "backfill", *words),
            at.folder / f"backfill-{store.namespace}.log",
            cwd=ROOT,
        )
        freshness.wait_until(child, lambda: store.depth().leased, WITHIN_S, "the first request")
        begun = time.monotonic()
        freshness.wait_until(child, lambda: store.depth().low + store.depth().leased == 0, WITHIN_S, "the last list")
        seconds = time.monotonic() - begun
        if command.wait(120):
            raise process.StartFailed(command.log_tail())
        spent = zip(generation.CPU, before, generation.cpu_seconds(child.pid), strict=True)
        made = tokens_made(port) - tokens
    finally:
        child.stop(60)
    return {
        "tokens": made,
        "seconds": round(seconds, 2),
        "tokens_per_s": round(made / seconds, 1),
        **{name: round(after - was, 1) for name, was, after in spent},
    }


def tokens_made(port: int) -> int:
    page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    (line,) = (line for line in page.splitlines() if line.startswith("aigq_output_tokens_total"))
    return int(float(line.split()[1]))


def grow(shoppers: int, rounds: int) -> dict[str, Any]:
    """Seconds for the preview and for offering every request, for so many shoppers and for ten times as many."""
    seconds: dict[str, list[float]] = {"1x": [], "10x": []}
    for _ in range(rounds):
        for name, count in (("1x", shoppers), ("10x", 10 * shoppers)):
            with servers() as at:
                store = with_states(at, count)
                begun = time.monotonic()
                with contextlib.redirect_stdout(io.StringIO()):
                    backfill(settings_of(store), execute=False)
                offer(store)
                seconds[name].append(round(time.monotonic() - begun, 3))
                if store.depth().low != count:
                    raise AssertionError(f"{store.depth().low} of {count} requests were offered")
    ratio = sum(seconds["10x"]) / sum(seconds["1x"])
    return {"shoppers": shoppers, "seconds": seconds, "ratio": ratio, "what": "preview and offering, nothing generated"}


def offer(store: ShopperStore) -> None:
    store.begin("backfill")
    operations = Operations(store.calls)
    running = Running(operations, *operations.begin("backfill", store.name, "{}"))
    requests = ListRequests(store, running, "backfill", Limits(1e6, 1 << 40), Screen())
    requests.ask(users_of(store, settings_of(store)), judge_of(store, running.id).judge)


def with_states(at: Servers, count: int) -> ShopperStore:
    """Shoppers with five behaviours each and no list."""
    store, policy, clock = ShopperStore(at.valkey.url, "growth", SHARDS), TriggerPolicy(), int(time.time() * 1000)
    store.open(NamespaceMeta("behaviour", "t", 1, "murmur2", SHARDS, FOLD_VERSION, policy.version, policy.to_json()))
    store.begin("track")
    for shard in range(SHARDS):
        names = [name for name in map("shopper-{}".format, range(count)) if shard_of(name, SHARDS) == shard]
        for offset in range(0, len(names), 200):
            changes = [
                StateChange(name, b"", state_of(name, clock, policy), None) for name in names[offset : offset + 200]
            ]
            store.save_many([ShardSave(shard, PARTITION, offset, offset + 200, clock, changes)])
    return store


def state_of(user: str, clock: int, policy: TriggerPolicy) -> bytes:
    state = EMPTY
    for number in range(5):
        item = Item(f"i{number}", f"Sony - Wireless Microphone Number {number}", "Microphones")
        event = BehaviourEvent(f"{user}-{number}", user, "click", clock - 60_000 * (5 - number), item=item)
        state = fold(state, event, Arrival(PARTITION, number, event.time_ms), policy).state
    return encode(state)


@dataclass(frozen=True)
class Play:
    """Shoppers play in real time; others, who have no list, are the backfill's."""

    model: str
    """scripted, real."""
    events_per_s: int
    seconds: float
    pace: float
    """Of the backfill, requests a second. 0: there is none."""
    options: argparse.Namespace

    def waits(self) -> list[freshness.Waits]:
        """Of the lists of the shoppers who play."""
        with servers() as at:
            create_topics(at.kafka.bootstrap)
            store, count = ShopperStore(at.valkey.url), int(max(PACES[self.model]) * (self.seconds + 30))
            idle = [f"idle-{number}" for number in range(count)]
            producer = Producer(
                {"bootstrap.servers": at.kafka.bootstrap, "partitioner": "murmur2_random", "linger.ms": 2}
            )
            with self._job(at) as child:
                for user in ("first", *idle):
                    freshness.produce(producer, self._event(user))
                producer.flush()
                freshness.wait_until(child, lambda: store.pinned() and store.runs("first"), WITHIN_S, "the first list")
                freshness.wait_until(child, lambda: store.state(idle[-1]), WITHIN_S, "the states")
                with self._backfill(at, idle):
                    for event in Crowd(self.options.seed).live(self.events_per_s, self.seconds):
                        freshness.produce(producer, event)
                    producer.flush()
                    time.sleep(5)  # the last changes settle
                freshness.wait_until(child, lambda: store.depth()[:2] == (0, 0), freshness.DRAIN_S, "the last lists")
            found = freshness.read_waits(at.kafka.bootstrap, "query-runs")
        LOG.info(
            "%s: %d lists, %d of the backfill", self, len(found), sum(user.startswith("idle") for user, _ in found)
        )
        return [wait for user, wait in found if user != "first" and not user.startswith("idle-")]

    @staticmethod
    def _event(user: str) -> BehaviourEvent:
        """One click is kept and no change; who is to be heard of first searches."""
        now_ms = int(time.time() * 1000)
        if user == "first":
            return BehaviourEvent(user, user, "search", now_ms, query="first of all")
        return BehaviourEvent(user, user, "click", now_ms, item=Item("i1", "Sony - Wireless Microphone", "Microphones"))

    @contextmanager
    def _job(self, at: Servers) -> Iterator[process.Child]:
        module = "bench.scripted_job" if self.model == "scripted" else "pipelines.nearline"
        words = [f"--bootstrap={at.kafka.bootstrap}", f"--store={at.valkey.url}"]
        words += ["--low_in_flight=64", f"--models={self.options.models}"]
        child = process.start("job", process.python(module, *words), at.folder / "job.log", cwd=ROOT)
        try:
            yield child
        finally:
            child.stop(60)

    @contextmanager
    def _backfill(self, at: Servers, users: Sequence[str]) -> Iterator[None]:
        if not self.pace:
            yield
            return
        file = Path(at.folder, "users")
        file.write_text("\n".join(users))
        words = [f"--users={file}", f"--store={at.valkey.url}", "--execute", f"--per_second={self.pace}"]
        child = process.start(
            "backfill", process.python("cli", "backfill", *words), at.folder / "backfill.log", cwd=ROOT
        )
        try:
            yield
        finally:
            child.kill()


if __name__ == "__main__":
    main()
