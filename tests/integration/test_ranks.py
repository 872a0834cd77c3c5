"""The ranked list "what an on-call expects of replay, backfill and redrive", a test for each rank, over the real commands.

Ranks 1 to 4 and 7 look at one shop whose log was tracked, replayed and rebuilt; broker, store and runner are real.
"""

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from inference.scripted_engine import ScriptedEngine, generated
from local.kafka import Kafka
from local.prism import Prism
from pipelines import operation
from pipelines.backfill import backfill
from pipelines.list_requests import Limits
from pipelines.operation import DONE
from store.client import ShopperStore
from tests.cli.test_previews import WRITING
from tests.integration.dlq import Dlq, SmallJob, total
from tests.integration.oracle import Record, Rule, fold_log, read_topic
from tests.integration.oracle_store import read_store
from tests.integration.ranks import BEFORE, QUIET, WITHIN, TrackedShop, tracked_shop
from tests.integration.test_backfill import (  # noqa: F401  fixtures among them
    HOUR_MS,
    mine,
    now_ms,
    settings,
    store,
    until,
    without_lists,
    worker,
)
from tests.integration.test_redrive import MENDED, dlq, in_seconds, job, mend, redriven, search  # noqa: F401
from tests.integration.typed import ROOT, as_process, typed
from transforms.redriven_records import REDRIVES_HEADER

# ruff: noqa: F811
PER_S = 100
"""Records a second of the replay: a tenth at first."""


@pytest.fixture(scope="module")
def shop(kafka: Kafka, prism: Prism, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackedShop]:
    folder = tmp_path_factory.mktemp("ranks")
    with tracked_shop(kafka.bootstrap, prism, folder.name, folder) as tracked:
        yield tracked


@dataclass(frozen=True)
class Replayed:
    """Into the namespace `shadow`."""

    plan: dict[str, dict[str, int]]
    reached: list[tuple[float, int]]
    """Seconds, and how many records the shadow had applied by then."""


@pytest.fixture(scope="module")
def replayed(shop: TrackedShop) -> Replayed:
    words = ("replay", *shop.of_window, "--into=shadow", "--no_lists", f"--records_per_s={PER_S}", "--execute")
    with watching(ShopperStore(shop.server.url, "shadow")) as reached:
        id = typed(*words, *shop.options).split()[-1]
    record = json.loads(typed("runs", "show", id, "--json", shop.in_store[0]))
    return Replayed(json.loads(record["checkpoint"])["plan"], reached)


@contextmanager
def watching(shadow: ShopperStore) -> Iterator[list[tuple[float, int]]]:
    reached: list[tuple[float, int]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            reached.append((time.monotonic(), sum(applied(shadow).values()) if shadow.pinned() else 0))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield reached
    finally:
        over.set()
        thread.join()


def applied(store: ShopperStore) -> dict[int, int]:
    least: dict[int, int] = {}
    for (_, partition), at in store.progress().items():
        least[partition] = min(least.get(partition, at.next_offset), at.next_offset)
    return least


@pytest.fixture(scope="module")
def rebuilt(shop: TrackedShop, replayed: Replayed) -> str:
    """The namespace that the shop's name stands for since; after everything that looks at the one before."""
    typed("rebuild", "--execute", *shop.options)
    return ShopperStore(shop.server.url, shop.name).namespace


PREVIEWS: dict[tuple[str, ...], Callable[[TrackedShop], list[str]]] = {
    ("replay",): lambda shop: [*shop.of_window, "--into=another", *shop.options],
    ("replay", "--regenerate"): lambda shop: [*shop.of_window, *shop.in_store],
    ("rebuild",): lambda shop: shop.options,
    ("rebuild", "--users=README.md"): lambda shop: shop.options,
    ("adopt",): lambda shop: ["--shards=5", *shop.options],
    ("promote",): lambda shop: ["shadow", *shop.options],
    ("drop",): lambda shop: ["shadow", shop.in_store[0]],
    ("backfill",): lambda shop: [*shop.of_window, *shop.in_store],
    ("dlq", "redrive"): lambda shop: shop.letters,
    ("dlq", "discard"): lambda shop: shop.letters,
    ("archive", "prune"): lambda shop: [f"--archive={shop.folder}", "--keep-days=0"],
}


@pytest.mark.parametrize("command", PREVIEWS, ids=" ".join)
def test_rank_01_preview_is_the_default_and_changes_no_key_no_topic_no_group_and_no_file(
    shop: TrackedShop, replayed: Replayed, command: tuple[str, ...]
):
    before = shop.traces()
    typed(*command, *PREVIEWS[command](shop))
    assert shop.traces() == before


def test_rank_01_every_command_that_previews_is_tried():
    assert {tuple(word for word in command if not word.startswith("--")) for command in PREVIEWS} == set(WRITING)


@pytest.mark.parametrize(
    "command", [("replay", "--into=another"), ("replay", "--regenerate"), ("backfill",), ("dlq", "list")], ids=" ".join
)
def test_rank_02_a_window_without_a_zone_is_refused(shop: TrackedShop, command: tuple[str, ...]):
    where = shop.letters if command[0] == "dlq" else shop.in_store
    said = typed(*command, "--from=2026-11-24T02:10:00", "--to=2026-11-24T03:05:00Z", *where, exits=2)
    assert "zone" in said


def test_rank_02_a_window_is_read_from_its_begin_to_its_end_and_an_empty_partition_reads_nothing(shop, replayed):
    inside: dict[int, list[int]] = {}
    for record in records_of(shop):
        if shop.window.holds(record.ingest_ms):
            inside.setdefault(record.partition, []).append(record.offset)
    assert sum(map(len, inside.values())) == WITHIN
    begins, ends = replayed.plan["window_from"], replayed.plan["window_to"]
    assert {p: list(range(begins[str(p)], ends[str(p)])) for p in inside} == inside
    assert begins[str(QUIET)] == ends[str(QUIET)] == 0
    assert applied(ShopperStore(shop.server.url, "shadow")) == {int(p): end for p, end in ends.items()}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (lambda shop: ["replay", *shop.of_window, f"--into={shop.name}", *shop.options], "another namespace"),
        (lambda shop: ["drop", shop.name, shop.in_store[0]], "opened by a job"),
    ],
    ids=["replay", "drop"],
)
def test_rank_03_what_would_collide_with_the_live_namespace_is_refused(shop: TrackedShop, command, said: str):
    before = shop.traces()
    assert said in typed(*command(shop), "--execute", exits=3)
    assert shop.traces() == before


