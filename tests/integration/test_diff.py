"""`aigq diff` over a real store: what became of every change of the window, on both sides, by one rule."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from msgspec import msgpack, structs
from typer.testing import CliRunner

from cli import app
from interest import TriggerPolicy
from local.valkey import Valkey
from pipelines.diff import diff
from pipelines.operation import Window
from pipelines.options import NearlineSettings
from pipelines.replay import shadowed
from pipelines.worker import new_store
from schemas import BehaviourEvent, Change, QueryRun
from store.client import Claim, Publication, ShardSave, ShopperStore, Wanted
from store.codec import encode_run
from tests.integration.stores import HOUR_MS, META, SHARDS, a_list, claimed, fire, open_store, published, users_of
from transforms.batches import EventBatch
from transforms.dead_letter_limits import DeadLetterLimits
from transforms.track_interest import Tracker

T0 = 1_700_000_000_000
POLICY = TriggerPolicy()
WINDOW = Window(100, 200)


@pytest.fixture
def live(valkey: Valkey, namespace: str) -> ShopperStore:
    return open_store(valkey.url, namespace)


@pytest.fixture
def shadow(valkey: Valkey, namespace: str) -> ShopperStore:
    """As a replay makes it."""
    tried = f"{namespace}-tried"
    store = new_store(shadowed(NearlineSettings(store=valkey.url, shards=SHARDS), tried, "replay-1"), tried)
    store.open(META)
    store.begin("track")
    store.begin("generate")
    return store


def test_a_shopper_of_many_lists_counts_the_same_on_both_sides(live: ShopperStore, shadow: ShopperStore):
    for store in (live, shadow):
        for number in range(7):
            published(store, "ann", f"run-{number}", 90 + 10 * number)
    found = diff(shadow, shadow, WINDOW)
    assert (found.here.generations, found.here.lists, found.here.output_tokens) == (6, 6, 6 * 60)
    found = diff(live, shadow, WINDOW)
    assert (found.here.generations, found.there.generations) == (6, 6)
    assert (found.here.lists, found.there.lists) == (3, 6)  # the live store keeps three: said, and not compared
    assert found.whys == {"same list": 1}


def test_both_sides_say_what_became_of_a_change_that_has_no_list(live: ShopperStore, shadow: ShopperStore):
    made: dict[str, Sequence[str]] = {
        "conflated": ("expect", "lag"),
        "malformed": ("bad", "worse"),
        "exhausted": ("tired", "done"),
        "expired": ("old", "older"),
    }
    for outcome, (here, there) in made.items():
        for user, without, with_list in ((here, live, shadow), (there, shadow, live)):
            published(with_list, user, f"{user}-1", 150)
            fire(without, user, f"{user}-1", 150)
            if outcome == "conflated":
                fire(without, user, f"{user}-2", 250)  # the newest change lies after the window
                assert claimed(without) == [(user, f"{user}-2", 1)]
            else:
                assert claimed(without)
                without.finish(user, f"{user}-1", outcome)  # type: ignore[arg-type]
    published(live, "ann", "ann-1", 150)
    fire(shadow, "ann", "ann-1", 150)
    found = diff(live, shadow, WINDOW)
    whys = {each.user: each.why for each in found.shoppers}
    expected = {
        user: f"{outcome} {place}"
        for outcome, pair in made.items()
        for user, place in zip(pair, ("here", "there"), strict=True)
    }
    assert whys == expected | {"ann": "waiting there"}
    once = dict.fromkeys(made, 1)
    assert found.here.ended == once | {"published": 5}
    assert found.there.ended == once | {"published": 4, "waiting": 1}
    assert found.here.changes == found.there.changes == 9


def test_a_late_event_is_the_reason_only_where_records_came_late(live: ShopperStore, shadow: ShopperStore):
    """The first shopper's second search is readable only when the live clock has passed the deadline; a replay has it in its place.
    The second one's log was corrected since."""
    ann, bob = users_of(2, 2)
    live_job, replayed = tracker(live), tracker(shadow)
    late = [event(ann, 1, T0), event(ann, 2, T0 + 2_000)]
    after = event(ann, 3, T0 + 60_000)
    track(live_job, 0, 0, late[:1])
    track(live_job, 0, 1, [], progress_ms=T0 + 10_000)
    track(live_job, 0, 1, [late[1], after])
    track(replayed, 0, 0, [*late, after])
    for job, texts in ((live_job, (1, 2)), (replayed, (1, 4))):
        track(job, 1, 0, [event(bob, text, T0 + 1_000 * text) for text in texts] + [event(bob, 3, T0 + 60_000)])
    assert live.clamped() == {(2, 0): 1}
    assert shadow.clamped() == {}
    for store in (live, shadow):
        store.publish_many([the_list(claim) for claim in store.claim(10, HOUR_MS)])

    found = diff(live, shadow, Window(T0, T0 + 30_000))
    assert {each.user: each.why for each in found.shoppers} == {ann: "late event", bob: "other behaviours"}
    assert (found.here.late_records, found.there.late_records) == ({0: 1}, {})
    said = aigq_diff(live, shadow, f"--from={T0}", f"--to={T0 + 30_000}")
    assert "1 (partition 0: 1)" in said
    assert "late event" in said


