"""`aigq demo`: the whole product on this machine, with simulated shoppers who play in real time.

Broker, store and job are the real ones; the shoppers are simulated (simulation/). The model loads while the first shoppers
play. Ends with a table of what the store holds for a few shoppers, and leaves nothing running.
"""

import math
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Producer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from interest import behaviours_of, decode
from local import process
from local.ports import free_port
from local.prerequisites import missing
from local.scratch import scratch
from local.tansu import tansu
from local.topics import create_topics
from local.valkey import valkey
from schemas import BehaviourEvent, QueryRun
from schemas.codec import encoder_for
from simulation.crowd import Crowd
from store.client import ShopperStore

MODELS = Path(__file__).parent.parent / "models"
EVENTS_PER_S = 20
PARTITIONS = 4
LIVE_S = 30
"""Shoppers play at least this long after the model has come up: lists made from then on show what a deployment is like."""
LONGEST_S = 300
"""Longest play, for a machine on which vLLM does not come up sooner."""
TELLING = 4
"""Behaviours."""
DRAIN_S = 60
"""Longest wait for the last lists after the shoppers have gone home."""


@dataclass
class Progress:
    """What the demo shows while it runs."""

    began: float
    events: int = 0
    published: int = 0
    playing: bool = True
    users: set[str] = field(default_factory=set)

    def table(self, fired: int, counts: dict[str, int], waiting: int, leased: int) -> Table:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            f"[bold]{time.monotonic() - self.began:5.0f} s[/]", "shoppers play" if self.playing else "last lists"
        )
        grid.add_row("events", f"{self.events:,}")
        grid.add_row("changes of interest", f"{fired:,}")
        grid.add_row("waiting / at the model", f"{waiting:,} / {leased:,}")
        others = "  ".join(f"{name} {count:,}" for name, count in counts.items() if count and name != "published")
        grid.add_row("lists", f"[green]{counts['published']:,}[/]  [dim]{others}[/]")
        return grid


def run_demo(seconds: int, keep: bool, seed: int) -> int:
    """Runs the demo; returns the exit status: 0, 1 if no list came about, 2 if something is missing on this machine."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    if lacking := missing("demo"):
        console.print("\n".join(lacking), style="red")
        return 2
    with ExitStack() as stack:
        folder = stack.enter_context(scratch("aigq-demo-"))
        broker = stack.enter_context(tansu(folder))
        server = stack.enter_context(valkey(folder / "valkey"))
        create_topics(broker.bootstrap, partitions=PARTITIONS)
        metrics_port = free_port()
        job = process.start(
            "job",
            process.python(
                "cli",
                *("run", "nearline", f"--bootstrap={broker.bootstrap}", f"--store={server.url}"),
                *(f"--models={MODELS}", f"--metrics_port={metrics_port}"),
            ),
            folder / "job.log",
        )
        stack.callback(job.kill)
        console.print(
            f"broker {broker.bootstrap}   store {server.tcp_url}   job's log {job.log}   metrics :{metrics_port}/metrics",
            soft_wrap=True,
        )
        store = ShopperStore(server.url)
        progress = Progress(time.monotonic())
        try:
            _play(console, job, store, broker.bootstrap, progress, seconds, seed)
        except JobEnded:
            console.print(f"the job ended on its own; the end of its log:\n{job.log_tail(30)}", style="red")
            return 1
        shown = _show_lists(console, store, progress.users)
        if keep:
            _keep(console, broker.bootstrap, server.tcp_url)
        status = job.stop(within_s=60)
        console.print(
            f"job drained, exit status {status}; broker and store stopped" if status == 0 else job.log_tail(30)
        )
        return 0 if shown and status == 0 else 1


class JobEnded(RuntimeError):
    """The job is gone though nobody asked it to end."""


def _play(
    console: Console,
    job: process.Child,
    store: ShopperStore,
    bootstrap: str,
    progress: Progress,
    seconds: int,
    seed: int,
) -> None:
    """Produces events in real time, then waits until no request waits or is in flight."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 5})
    events, encode = Crowd(seed).live(EVENTS_PER_S, LONGEST_S), encoder_for(BehaviourEvent)
    first_list_at = math.inf
    with Live(console=console, refresh_per_second=4, transient=False) as live:

        def show() -> bool:
            if not job.running:
                raise JobEnded
            depth = store.depth()
            counts = store.counts()
            progress.published = counts["published"]
            live.update(progress.table(store.fired(), counts, depth.waiting, depth.leased))
            return bool(depth.waiting or depth.leased)

        shown_at = 0.0
        for event in events:
            producer.produce("behaviour", key=event.user, value=encode(event))
            producer.poll(0)
            progress.events += 1
            progress.users.add(event.user)
            now = time.monotonic()
            if now - shown_at > 0.25:
                shown_at = now
                show()
                if progress.published:
                    first_list_at = min(first_list_at, now)
            if now > max(progress.began + seconds, first_list_at + LIVE_S):
                break
        producer.flush(10)
        progress.playing = False
        settled = time.monotonic() + 5  # the last changes come due
        deadline = time.monotonic() + DRAIN_S
        while (show() or time.monotonic() < settled) and time.monotonic() < deadline:
            time.sleep(0.25)
    console.print()