def test_rank_03_replay_and_rebuild_leave_the_jobs_group_where_it_was(shop, replayed, rebuilt):
    ends: dict[int, int] = {QUIET: 0}
    for record in records_of(shop, dead_too=True):
        ends[record.partition] = max(ends.get(record.partition, 0), record.offset + 1)
    assert shop.committed() == ends, "as the job had told it before"


def test_rank_04_the_state_is_as_of_the_window_when_its_offsets_are(shop: TrackedShop, replayed: Replayed):
    records = [record for record in records_of(shop) if record.ingest_ms < shop.window.to_ms]
    assert len(records) == BEFORE + WITHIN
    assert kept_in(shop, "shadow") == kept_of(records)


def test_rank_04_a_rebuild_makes_state_and_offsets_anew(shop: TrackedShop, replayed: Replayed, rebuilt: str):
    assert rebuilt != shop.name
    assert kept_in(shop, rebuilt) == kept_of(records_of(shop))
    assert applied(shop.store) == shop.committed()


def records_of(shop: TrackedShop, dead_too: bool = False) -> list[Record]:
    records = read_topic(shop.bootstrap, shop.name)
    return [record for record in records if dead_too or record.value.endswith(b"}")]


def kept_in(shop: TrackedShop, namespace: str) -> dict[str, tuple]:
    return {user: shopper.kept for user, shopper in read_store(shop.server.url, namespace).shoppers.items()}


def kept_of(records: list[Record]) -> dict[str, tuple]:
    return {user: tuple(shopper.kept) for user, shopper in fold_log(records, Rule("any")).items()}


def test_rank_05_the_checkpoint_moves_after_the_work_alone(store: ShopperStore, now_ms: int, worker, monkeypatch):
    """Killed anywhere and given again a backfill asks once, and counts exactly."""
    users = [f"u{n}" for n in range(600)]
    without_lists(store, users, now_ms - HOUR_MS, now_ms)
    prompted: list[str] = []
    order = itertools.count(1)

    def script(run_id: str, prompt: str):
        prompted.append(run_id)
        return generated("no list") if next(order) % 7 == 0 else generated()

    worker(ScriptedEngine(script))
    want = ShopperStore.want
    monkeypatch.setattr(operation, "SAVE_S", 0.0)  # the checkpoint is as fresh as can be: also within a batch

    class Killed(BaseException):
        pass

    for after in (0, 2, 7):
        calls = itertools.count()

        def dies(self, stage, wanted, low, calls=calls, after=after):
            answers = want(self, stage, wanted, low)
            if next(calls) == after:
                raise Killed  # the store has it, and the command will never know
            return answers

        monkeypatch.setattr(ShopperStore, "want", dies)
        with pytest.raises(Killed):
            backfill(settings(store, limits=Limits(1_000.0, 40)), execute=True)
    monkeypatch.setattr(ShopperStore, "want", want)
    assert backfill(settings(store), execute=True) == DONE
    ((_, progress),) = mine(store)
    assert len(prompted) == len(set(prompted)) == 600
    failed = 600 // 7
    assert progress.counts == {"requested": 600, "ended published": 600 - failed, "ended malformed": failed}
    assert sum(bool(store.runs(user)) for user in users) == 600 - failed


