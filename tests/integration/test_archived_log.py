"""Archive and broker as one log: what retention took from the broker decides the same from the files."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from interest import FOLD_VERSION, TriggerPolicy
from local.kafka import Kafka
from local.topics import create_topics
from local.valkey import Valkey
from pipelines.nearline import begin_shards
from schemas import BehaviourEvent
from schemas.codec import decoder_for, encoder_for
from simulation.crowd import Crowd
from store.client import NamespaceMeta, ShopperStore
from tests.integration.archives import archive_now, read_all
from tests.integration.reading import Reading, produce, settings_for
from tests.integration.test_read_events_faults import delete_up_to
from transforms.archive import Rolling
from transforms.dead_letter_limits import DeadLetterLimits
from transforms.decode_events import EventDecoder
from transforms.log_position import RecordsLost, TopicRecreated
from transforms.read_plan import ReadPlan, ReadSettings, plan_read
from transforms.rewinds import REWINDS
from transforms.shared_log import close_logs
from transforms.track_interest import Tracker

FreshTopic = Callable[..., str]
NO_LIMIT = DeadLetterLimits(1, 0)


class Letters:
    """Keeps none: what becomes of dead records has tests of its own."""

    def write(self, letters: Any) -> None: ...


@pytest.fixture(autouse=True, scope="module")
def _consumers_are_closed() -> Iterator[None]:
    yield
    close_logs()


def fill(bootstrap: str, topic: str, events: list[BehaviourEvent]) -> None:
    """Events and, in between, records that are none."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    encode = encoder_for(BehaviourEvent)
    for number, event in enumerate(events):
        producer.produce(topic, b"{" if number % 50 == 7 else encode(event), event.user.encode())
        producer.poll(0)
    assert producer.flush(30) == 0


def track(store: ShopperStore, settings: ReadSettings) -> Reading:
    """The track branch, without a runner."""
    reading = Reading(settings, plan_read(settings))
    plan, policy = reading.plan, TriggerPolicy()
    store.open(
        NamespaceMeta(plan.topic, plan.topic_id, plan.partitions, "murmur2", store.shards, FOLD_VERSION, policy.version)
    )
    store.begin("track")
    for partition, start in plan.starts.items():
        begin_shards(store, partition, start)
    letters: Any = Letters()
    decoder = EventDecoder(decoder_for(), letters, NO_LIMIT, settings.log_clock)
    tracker = Tracker(store, policy, letters, NO_LIMIT, REWINDS.ask)

    def ended() -> bool:
        while reading.batches:
            tracker.track(decoder.decode(reading.batches.pop(0)))
        return reading.reader.get_watermark() == MAX_TIMESTAMP

    reading.until(ended)
    return reading


def everything(store: ShopperStore, plan: ReadPlan, users: set[str]) -> Any:
    blobs = {user: state.blob for user in sorted(users) if (state := store.state(user))}
    return blobs, store.fired(), [store.applied(partition) for partition in range(plan.partitions)]


def test_states_from_archive_and_broker_are_those_from_the_whole_log(
    kafka: Kafka, valkey: Valkey, namespace: str, fresh_topic: FreshTopic, tmp_path: Path
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=2)
    events = list(Crowd(5).bursts(int(time.time() * 1000), 150, 20))[:3_000]
    users = {event.user for event in events}
    fill(kafka.bootstrap, topic, events[:2_000])
    archive_now(tmp_path, kafka.bootstrap, topic, Rolling(records=170), batch_records=90)
    fill(kafka.bootstrap, topic, events[2_000:])
    log = replace(settings_for(kafka.bootstrap, topic), end="now", batch_records=110)
    of_broker = ShopperStore(valkey.url, f"{namespace}-broker", 4)
    whole = track(of_broker, log)

    # As retention does, further than the archive's oldest files and less far than its end.
    admin, gone = AdminClient({"bootstrap.servers": kafka.bootstrap}), 600
    delete_up_to(admin, topic, gone)
    both = ShopperStore(valkey.url, f"{namespace}-both", 4)
    read = track(both, replace(log, archive=str(tmp_path)))

    assert read.plan.starts == whole.plan.starts == {0: 0, 1: 0}
    assert read.plan.held == {0: gone, 1: 0}
    states, fired, applied = everything(both, read.plan, users)
    assert (states, fired, applied) == everything(of_broker, whole.plan, users)
    assert len(states) > 100
    assert {a.next_offset for each in applied for a in each.values()} == set((whole.plan.ends or {}).values())