def _show_lists(console: Console, store: ShopperStore, users: set[str], most: int = 6) -> int:
    """Prints the newest lists, of shoppers who did enough to tell something; returns how many shoppers have one."""
    with_lists = [(user, runs[0]) for user in sorted(users) if (runs := store.runs(user))]
    behaviours = {user: _newest_behaviours(store, user) for user, _ in with_lists}
    table = Table(title="Lists in the store (simulated shoppers)", show_lines=True, title_justify="left")
    for heading in ("shopper", "newest behaviours", "why a list was due", "next queries", "seconds"):
        table.add_column(heading, overflow="fold")
    newest = sorted(with_lists, key=lambda found: -found[1].as_of_ms)
    for user, run in [found for found in newest if len(behaviours[found[0]]) >= TELLING][:most]:
        queries = "\n".join(f"{number:2} {query}" for number, query in enumerate(run.queries, 1))
        table.add_row(user, "\n".join(behaviours[user][-6:]), "\n".join(run.reasons), queries, _seconds(run))
    console.print(table)
    waits = sorted((run.stored_ms - run.newest_ms) / 1000 for _, run in with_lists)
    if waits:
        console.print(
            f"{len(with_lists)} shoppers have a list; event to list: median {waits[len(waits) // 2]:.1f} s, longest {waits[-1]:.1f} s"
        )
    else:
        console.print("no list came about; the job's log says why", style="red")
    return len(with_lists)


def _newest_behaviours(store: ShopperStore, user: str) -> list[str]:
    stored = store.state(user)
    return [f"{b.kind} {b.text}" for b in behaviours_of(decode(stored.blob))] if stored else []


def _seconds(run: QueryRun) -> str:
    """Newest event to readable list, split by where the time went."""
    parts = (
        ("settle", run.newest_ms, run.as_of_ms),
        ("queue", run.as_of_ms, run.claimed_ms),
        ("model", run.claimed_ms, run.generated_ms),
        ("store", run.generated_ms, run.stored_ms),
        ("[bold]total[/]", run.newest_ms, run.stored_ms),
    )
    return "\n".join(f"{name} {(end - start) / 1000:.2f}" for name, start, end in parts)


def _keep(console: Console, bootstrap: str, store_url: str) -> None:
    console.print(
        f"kept running: broker [bold]{bootstrap}[/], store [bold]{store_url}[/]\n"
        f"try: aigq status --store {store_url}   aigq explain USER --store {store_url}\nCtrl-C ends it."
    )
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        return