def test_rank_05_a_replay_that_is_told_to_end_or_paused_says_so_and_goes_on(shop: TrackedShop):
    words = ("replay", *shop.of_window, "--into=resumed", "--no_lists", "--execute", *shop.options)
    stops = ((lambda child, id: child.terminate(), 1, "interrupted"), (pause(shop), 4, "stopped"))
    for stop, exits, status in stops:
        child = subprocess.Popen(as_process(*words, "--records_per_s=20"), cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: any(each["left_s"] for each in replays(shop)))  # it reads, in this try
            stop(child, replays(shop)[0]["id"])
            _, complaint = child.communicate(timeout=60)
        finally:
            child.kill()
        assert child.returncode == exits, complaint
        assert "the same command goes on" in complaint
        (record,) = replays(shop)
        assert record["status"] == status
        typed("runs", "show", record["id"], shop.in_store[0], exits=exits)
    typed(*words)
    (done,) = replays(shop)
    assert (done["id"], done["status"]) == (record["id"], "done")
    assert kept_in(shop, "resumed") == kept_of([r for r in records_of(shop) if r.ingest_ms < shop.window.to_ms])


def replays(shop: TrackedShop) -> list[dict]:
    """Those into `resumed`."""
    listed = map(json.loads, typed("runs", "list", "--json", shop.in_store[0]).splitlines())
    return [each for each in listed if each["asked"].get("into") == "resumed"]


def pause(shop: TrackedShop) -> Callable[[subprocess.Popen[str], str], object]:
    return lambda child, id: typed("runs", "pause", id, shop.in_store[0])


@pytest.mark.parametrize(
    ("redo", "users"),
    [
        ((), {"missing"}),
        (("--failed",), {"failed"}),
        (("--all",), {"missing", "failed", "listed"}),
    ],
    ids=["none", "failed", "all"],
)
def test_rank_06_what_is_done_again_is_chosen(store: ShopperStore, now_ms: int, worker, redo, users: set[str]):
    without_lists(store, ["failed", "listed"], now_ms - HOUR_MS, now_ms)
    fails = iter([generated("no list")])
    worker(ScriptedEngine(lambda run_id, prompt: next(fails, generated())))
    for user in ("failed", "listed"):
        assert backfill(settings(store, users=(user,)), execute=True) == DONE
    without_lists(store, ["missing"], now_ms - HOUR_MS, now_ms + 1)
    window = (f"--from={now_ms - 2 * HOUR_MS}", f"--to={now_ms + 1}")
    typed("backfill", *window, *redo, "--execute", f"--store={store.calls.url}", f"--namespace={store.name}")
    (begun, progress), *_ = mine(store)
    runs = {
        user: [run for run in store.runs(user) if run.origin == begun.id] for user in ("missing", "failed", "listed")
    }
    assert {user for user, own in runs.items() if own} == users
    assert progress.counts["requested"] == len(users)


def test_rank_07_a_replay_reads_as_fast_as_it_may_and_starts_with_a_tenth(replayed: Replayed):
    begun = max(at for at, records in replayed.reached if records == BEFORE)
    ended = min(at for at, records in replayed.reached if records == BEFORE + WITHIN)
    assert ended - begun > 2.5, f"{WITHIN} records in {ended - begun:.1f} s; unbounded they come at once"


def test_rank_07_a_backfill_asks_as_fast_as_it_may_and_starts_with_a_tenth(store: ShopperStore, now_ms: int):
    without_lists(store, [f"u{n}" for n in range(300)], now_ms - HOUR_MS, now_ms)
    with backfilling(store, now_ms, "--per_second=40") as child:
        until(lambda: store.depth().low > 0)
        began, seen = time.monotonic(), store.depth().low
        time.sleep(1.5)
        asked = store.depth().low - seen
        took = time.monotonic() - began
        assert 0 < asked < 0.5 * 40 * took, "a tenth at first, all of it after half a minute"
        cancel(store, child)


def test_rank_08_a_cancel_lists_what_was_done_and_the_rest_can_be_asked_for_again(store, now_ms: int, worker):
    users = [f"u{n}" for n in range(300)]
    without_lists(store, users, now_ms - HOUR_MS, now_ms)
    with backfilling(store, now_ms, "--most_waiting=50", "--per_second=5000") as child:
        until(lambda: store.depth().low == 50)
        cancel(store, child)
    assert store.depth().low == 0
    ((_, progress),) = mine(store)
    assert progress.counts == {"requested": 50, "ended cancelled": 50}
    worker()
    with backfilling(store, now_ms, "--most_waiting=50", "--per_second=5000") as again:
        said, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "requested 300, ended published 300" in said
    assert all(store.runs(user) for user in users)


