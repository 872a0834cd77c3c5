"""Operators' commands that are killed while a job works under load: what is typed, and what must be true afterwards.

Each play types its command through `Act.struck`, which kills it and gives it again; what it then looks at shares no code with the
job (evidence.py, tests/integration/oracle.py). The job beside it is judged after every run, whatever the command was.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from bench.faults.act import SHOPPERS, Act
from bench.faults.event_readers import in_new_schema
from bench.faults.evidence import (
    archived,
    one_after_the_other,
    operations,
    states,
    unheld,
    with_asked_for,
)
from bench.faults.load import events
from schemas import QueryRun
from schemas.wire_avro import reader
from tests.integration.oracle import Record, read_topic
from tests.integration.verdict import Verdict, judge

BROWSERS = 80
READER = "--mapper=bench.faults.event_readers:"


@dataclass(frozen=True)
class Command:
    name: str
    """Of the row."""
    does: str
    play: Callable[[Act], Callable[[], Verdict]]
    """Types the command while the load goes on. Returns what judges the run when the load has ended and the job is level."""
    job_options: tuple[str, ...] = ()
    measures_itself: bool = False
    """The play runs the command once unkilled, so that no run of its own is needed for its duration."""


def replay(act: Act) -> Callable[[], Verdict]:
    """A window into three shadows: without lists, beginning with a snapshot, and with lists; and once unkilled, to compare with."""
    archive, stage = f"--archive={act.folder / 'archive'}", act.stage
    how = {"folded": ("--no_lists",)}
    if act.thorough:
        act.type(
            "run", "archive", "--end=now", archive, "--exposure_topic=", f"--group={stage.name}-archive", *_topics(act)
        )
        act.type("archive", "snapshot", archive, *act.in_store())
        how |= {"restored": ("--no_lists", archive), "listed": ()}
    act.applied()
    from_ms = int(time.time() * 1000)
    act.burst(1_500)
    time.sleep(2)
    to_ms = int(time.time() * 1000)
    time.sleep(0.5)
    window = [f"--from={from_ms}", f"--to={to_ms}", "--execute", "--batch_records=40", *act.options()]
    whole, begun = f"{stage.name}-whole", act.operation_began("replay")
    busy_s, act.busy_s = act.busy_s, None
    act.struck("replay", *window, f"--into={whole}", "--no_lists", has_begun=begun)
    act.busy_s = busy_s or act.took_s[-1]
    shadows = {f"{stage.name}-{name}": more for name, more in how.items()}
    for shadow, more in shadows.items():
        if shadow.endswith("-listed"):
            act.busy_s *= 1.6  # lists take longer
        act.struck("replay", *window, f"--into={shadow}", *more, has_begun=begun)
    act.check_ended("replay")

    def verdict() -> Verdict:
        expected = act.expected(act.records())
        due = {each.run_id for s in expected.values() for each in s.requests if from_ms <= each.as_of_ms < to_ms}
        unsure = {user for user, shopper in expected.items() if shopper.close_calls}
        held = states(stage.store.url, whole)
        for shadow in shadows:
            found, stored = states(stage.store.url, shadow), act.stored(shadow)
            differ = [user for user in held.keys() | found.keys() if held.get(user) != found.get(user)]
            act.found(
                "lost", [f"{shadow}: {user}'s state is not that of a replay that was not killed" for user in differ]
            )
            ended = Counter(run_id for run_id, user, _ in stored.ended if user not in unsure)
            fired = ended + Counter(each.run_id for each in stored.open_requests if each.user not in unsure)
            act.found("lost", [f"{shadow}: run {run_id} did not fire" for run_id in due - fired.keys()])
            act.found("doubled", [f"{shadow}: run {run_id} has no ground" for run_id in fired.keys() - due])
            act.found("doubled", [f"{shadow}: run {run_id} fired {n} times" for run_id, n in fired.items() if n > 1])
            if shadow.endswith("-listed"):
                act.found("stuck", [f"{shadow}: run {each.run_id} has not ended" for each in stored.open_requests])
            act.found("overwritten", _unordered(shadow, stored.lists))
        return act.verdict()

    return verdict


def backfill(act: Act) -> Callable[[], Verdict]:
    """Lists for shoppers who clicked once and have none, and for those of the load."""
    stage = act.stage
    clicks = [_click(act, f"browser-{number}") for number in range(BROWSERS)]
    act.load.again(clicks)
    time.sleep(0.5)
    act.applied()
    users = [user for user, _ in clicks] + [f"shopper-{number}" for number in range(SHOPPERS // 2)]
    file = act.folder / "users.txt"
    file.write_text("\n".join(users) + "\n")
    words = ["backfill", f"--users={file}", "--execute", f"--models={stage.models}", "--per_second=250"]
    act.struck(*words, *act.in_store(), has_begun=act.operation_began("backfill"))
    act.check_ended("backfill")

    def verdict() -> Verdict:
        expected, stored = act.expected(act.records()), act.stored()
        asked = with_asked_for(expected, stored, operations(stage.store.url, "backfill", stage.name))
        if asked < BROWSERS:
            act.found("lost", [f"only {asked} requests are the backfill's"])
        act.found("lost", [f"{user} of the file has no list" for user in users if user not in stored.lists])
        runs = Counter(run.run_id for run in _results(act))
        act.found("doubled", [f"run {run_id} is {n} times in the results" for run_id, n in runs.items() if n > 1])
        return judge(expected, stored)

    return verdict


def redrive(act: Act) -> Callable[[], Verdict]:
    """Events of a new schema became dead letters; the reader is mended, and they are given again."""
    stage, made = act.stage, events(act.rng.randrange(1 << 30), SHOPPERS)
    meant = {in_new_schema(event): json.dumps(event).encode() for event in islice(made, 300 if act.thorough else 100)}
    act.load.again([(str(json.loads(event)["user"]), value) for value, event in meant.items()])
    time.sleep(0.5)
    act.applied()
    stage.jobs[-1].kill()
    stage.start_job(f"{READER}mended", "--dead_letter_ratio=1")
    act.applied()
    words = ["dlq", "redrive", "--stage=decode", f"{READER}mended", "--per_second=600", "--execute"]
    act.struck(*words, *act.kafka(), has_begun=act.operation_began("redrive"))
    act.check_ended("redrive")

    def verdict() -> Verdict:
        records = sorted(act.records(), key=lambda each: (each.partition, each.offset))
        times = Counter(each.value for each in records)
        act.found("lost", [f"a letter was not given again: {value[:40]}" for value in meant if times[value] < 2])
        return judge(act.expected(_mended(records, meant)), act.stored())

    return verdict


def rebuild(act: Act) -> Callable[[], Verdict]:
    """Everything anew into a fresh namespace, checked, and the name moved to it."""
    act.load.again([_click(act, f"browser-{number}") for number in range(500)])
    act.burst(1_500)
    act.stage.pinned = True
    act.struck("rebuild", "--execute", "--batch_records=40", *act.options(), has_begun=act.operation_began("rebuild"))
    act.check_ended("rebuild")

    def verdict() -> Verdict:
        act.check_moves(max(1, len(operations(act.stage.store.url, "rebuild", act.stage.name))))
        put_back = {run.run_id for run in _results(act)}
        return judge(act.expected(act.records()), act.stored(), put_back=put_back)

    return verdict


def archive(act: Act) -> Callable[[], Verdict]:
    """What has passed through the topics becomes files."""
    act.burst(6_000)
    root = act.folder / "archive"
    words = [
        "run",
        "archive",
        "--end=now",
        f"--archive={root}",
        "--exposure_topic=",
        f"--group={act.stage.name}-archive",
    ]
    small = ["--roll_records=100", "--batch_records=40"]
    time.sleep(0.5)
    ends = act.stage.ends()

    def has_begun(started: float) -> bool:
        return any(file.stat().st_mtime > started for file in root.rglob("p*.parquet"))

    def phase() -> str:
        reached = {p: rows[-1][0] + 1 for p, rows in archived(root / "events").items()}
        return "writing" if any(reached.get(p, 0) < end for p, end in ends.items()) else ""

    act.struck(*words, *small, *_topics(act), has_begun=has_begun, phase=phase)

    def verdict() -> Verdict:
        act.found("orphans", [f"{left} is half written" for left in root.rglob("*.writing")])
        held = archived(root / "events")
        for partition, end in ends.items():
            offsets = [offset for offset, _ in held.get(partition, [])]
            if offsets != list(range(len(offsets))):
                twice = [offset for offset, n in Counter(offsets).items() if n > 1]
                act.found("doubled" if twice else "lost", [f"partition {partition}: offsets {twice[:5] or 'missing'}"])
            if len(offsets) < end:
                act.found("lost", [f"partition {partition}: archived to {len(offsets)}, asked for {end}"])
        records = act.records()
        act.found("lost", unheld(records, held, {p: len(rows) for p, rows in held.items()}))
        lists = archived(root / "query-runs")
        results = read_topic(act.stage.broker.bootstrap, f"{act.stage.name}-lists")
        act.found("lost", unheld(results, lists, {p: len(rows) for p, rows in lists.items()}))
        if not lists.get(0):
            act.found("lost", ["no list was archived"])
        return judge(act.expected(records), act.stored())

    return verdict


def adopt(act: Act) -> Callable[[], Verdict]:
    """Sixteen shards become five, and five sixteen."""
    act.load.again([_click(act, f"browser-{number}") for number in range(20_000 if act.thorough else 2_000)])
    act.burst(300)
    time.sleep(0.5)
    act.applied()
    act.stage.pinned = True
    kinds = act.operation_began("adopt")
    for shards in (5, 16):
        act.struck("adopt", f"--shards={shards}", "--execute", *act.options(), has_begun=kinds)
    act.check_ended("adopt")

    def verdict() -> Verdict:
        act.check_moves(2)
        history = [act.stored(namespace) for namespace in act.watcher.stood_for]
        return judge(act.expected(act.records()), one_after_the_other(history))

    return verdict


COMMANDS = (
    Command("kill_replay", "replay --into", replay, measures_itself=True),
    Command("kill_backfill", "backfill --users", backfill),
    Command("kill_redrive", "dlq redrive", redrive, (f"{READER}before", "--dead_letter_ratio=1")),
    Command("kill_rebuild", "rebuild", rebuild),
    Command("kill_archive", "run archive --end=now", archive),
    Command("kill_adopt", "adopt --shards, forth and back", adopt),
)


def _topics(act: Act) -> list[str]:
    stage = act.stage
    return [f"--bootstrap={stage.broker.bootstrap}", f"--topic={stage.topic}", f"--results_topic={stage.name}-lists"]


def _click(act: Act, user: str) -> tuple[str, bytes]:
    """One is kept, and is no change yet."""
    item = {"id": f"i-{user}", "title": act.rng.choice(("gaming laptop", "oled tv", "coffee grinder")), "category": ""}
    event = {"id": f"e-{user}", "user": user, "kind": "click", "time_ms": int(time.time() * 1000), "item": item}
    return user, json.dumps(event).encode()


def _results(act: Act) -> list[QueryRun]:
    read = reader(QueryRun)
    runs = [read(each.value) for each in read_topic(act.stage.broker.bootstrap, f"{act.stage.name}-lists")]
    assert all(isinstance(run, QueryRun) for run in runs)
    return runs  # type: ignore[return-value]


def _mended(records: Iterable[Record], meant: dict[bytes, bytes]) -> list[Record]:
    """What the jobs could read: of a letter's record the first, which nobody could, is left out."""
    seen: set[bytes] = set()
    readable = []
    for record in records:
        if record.value in meant and record.value not in seen:
            seen.add(record.value)
        else:
            value = meant.get(record.value, record.value)
            readable.append(Record(record.partition, record.offset, record.ingest_ms, value))
    return readable


def _unordered(namespace: str, lists: dict[str, list[tuple[int, int, str]]]) -> list[str]:
    return [f"{namespace}: {user}'s lists are {each}" for user, each in lists.items() if each != sorted(each)[::-1]]
