"""A real retailer's log through the whole job: imported, produced to a real broker with its own times, tracked, generated.

    python -m bench.real_log --data FOLDER        # search_clicks.csv.gz, products.csv.gz, categories.json.gz

The model is the shipped one, trained on simulated shoppers: what it writes for this shop says that the job works on real
input, and nothing about how good lists are. Writes docs/results/real-log.json and real-log.md.
"""

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.result import ROOT, machine, revision
from bench.servers import servers
from interest import behaviours_of, decode
from local import process
from local.topics import create_topics
from schemas import BehaviourEvent
from simulation.real_log import import_log, produce
from store.client import ShopperStore

FOLDER = ROOT / "docs" / "results"
NAMESPACE = "real-log"


@dataclass(frozen=True)
class ShownList:
    """One real row: what a shopper did last, and what the model wrote."""

    behaviours: tuple[str, ...]
    reasons: tuple[str, ...]
    queries: tuple[str, ...]


@dataclass(frozen=True)
class RealLog:
    date: str
    command: str
    git: str
    machine: dict[str, Any]
    imported: dict[str, int]
    events: int
    shoppers: int
    changes: int
    outcomes: dict[str, int]
    dead_letters: dict[str, int]
    valid_share: float
    """Lists among the outputs of the model."""
    import_s: float
    job_s: float
    """Of the job, from its start to its end, loading the model included."""
    lists_per_s: float
    output_tokens: int
    prompt_tokens: int
    prefix_hit_tokens: int
    shown: tuple[ShownList, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=None, help="only the first rows of the log; no files are written")
    options = parser.parse_args()
    found = measure(options.data, options.rows)
    if options.rows:
        print(json.dumps(asdict(found), indent=1))
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "real-log.json").write_text(json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n")
    (FOLDER / "real-log.md").write_text(report(found))
    print(report(found))


def measure(data: Path, rows: int | None) -> RealLog:
    began = time.monotonic()
    log = import_log(data / "search_clicks.csv.gz", data / "products.csv.gz", data / "categories.json.gz", rows)
    with servers() as at:
        create_topics(at.kafka.bootstrap)
        produce(log.events, {"bootstrap.servers": at.kafka.bootstrap}, "behaviour")
        import_s = time.monotonic() - began
        summary_at = at.folder / "summary.json"
        began = time.monotonic()
        job = process.start(
            "job",
            process.python(
                "pipelines.nearline",
                *(f"--bootstrap={at.kafka.bootstrap}", f"--store={at.valkey.url}", f"--namespace={NAMESPACE}"),
                *("--log_clock=ingest_ms", "--end=now", "--max_age_s=0", "--catch_up_s=0"),
                *(f"--models={ROOT / 'models'}", f"--summary={summary_at}"),
            ),
            at.folder / "job.log",
        )
        try:
            if job.wait() != 0:
                raise RuntimeError(f"the job failed; the end of its log:\n{job.log_tail()}")
        finally:
            job.kill()
        job_s = time.monotonic() - began
        summary = json.loads(summary_at.read_text())["summary"]
        store = ShopperStore(at.valkey.url, NAMESPACE)
        return collect(log.events, asdict(log.counts), summary, store, import_s, job_s)


def collect(
    events: tuple[BehaviourEvent, ...],
    imported: dict[str, int],
    summary: dict[str, Any],
    store: ShopperStore,
    import_s: float,
    job_s: float,
) -> RealLog:
    outcomes = store.counts()
    lists, malformed = outcomes["published"], outcomes["malformed"]
    users = sorted({event.user for event in events})
    random.Random(1).shuffle(users)
    return RealLog(
        datetime.now(UTC).isoformat(timespec="seconds"),
        "python -m bench.real_log --data FOLDER",
        revision(),
        machine(),
        imported,
        len(events),
        len(users),
        store.fired(),
        outcomes,
        summary["dead_letters"],
        round(lists / max(1, lists + malformed), 6),
        round(import_s, 1),
        round(job_s, 1),
        round(lists / job_s, 1),
        summary["output_tokens"],
        summary["prompt_tokens"],
        summary["prefix_hit_tokens"],
        tuple(shown for user in users[:400] if (shown := _shown(store, user)))[:10],
    )


def _shown(store: ShopperStore, user: str) -> ShownList | None:
    stored, runs = store.state(user), store.runs(user)
    if not stored or not runs:
        return None
    behaviours = tuple(f"{b.kind} {b.text}" for b in behaviours_of(decode(stored.blob)))[-4:]
    return ShownList(behaviours, runs[0].reasons, runs[0].queries)


def report(found: RealLog) -> str:
    rows = [
        f"| {'<br>'.join(each.behaviours)} | {'<br>'.join(each.reasons)} | {'; '.join(each.queries)} |"
        for each in found.shown
    ]
    outcomes = ", ".join(f"{name} {count:,}" for name, count in found.outcomes.items() if count)
    letters = ", ".join(f"{name} {count:,}" for name, count in found.dead_letters.items()) or "none"
    imported = ", ".join(
        f"{name.replace('_', ' ')} {count:,}" for name, count in found.imported.items() if not name.endswith("_ms")
    )
    return "\n".join(
        [
            "# A real retailer's log through the job",
            "",
            "34,891 searches that led to a click, August to October 2011, produced to a real Kafka broker with their own times and",
            "processed by the nearline job (`--log_clock=ingest_ms`). The shipped model was trained on simulated shoppers and",
            "knows nothing of this shop: the figures show the job on real input, not the quality of its lists.",
            "",
            "| | |",
            "|---|---|",
            f"| events, shoppers | {found.events:,}, {found.shoppers:,} |",
            f"| imported | {imported} |",
            f"| changes of interest (requests) | {found.changes:,} |",
            f"| ended | {outcomes} |",
            f"| dead letters | {letters} |",
            f"| valid lists among the model's outputs | {found.valid_share:.3%} |",
            f"| import and produce; job, loading the model included | {found.import_s:,.0f} s; {found.job_s:,.0f} s |",
            f"| throughput | {found.lists_per_s:,.1f} lists/s, {found.output_tokens / found.job_s:,.0f} generated tokens/s |",
            f"| tokens | {found.prompt_tokens:,} read ({found.prefix_hit_tokens:,} from the prefix cache), {found.output_tokens:,} written |",
            f"| date, machine, revision | {found.date}, {found.machine['cpu']} x {found.machine['cores']}, {found.git} |",
            f"| command | `{found.command}` |",
            "",
            "A shopper of this log mostly has one row, so one search and one click a moment later: one change, one list. A change that",
            "replaced a waiting one is conflated: the log of 80 days passes in minutes, faster than the model writes.",
            "The last changes of the log stay forming: no later record moves the log clock past their due time.",
            "",
            "## Ten real rows",
            "| newest behaviours | why | the model's list |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