def test_rank_09_a_list_names_the_operation_that_asked_for_it(store: ShopperStore, now_ms: int, worker):
    users = [f"u{n}" for n in range(100)]
    without_lists(store, users, now_ms - HOUR_MS, now_ms)
    worker()
    assert backfill(settings(store), execute=True) == DONE
    assert all(len(store.runs(user)) == 1 for user in users)
    (begun, progress), *_ = mine(store)
    assert progress.status == "done"
    assert (progress.done, progress.of) == (100, 100)
    assert progress.counts == {"requested": 100, "ended published": 100}
    assert {store.runs(user)[0].origin for user in users} == {begun.id}
    assert backfill(settings(store), execute=True) == DONE
    (_, progress), *_ = mine(store)
    assert progress.counts == {"listed": 100}


def test_rank_09_a_redriven_record_says_of_what_and_how_often_and_what_comes_back_is_quarantined(
    dlq: Dlq, job: SmallJob
) -> None:
    job.produce(in_seconds(search("u1", "e1")), "u1")
    job.take()
    (id,) = dlq.statuses()
    with job.taking():
        said = dlq.redrive(status=1)
    assert total(said["expected"]) == {"dead bad_time": 1}
    assert (said["taken"], said["came_back"]) == (True, {"bad_time": 1})
    assert dlq.statuses() == {id: "returned"}
    (sum,) = dlq.lines("list")
    assert (sum["returned"], sum["open"]) == (1, 0)
    said = dlq.redrive()
    assert (said["expected"], total(said["left"])) == ([], {"returned": 1})
    mend(job)
    assert total(dlq.redrive(*MENDED, "--again", "--wait_s=0")["expected"]) == {"folded": 1}
    job.take()
    assert job.texts("u1") == ["red shoes"]
    (shown,) = dlq.lines("show", id)
    assert (shown["status"], shown["fate"]["redrives"], len(shown["letters"])) == ("redriven", 2, 2)
    assert [headers[REDRIVES_HEADER] for _, _, headers in redriven(dlq)] == ["1", "2"]


def test_rank_10_a_running_backfill_says_how_far_it_is_and_obeys(store: ShopperStore, now_ms: int, worker):
    without_lists(store, [f"u{n}" for n in range(400)], now_ms - HOUR_MS, now_ms)
    worker()
    where = f"--store={store.calls.url}"
    with backfilling(store, now_ms, "--per_second=80") as child:
        until(lambda: bool(mine(store)) and mine(store)[0][1].done > 0)
        ((begun, _),) = mine(store)
        (line,) = [line for line in typed("runs", "list", where).splitlines() if begun.id in line]
        assert "of 400 (" in line
        assert "s to go" in line
        (listed,) = [
            each
            for each in map(json.loads, typed("runs", "list", "--json", where).splitlines())
            if each["id"] == begun.id
        ]
        assert 0 < listed["done"] < listed["of"] == 400
        assert listed["left_s"] > 0

        typed("runs", "pause", begun.id, where)
        until(lambda: mine(store)[0][1].status == "paused")
        shown = json.loads(typed("runs", "show", begun.id, "--json", where, exits=5))
        assert (shown["status"], shown["left_s"]) == ("paused", None)
        asked = mine(store)[0][1].counts["requested"]
        time.sleep(0.7)
        assert mine(store)[0][1].counts["requested"] == asked

        typed("runs", "resume", begun.id, where)
        until(lambda: mine(store)[0][1].counts["requested"] > asked)
        cancel(store, child)
    typed("runs", "show", begun.id, where, exits=4)


@contextmanager
def backfilling(store: ShopperStore, now_ms: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """As a process of its own."""
    window = (f"--from={now_ms - 2 * HOUR_MS}", f"--to={now_ms + 1}", "--execute")
    where = (f"--store={store.calls.url}", f"--namespace={store.name}")
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        as_process("backfill", *window, *where, *more), cwd=ROOT, stdout=pipe, stderr=pipe, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def cancel(store: ShopperStore, child: subprocess.Popen[str]) -> None:
    ((begun, _),) = mine(store)
    typed("runs", "cancel", begun.id, f"--store={store.calls.url}")
    said, complaint = child.communicate(timeout=60)
    assert child.returncode == 4, complaint
    assert f"{begun.id} was cancelled" in complaint
    ((_, progress),) = mine(store)
    assert progress.status == "cancelled"
    assert ", ".join(f"{name} {count:,}" for name, count in progress.counts.items()) in said
