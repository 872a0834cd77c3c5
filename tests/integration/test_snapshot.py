"""Snapshots on a real store: taken while the job goes on, restored into other shards, the log read on from there: the same states."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.valkey import Valkey
from pipelines import snapshot as snapshots
from pipelines.snapshot import Snapshot, newest_usable, restore, take_snapshot
from store.client import NamespaceMeta, NamespaceMismatch, ShopperStore
from tests.integration.test_track_interest import POLICY, TOPIC_ID, batch, expected, history, states_in, tracker
from transforms import place_states
from transforms.archive_overview import prune

RECORDS = history(11, events=600, users=60)
USERS = {event.user for _, event in RECORDS}


def opened(valkey: Valkey, namespace: str, shards: int) -> ShopperStore:
    store = ShopperStore(valkey.url, namespace, shards, deadline_s=10)
    store.open(NamespaceMeta("behaviour", TOPIC_ID, 1, "murmur2", shards, 1, POLICY.version, POLICY.to_json()))
    store.begin("track")
    return store


@pytest.fixture
def live(valkey: Valkey, namespace: str) -> ShopperStore:
    """A namespace that a job has folded half of the log into."""
    store = opened(valkey, namespace, 4)
    tracker(store).track(batch(RECORDS, 0, 300))
    return store


def taken_meanwhile(store: ShopperStore, archive: Path, until: int) -> Snapshot:
    """A snapshot; after the first state of the walk, the job folds on."""
    walk = store.scan_states

    def slow_walk() -> Iterator[Any]:
        for number, found in enumerate(walk()):
            yield found
            if number == 0:
                job = tracker(store)
                job.track(batch(RECORDS, 300, 400))
                job.track(batch(RECORDS, 400, until))

    store.scan_states = slow_walk  # type: ignore[method-assign]
    return take_snapshot(store, str(archive))


@pytest.mark.parametrize("shards", [4, 7])
def test_a_restored_snapshot_read_on_is_the_fold_of_the_whole_log(
    live: ShopperStore, valkey: Valkey, tmp_path: Path, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_states, "AT_ONCE", 3)
    monkeypatch.setattr(snapshots, "STATES_A_FILE", 5)
    taken_meanwhile(live, tmp_path, 450)
    found = newest_usable(str(tmp_path), live.namespace, {0: 450}, RECORDS[-1][0])
    assert found is not None
    assert found.starts()[0].next_offset == 300
    assert {each.next_offset for each in found.until} == {450}
    fresh = opened(valkey, f"{live.namespace}-{shards}", shards)
    # A shopper who comes during the walk may be missing: all that is known of them lies behind `applied`.
    assert len({event.user for _, event in RECORDS[:300]}) <= restore(found, fresh) <= len(USERS)
    assert {at.next_offset for at in fresh.applied(0).values()} == {300}
    job = tracker(fresh)
    job.track(batch(RECORDS, 300, 500))
    job.track(batch(RECORDS, 500, 600))
    job.track(replace(batch(RECORDS, 600, 600), closing=True))
    states, _ = expected(RECORDS)
    assert states_in(fresh, USERS) == states
    whole = opened(valkey, f"{live.namespace}-whole-{shards}", shards)
    tracker(whole).track(batch(RECORDS, 0, 600))
    far = {(shard, 0): RECORDS[-1][0] + 10_000_000 for shard in range(shards)}
    assert fresh.due_many(far, 1_000) == whole.due_many(far, 1_000)


def test_a_snapshot_is_usable_only_from_the_moment_that_nothing_in_it_is_beyond(
    live: ShopperStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, clock = str(tmp_path), RECORDS[299][0]
    assert newest_usable(archive, live.namespace, {0: 10_000}, clock) is None
    first = take_snapshot(live, archive)
    monkeypatch.setattr(snapshots.time, "time", lambda: first.taken_ms / 1000 + 60)
    tracker(live).track(batch(RECORDS, 300, 400))
    second = take_snapshot(live, archive)
    assert newest_usable(archive, live.namespace, {0: 299}, clock) is None
    assert newest_usable(archive, live.namespace, {0: 300}, clock - 1) is None
    assert newest_usable(archive, live.namespace, {0: 300}, clock) == first
    assert newest_usable(archive, live.namespace, {0: 399}, RECORDS[399][0]) == first
    assert newest_usable(archive, live.namespace, {0: 400}, RECORDS[399][0]) == second
    assert newest_usable(archive, "other", {0: 400}, RECORDS[399][0]) is None
    later = int(first.taken_ms + 2 * 86_400_000)
    assert [each.kind for each in prune(archive, 1, execute=True, now_ms=later)] == ["snapshots"]
    assert newest_usable(archive, live.namespace, {0: 400}, RECORDS[399][0]) is None


def test_a_restore_that_dies_leaves_a_namespace_that_folds_right_from_the_beginning(
    live: ShopperStore, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_states, "AT_ONCE", 3)
    taken, fresh = take_snapshot(live, str(tmp_path)), opened(valkey, f"{live.namespace}-died", 4)
    whole = snapshots._states

    def dies(snapshot: Snapshot) -> Iterator[tuple[str, bytes]]:
        for number, found in enumerate(whole(snapshot)):
            if number == 40:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(snapshots, "_states", dies)
    with pytest.raises(KeyboardInterrupt):
        restore(taken, fresh)
    assert states_in(fresh, USERS), "it died before it had saved anything"
    assert {at.next_offset for at in fresh.applied(0).values()} == {0}
    with pytest.raises(NamespaceMismatch, match="not empty"):
        restore(taken, fresh)
    tracker(fresh).track(batch(RECORDS, 0, 600))
    assert states_in(fresh, USERS) == expected(RECORDS)[0]


def test_a_snapshot_of_another_log_is_refused(live: ShopperStore, valkey: Valkey, tmp_path: Path) -> None:
    taken = take_snapshot(live, str(tmp_path))
    other = ShopperStore(valkey.url, f"{live.namespace}-other", 4)
    with pytest.raises(NamespaceMismatch, match="not opened"):
        restore(taken, other)
    other.open(replace(taken.meta, topic_id="topic-2"))
    with pytest.raises(NamespaceMismatch, match="topic_id was 'topic-1', is 'topic-2'"):
        restore(taken, other)
    empty = ShopperStore(valkey.url, f"{live.namespace}-empty", 4)
    with pytest.raises(LookupError, match="start the job first"):
        take_snapshot(empty, str(tmp_path))
