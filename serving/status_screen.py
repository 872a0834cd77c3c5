"""`aigq status`: how the job is doing, in one screen, and what needs attention."""

import time
from dataclasses import dataclass

import msgspec
from rich.console import Console
from rich.table import Table

from serving.attention import attention
from serving.lateness import lateness_words
from serving.pace import log_words, queue_words, span
from serving.status import AskEnds, Status, read_status
from store.client import ShopperStore


@dataclass(frozen=True)
class Report:
    """What `--json` prints."""

    status: Status
    attention: list[str]


def show_status(
    store: ShopperStore, ends: AskEnds, broker: str = "", watch_s: float = 2.0, as_json: bool = False
) -> int:
    """Prints the screen; returns 1 where something needs attention, else 0.

    It looks a second time, `watch_s` later, where a broker was named or the first look found something.
    """
    status = read_status(store, ends, watch_s if broker else 0.0)
    if status and watch_s and not broker and attention(status):
        status = read_status(store, ends, watch_s)
    if status is None:
        Console(stderr=True).print(f"no job has opened namespace {store.namespace!r} of this store", style="red")
        return 1
    found = attention(status, broker)
    if as_json:
        print(msgspec.json.encode(Report(status, found)).decode())
    else:
        _print(Console(), status, found)
    return 1 if found else 0


def _print(console: Console, status: Status, found: list[str]) -> None:
    meta = status.meta
    console.print(
        f"namespace [bold]{status.namespace}[/]: topic {meta.topic}, {meta.partitions} partitions ({meta.partitioner}), "
        f"{meta.shards} shards, fold {meta.fold_version}, trigger policy {meta.policy_digest}"
    )
    table = Table("partition", "applied up to", "behind (records)", "log clock", "its age")
    for each in status.partitions:
        clock = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(each.clock_ms / 1000)) if each.clock_ms else "-"
        lag = "-" if each.lag is None else f"{each.lag:,}"
        age = span(each.age_s) if each.age_s >= 10 else f"{each.age_s:.1f} s"
        table.add_row(str(each.partition), f"{each.next_offset:,}", lag, clock, age if each.clock_ms else "-")
    console.print(table)
    if status.other_clock:
        console.print(
            "the log is read to its end, and its log clock is not the wall clock: an imported log, or no job runs"
        )
    elif status.log_pace:
        console.print(f"log: {log_words(status.log_pace)}")
    queue = status.queue
    age = f", the oldest due {span(queue.oldest_age_s)} ago" if queue.oldest_as_of_ms and not status.other_clock else ""
    low = f"; {queue.low:,} of low priority" if queue.low else ""
    moves = f"; {queue_words(status.queue_pace)}" if status.queue_pace else ""
    console.print(
        f"requests: {status.fired:,} fired; {queue.waiting:,} wait{age}{low}; {queue.leased:,} at the model{moves}"
    )
    console.print("ended: " + "  ".join(f"{name} {count:,}" for name, count in status.outcomes.items()))
    console.print(f"last hour: {lateness_words(status.last_hour)}")
    if status.late_records:
        console.print(
            f"late records: {status.late_records:,} came after their time; a replay decides them in it (docs/sameness.md)"
        )
    console.print(
        "\n".join(found) or "nothing needs attention", style="red" if found else "green", markup=False, soft_wrap=True
    )
