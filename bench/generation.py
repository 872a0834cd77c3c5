"""Generated tokens a second through the whole job, against bare vLLM on the same prompts, with the same servers idling beside.

Requests are made by the job's own tracking of simulated shoppers. Then, in turn: vLLM alone over the prompts of all requests, and
the job (both branches) over the requests themselves: claim, prompt, generate, parse, store, results topic.
"""

import argparse
import contextlib
import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from bench import paired
from bench.progress import show_progress
from bench.result import ROOT, Target, write
from bench.servers import Servers, servers
from bench.watched_job import POLL_S, watch
from inference.model_versions import latest
from inference.prompt import build_prompt
from local import process
from local.topics import create_topics
from schemas import BehaviourEvent
from schemas.codec import encoder_for
from simulation.crowd import Crowd
from store.client import ShopperStore
from transforms.generate_queries import decode_change

LOG = logging.getLogger(__name__)
START_MS = 1_700_000_000_000
DAYS = 14
WITHIN_S = 900.0
CPU = ("cpu_s_model", "cpu_s_rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--small", action="store_true", help="prove that it runs: one round, few prompts, no figures to quote"
    )
    parser.add_argument("--models", default="models")
    parser.add_argument("--model", default="aigq-small")
    parser.add_argument("--seed", type=int, default=101)
    options = parser.parse_args()
    show_progress()
    served = latest(options.models, options.model)
    if served is None:
        sys.exit(f"no model is promoted in {options.models}/{options.model}; docs/training.md tells how one is made")
    rounds, shoppers = (1, 60) if options.small else (4, 5_000)
    with servers() as at:
        create_topics(at.kafka.bootstrap)
        users = produce(at, Crowd(options.seed, shoppers))
        bare, job, prompts = [], [], []
        for number in range(rounds):
            store = track(at, f"round{number}")
            prompts = waiting_prompts(store, users)
            measured = {}
            for name in paired.in_turn(["bare", "job"], number):
                measured[name] = (
                    run_bare(at, served.path, prompts) if name == "bare" else run_job(at, store, options, len(prompts))
                )
                LOG.info("round %d: %s %s", number + 1, name, measured[name])
            bare.append(measured["bare"])
            job.append(measured["job"])
    ratio = paired.ratio([run["tokens_per_s"] for run in job], [run["tokens_per_s"] for run in bare])
    figures = {
        "model": served.version,
        "prompts": len(prompts),
        "rounds": rounds,
        "bare": bare,
        "job": job,
        "ratio": ratio.rounded() if rounds > 1 else ratio.value,
    }
    cause = "claims, prompts, parsing, stores and the runner take CPU (cpu_s_rest) on the two cores that the model computes on"
    write(
        "generation",
        figures,
        [Target("to_bare_vllm", round(ratio.value, 3), ">= 0.9", cause)],
        options.seed,
        options.small,
    )


def produce(at: Servers, market: Crowd) -> list[str]:
    """Two weeks of the market, as an imported log: it carries its own log clock. Returns the shoppers."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": at.kafka.bootstrap, "partitioner": "murmur2_random"})
    encode, users = encoder_for(BehaviourEvent), set()
    for event in market.events(START_MS, DAYS):
        users.add(event.user)
        producer.produce(
            "behaviour", encode(msgspec.structs.replace(event, ingest_ms=event.time_ms)), event.user.encode()
        )
        producer.poll(0)
    producer.flush()
    return sorted(users)


def track(at: Servers, namespace: str) -> ShopperStore:
    """The job's tracking alone: leaves at most one waiting request a shopper."""
    store = ShopperStore(at.valkey.url, namespace)
    command = process.python("pipelines.nearline", "--stages=track", *where(at, namespace))
    watch(f"track-{namespace}", command, at.kafka.bootstrap, "behaviour", store, at.folder)
    return store


def where(at: Servers, namespace: str) -> list[str]:
    return [
        *(f"--bootstrap={at.kafka.bootstrap}", f"--store={at.valkey.url}", f"--namespace={namespace}"),
        "--log_clock=ingest_ms",
    ]


def waiting_prompts(store: ShopperStore, users: list[str]) -> list[str]:
    waiting = [request.waiting for request in map(store.request, users)]
    changes = [decode_change(request.blob) for request in waiting if request]
    return [build_prompt(change.profile, change.behaviours, change.as_of_ms) for change in changes]


def run_bare(at: Servers, bundle: str, prompts: list[str]) -> dict[str, Any]:
    file, result = at.folder / "prompts.json", at.folder / "bare.json"
    file.write_text(json.dumps(prompts))
    done = subprocess.run(
        process.python("bench.bare_vllm", bundle, str(file), str(result)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    if done.returncode:
        raise process.StartFailed(f"bench.bare_vllm ended with status {done.returncode}:\n{done.stderr[-3_000:]}")
    return _rate(**json.loads(result.read_text()))


def run_job(at: Servers, store: ShopperStore, options: argparse.Namespace, requests: int) -> dict[str, Any]:
    """The time runs from the first request claimed to the last one ended; loading the model is apart, as it is for vLLM alone."""
    summary = at.folder / f"{store.namespace}.json"
    child = process.start(
        f"job-{store.namespace}",
        process.python(
            "pipelines.nearline",
            *(*where(at, store.namespace), "--max_age_s=0", "--catch_up_s=0", f"--summary={summary}"),
            *(f"--models={options.models}", f"--model={options.model}"),
        ),
        at.folder / f"job-{store.namespace}.log",
        cwd=ROOT,
    )
    counts_before, begun, deadline = store.counts(), 0.0, time.monotonic() + WITHIN_S
    cpu_before = (0.0, 0.0)
    try:
        # Changes that came due after the tracking had ended fire first, and replace older requests: no work of the model's.
        while (depth := store.depth()).leased + depth.waiting or not begun:
            if not begun and depth.leased:
                begun, cpu_before = time.monotonic(), cpu_seconds(child.pid)
            if not child.running or time.monotonic() > deadline:
                raise process.StartFailed(f"the job has not made its {requests} lists:\n{child.log_tail(40)}")
            time.sleep(POLL_S)
        seconds, cpu_after = time.monotonic() - begun, cpu_seconds(child.pid)
    finally:
        child.stop(60)
    counts = store.counts()
    made = {outcome: counts[outcome] - counts_before[outcome] for outcome in ("published", "malformed")}
    spent = {name: round(after - before, 1) for name, before, after in zip(CPU, cpu_before, cpu_after, strict=True)}
    return _rate(_output_tokens(summary), seconds) | made | spent


def cpu_seconds(pid: int) -> tuple[float, float]:
    """CPU seconds so far of the job's model processes, and of the rest of the job (driver, worker threads, runner)."""
    model = rest = 0.0
    for each in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            spent = sum(each.cpu_times()[:2])
            model, rest = (model + spent, rest) if each.name().startswith("VLLM::") else (model, rest + spent)
    return model, rest


def _output_tokens(summary: Path) -> int:
    return json.loads(summary.read_text())["summary"]["output_tokens"]


def _rate(tokens: int, seconds: float) -> dict[str, Any]:
    return {"tokens": tokens, "seconds": round(seconds, 2), "tokens_per_s": round(tokens / seconds, 1)}


if __name__ == "__main__":
    main()