def test_a_namespace_that_never_counted_late_records_has_none_and_a_save_read_again_counts_once(live: ShopperStore):
    (ann,) = users_of(2, 1)
    job = tracker(live)
    track(job, 0, 0, [event(ann, 1, T0)])
    assert live.clamped() == {}
    track(job, 0, 1, [], progress_ms=T0 + 10_000)
    for _ in range(2):
        track(job, 0, 1, [event(ann, 2, T0 + 10), event(ann, 3, T0 + 20), event(ann, 4, T0 + 20_000)])
    track(job, 0, 3, [event(ann, 4, T0 + 20_000), event(ann, 5, T0 + 15_000)])  # earlier than another record: not late
    assert live.clamped() == {(2, 0): 2}
    behind = ShardSave(2, 0, 99, 100, T0, [], clamped=7)
    assert live.save_many([behind])[0].status == "behind"
    assert live.clamped() == {(2, 0): 2}
    assert live.progress()[2, 0].next_offset == 5


def test_what_operators_asked_for_is_left_out(live: ShopperStore, shadow: ShopperStore):
    published(live, "ann", "ann-1", 150)
    published(shadow, "ann", "ann-1", 150)
    live.begin("backfill")
    live.want("backfill", [Wanted("bob", "bob-b", 160, b"change"), Wanted("cat", "cat-b", 160, b"change")], low=True)
    assert claimed(live)
    made = a_list("bob", "bob-b", 160)
    live.publish(replace(made, blob=encode_run(structs.replace(decode_run(made.blob), origin="backfill-1"))))
    live.finish("cat", "cat-b", "malformed")
    found = diff(live, shadow, WINDOW)
    assert (found.here.changes, found.here.ended, found.here.by_operators) == (1, {"published": 1}, 1)
    assert found.whys == {"same list": 1}


def test_a_side_that_has_forgotten_how_changes_ended_says_so(valkey: Valkey, namespace: str, shadow: ShopperStore):
    forgetful = open_store(valkey.url, namespace, outcomes_kept=1)
    for number in range(120):  # the server trims its stream by blocks of a hundred
        published(forgetful, "ann", f"run-{number}", 150 + number)
    published(shadow, "ann", "run-0", 150)
    assert len(forgetful.outcomes()) < 120
    assert not diff(forgetful, shadow, WINDOW).here.whole
    assert diff(forgetful, shadow, Window(2**52, 2**53)).here.whole  # what it keeps goes back to before the window


def tracker(store: ShopperStore) -> Tracker:
    return Tracker(store, POLICY, NoLetters(), DeadLetterLimits(), lambda *where: None)  # type: ignore[arg-type]


class NoLetters:
    def write(self, letters) -> None:
        raise AssertionError(letters)


def event(user: str, number: int, ingest_ms: int) -> tuple[int, BehaviourEvent]:
    return ingest_ms, BehaviourEvent(f"{user}-{number}", user, "search", ingest_ms, query=f"word{number} tv")


def track(job: Tracker, partition: int, start: int, records, progress_ms: int | None = None) -> None:
    offsets = list(range(start, start + len(records)))
    clocks, events = [clock for clock, _ in records], [event for _, event in records]
    end = start + len(records)
    job.track(EventBatch("behaviour", META.topic_id, partition, start, offsets, clocks, events, end, progress_ms))


def the_list(claim: Claim) -> Publication:
    """What a model would write: the behaviours of the change."""
    change = msgpack.decode(claim.blob, type=Change)
    made = a_list(claim.user, claim.run_id, change.as_of_ms)
    queries = tuple(each.text for each in change.behaviours)
    run = structs.replace(
        decode_run(made.blob), queries=queries, trigger_version=change.trigger_version, newest_ms=change.newest_ms
    )
    return replace(made, blob=encode_run(run))


def decode_run(blob: bytes) -> QueryRun:
    return msgpack.decode(blob, type=QueryRun)


def aigq_diff(here: ShopperStore, there: ShopperStore, *words: str) -> str:
    environment = {"COLUMNS": "200", "AIGQ_BOOTSTRAP": ""}
    store = f"--store={here.calls.url}"
    said = CliRunner().invoke(app, ["diff", here.namespace, there.namespace, store, *words], env=environment)
    assert said.exit_code == 0, said.output
    return said.output
