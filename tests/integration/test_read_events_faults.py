"""What goes wrong with a log is noticed and said, on a real broker."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # pyright: ignore[reportPrivateImportUsage]

from local.kafka import Kafka
from local.kafka import kafka as start_kafka
from local.topics import create_topics
from tests.integration.reading import Reading, produce, settings_for
from transforms.log_position import PartitionsGrew, RecordsLost, TopicRecreated, WrongTimestampType
from transforms.read_plan import GRACE_MS, plan_read
from transforms.shared_log import close_logs

FreshTopic = Callable[..., str]


@pytest.fixture(autouse=True, scope="module")
def _consumers_are_closed() -> Iterator[None]:
    yield
    close_logs()


@pytest.fixture
def admin(kafka: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap})


def delete_up_to(admin: AdminClient, topic: str, offset: int) -> None:
    """As retention does."""
    for deleted in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        deleted.result(30)


def test_records_deleted_before_the_start_stop_the_job(
    kafka: Kafka, admin: AdminClient, fresh_topic: FreshTopic
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(100))
    delete_up_to(admin, topic, 40)
    settings = replace(settings_for(kafka.bootstrap, topic), start="applied")
    with pytest.raises(RecordsLost, match="deleted offsets 25 to 39"):
        plan_read(settings, lambda: {0: 25})


def test_records_deleted_before_the_start_are_skipped_in_one_visible_hole(
    kafka: Kafka, admin: AdminClient, fresh_topic: FreshTopic, caplog: pytest.LogCaptureFixture
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(100))
    delete_up_to(admin, topic, 40)
    settings = replace(settings_for(kafka.bootstrap, topic), start="applied", on_lost_records="skip")
    reading = Reading(settings, plan_read(settings, lambda: {0: 25}))
    reading.until(lambda: len(reading.numbers(0)) >= 60)
    assert reading.numbers(0) == list(range(40, 100))
    assert reading.batches[0].start_offset == 25
    assert "SKIPPED" in caplog.text


def test_records_deleted_while_running_stop_the_job(kafka: Kafka, admin: AdminClient, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(100))
    settings = settings_for(kafka.bootstrap, topic)
    reading = Reading(settings, plan_read(settings))
    delete_up_to(admin, topic, 40)
    with pytest.raises(RecordsLost, match="deleted offsets 0 to 39"):
        reading.until(lambda: False)


def test_records_deleted_while_running_are_skipped_where_told_to(
    kafka: Kafka, admin: AdminClient, fresh_topic: FreshTopic
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(100))
    settings = replace(settings_for(kafka.bootstrap, topic), on_lost_records="skip")
    reading = Reading(settings, plan_read(settings))
    delete_up_to(admin, topic, 40)
    reading.until(lambda: len(reading.numbers(0)) >= 60)
    assert reading.numbers(0) == list(range(40, 100))
    assert next(batch for batch in reading.batches if batch.next_offset > 0).start_offset == 0


def test_a_topic_with_producers_times_is_refused_with_the_command_that_helps(kafka: Kafka, admin: AdminClient) -> None:
    topic = f"producers-time-{time.time_ns()}"
    for made in admin.create_topics([NewTopic(topic, 1, 1, config={"message.timestamp.type": "CreateTime"})]).values():
        made.result(30)
    with pytest.raises(WrongTimestampType, match=r"--add-config message\.timestamp\.type=LogAppendTime"):
        plan_read(settings_for(kafka.bootstrap, topic))
    imported = replace(settings_for(kafka.bootstrap, topic), log_clock="ingest_ms")
    assert plan_read(imported).starts == {0: 0}


def test_producers_times_are_refused_at_the_first_record_where_settings_may_not_be_read(
    kafka: Kafka, admin: AdminClient
) -> None:
    topic = f"producers-time-{time.time_ns()}"
    for made in admin.create_topics([NewTopic(topic, 1, 1, config={"message.timestamp.type": "CreateTime"})]).values():
        made.result(30)
    produce(kafka.bootstrap, topic, 0, range(3))
    settings = settings_for(kafka.bootstrap, topic)
    plan = plan_read(replace(settings, log_clock="ingest_ms"))
    reading = Reading(settings, replace(plan, times_are_append=None))
    with pytest.raises(WrongTimestampType):
        reading.until(lambda: False)


def test_a_recreated_topic_stops_the_job(kafka: Kafka, admin: AdminClient, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(10))
    settings = settings_for(kafka.bootstrap, topic)
    reading = Reading(settings, plan_read(settings))
    reading.until(lambda: len(reading.numbers(0)) == 10)
    for deleted in admin.delete_topics([topic]).values():
        deleted.result(30)
    while topic in admin.list_topics(timeout=10).topics:
        time.sleep(0.1)
    create_topics(kafka.bootstrap, (topic,), partitions=1)
    produce(kafka.bootstrap, topic, 0, range(50, 55))
    with pytest.raises(TopicRecreated, match="deleted and created again"):
        reading.until(lambda: False)
    assert reading.numbers(0) == list(range(10))


def test_a_new_partition_stops_the_job(kafka: Kafka, admin: AdminClient, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=2)
    settings = settings_for(kafka.bootstrap, topic)
    reading = Reading(settings, plan_read(settings))
    for made in admin.create_partitions([NewPartitions(topic, 3)]).values():
        made.result(30)
    with pytest.raises(PartitionsGrew, match="has 3 partitions, the job began with 2"):
        reading.until(lambda: False)


def test_reading_goes_on_after_kill_9_of_the_broker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with start_kafka(tmp_path) as broker:
        create_topics(broker.bootstrap, ("behaviour",), partitions=2)
        produce(broker.bootstrap, "behaviour", 0, range(100))
        settings = settings_for(broker.bootstrap, "behaviour")
        reading = Reading(settings, plan_read(settings))
        reading.until(lambda: len(reading.numbers(0)) == 100)
        broker.kill()
        reading.until(lambda: "does not answer" in caplog.text)
        broker.start()
        produce(broker.bootstrap, "behaviour", 0, range(100, 200))
        produce(broker.bootstrap, "behaviour", 1, range(50))
        reading.until(lambda: len(reading.numbers(0)) + len(reading.numbers(1)) >= 250)
        assert reading.numbers(0) == list(range(200))
        assert reading.numbers(1) == list(range(50))
        reading.until(lambda: "is back after" in caplog.text)
        proofs = len(reading.proofs(0))
        reading.until(lambda: len(reading.proofs(0)) > proofs)
        close_logs()


def test_a_window_of_time_is_read_and_nothing_beside_it(
    kafka: Kafka, admin: AdminClient, fresh_topic: FreshTopic
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=2)
    bounds = []
    for first in (0, 100, 200):
        bounds.append(int(time.time() * 1000))
        time.sleep(0.05)
        produce(kafka.bootstrap, topic, 0, range(first, first + 100))
        time.sleep(0.05)
    settings = replace(settings_for(kafka.bootstrap, topic), start=str(bounds[1]), end=str(bounds[2]))
    plan = plan_read(settings)
    assert plan.starts == {0: 100, 1: 0}
    assert plan.ends == {0: 200, 1: 0}
    reading = Reading(settings, plan)
    reading.until(lambda: reading.reader.get_watermark() == MAX_TIMESTAMP)
    assert reading.numbers(0) == list(range(100, 200))
    last = {batch.partition: batch for batch in reading.batches}
    assert {(p, at.next_offset, at.progress_ms, at.closing) for p, at in last.items()} == {
        (0, 200, bounds[2], True),
        (1, 0, bounds[2], True),
    }
    with pytest.raises(ValueError, match="lies in the future"):
        plan_read(replace(settings, end="2999-01-01T00:00:00Z"))

    delete_up_to(admin, topic, 150)
    with pytest.raises(
        RecordsLost, match=r"partition 0: the read begins at .*, and the log is held from offset 150 only"
    ):
        plan_read(settings)
    assert plan_read(replace(settings, on_lost_records="skip")).starts == {0: 150, 1: 0}
    assert plan_read(replace(settings, start=str(bounds[2]), end="now")).starts == {0: 200, 1: 0}
    history = replace(settings, start="earliest", end="now")
    with pytest.raises(RecordsLost, match="behaviours count for 1 days"):
        plan_read(replace(history, horizon_ms=86_400_000))
    assert plan_read(replace(history, horizon_ms=1)).starts == plan_read(history).starts == {0: 150, 1: 0}


def test_markers_of_transactions_are_holes_and_an_open_transaction_is_no_proven_end(
    kafka: Kafka, fresh_topic: FreshTopic
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    for first in (0, 3):
        producer.begin_transaction()
        for number in range(first, first + 3):
            producer.produce(topic, b"%d" % number, partition=0)
        producer.commit_transaction(30)
    settings = settings_for(kafka.bootstrap, topic)
    reading = Reading(settings, plan_read(settings))
    reading.until(lambda: len(reading.proofs(0)) >= 1)
    assert reading.numbers(0) == list(range(6))
    assert reading.proofs(0)[-1].next_offset == 8  # six records, two markers

    producer.begin_transaction()
    producer.produce(topic, b"6", partition=0)
    producer.flush(30)
    heard = len(reading.batches)
    opened_ms = time.time() * 1000
    reading.until(lambda: sum(batch.progress_ms is None for batch in reading.batches[heard:]) >= 2)
    assert all(
        batch.progress_ms is None or batch.progress_ms + GRACE_MS <= opened_ms for batch in reading.batches[heard:]
    )
    producer.commit_transaction(30)
    reading.until(lambda: reading.numbers(0)[-1] == 6)

    bounded = replace(settings, end="now")
    whole = Reading(bounded, plan_read(bounded))
    whole.until(lambda: whole.reader.get_watermark() > reading.reader.get_watermark())
    assert whole.numbers(0) == list(range(7))