def test_without_a_broker_a_window_reads_what_the_broker_would_have_given(
    kafka: Kafka, fresh_topic: FreshTopic, tmp_path: Path
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=2)
    bounds = []
    for first in (0, 100, 200):
        bounds.append(int(time.time() * 1000))
        time.sleep(0.05)
        produce(kafka.bootstrap, topic, 0, range(first, first + 100))
        time.sleep(0.05)
    archive_now(tmp_path, kafka.bootstrap, topic, Rolling(records=70), end=str(int(time.time() * 1000)))
    window = replace(
        settings_for(kafka.bootstrap, topic, str(tmp_path)), start=str(bounds[1]), end=str(bounds[2]), batch_records=30
    )
    alone = read_all(replace(window, archive=""))
    offline = read_all(replace(window, kafka={"bootstrap.servers": ""}))
    both = read_all(window)
    assert alone.numbers(0) == list(range(100, 200))
    for found in (offline, both):
        assert (
            (found.plan.starts, found.plan.ends)
            == (alone.plan.starts, alone.plan.ends)
            == ({0: 100, 1: 0}, {0: 200, 1: 0})
        )
        assert found.plan.topic_id == alone.plan.topic_id
        for partition in (0, 1):
            assert [b.next_offset for b in found.batches if b.partition == partition][-1] == alone.plan.ends[partition]
        assert [pair for b in found.batches for pair in zip(b.offsets, b.ingest_ms, b.values, strict=True)] == [
            pair for b in alone.batches for pair in zip(b.offsets, b.ingest_ms, b.values, strict=True)
        ]
        assert {b.progress_ms for b in found.batches if b.closing} == {bounds[2]}


def test_times_of_an_imported_log_are_looked_up_by_its_own_clock(
    kafka: Kafka, fresh_topic: FreshTopic, tmp_path: Path
) -> None:
    topic, past = fresh_topic(kafka.bootstrap, partitions=1), 1_600_000_000_000
    encode = encoder_for(BehaviourEvent)
    values = [
        encode(BehaviourEvent(f"e{n}", "ann", "search", past, query="tv", ingest_ms=past + n * 60_000))
        for n in range(300)
    ]
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in values:
        producer.produce(topic, value)
    producer.flush(30)
    asked = {"start": str(past + 50 * 60_000), "end": str(past + 120 * 60_000 + 1)}
    settings = replace(settings_for(kafka.bootstrap, topic), log_clock="ingest_ms", **asked)
    with pytest.raises(ValueError, match="a broker finds append times only, not ingest_ms"):
        plan_read(settings)
    archive_now(tmp_path, kafka.bootstrap, topic, log_clock="ingest_ms")
    found = plan_read(replace(settings, archive=str(tmp_path)))
    assert (found.starts, found.ends, found.end_ms) == ({0: 50}, {0: 121}, int(asked["end"]))


def test_reading_goes_on_live_where_the_archive_ends(kafka: Kafka, fresh_topic: FreshTopic, tmp_path: Path) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(300))
    archive_now(tmp_path, kafka.bootstrap, topic, Rolling(records=70))
    produce(kafka.bootstrap, topic, 0, range(300, 350))
    delete_up_to(AdminClient({"bootstrap.servers": kafka.bootstrap}), topic, 300)
    settings = replace(settings_for(kafka.bootstrap, topic, str(tmp_path)), batch_records=60)
    reading = Reading(settings, plan_read(settings))
    produce(kafka.bootstrap, topic, 0, range(350, 400))
    reading.until(lambda: bool(reading.proofs(0)))
    assert reading.numbers(0) == list(range(400))
    REWINDS.ask(topic, 0, 120)
    reading.until(lambda: len(reading.numbers(0)) == 400 + 280)
    assert reading.numbers(0) == [*range(400), *range(120, 400)]


def test_what_neither_holds_is_refused(kafka: Kafka, fresh_topic: FreshTopic, tmp_path: Path) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(100))
    archive_now(tmp_path, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, 0, range(100, 200))
    delete_up_to(AdminClient({"bootstrap.servers": kafka.bootstrap}), topic, 130)
    settings = replace(settings_for(kafka.bootstrap, topic, str(tmp_path)), end="now")
    with pytest.raises(RecordsLost, match="offsets 100 to 129 are neither in the archive"):
        plan_read(settings)
    skipping = read_all(replace(settings, on_lost_records="skip"))
    assert skipping.numbers(0) == [*range(100), *range(130, 200)]
    other = fresh_topic(kafka.bootstrap, partitions=1)
    archive_now(tmp_path / "other", kafka.bootstrap, other, end=str(int(time.time() * 1000)))
    with pytest.raises(TopicRecreated, match="in the archive"):
        _with_name(tmp_path / "other", kafka, topic, other)


def _with_name(root: Path, kafka: Kafka, topic: str, other: str) -> None:
    """Reads `other` with an archive of a topic that had its name before: deleted, created again."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for deleted in admin.delete_topics([other]).values():
        deleted.result(30)
    while other in admin.list_topics(timeout=10).topics:
        time.sleep(0.1)
    create_topics(kafka.bootstrap, (other,), 1)
    plan_read(settings_for(kafka.bootstrap, other, str(root)))
