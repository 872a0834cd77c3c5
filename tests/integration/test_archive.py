"""The archive job on real brokers: every offset in exactly one file, whatever kills it; refused where files and log do not belong
together."""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from local.kafka import Kafka
from local.tansu import Tansu
from local.topics import create_topics
from pipelines.archive import ArchiveSettings, prepare
from schemas import Exposure
from schemas.codec import encoder_for
from tests.integration.archives import archive_job, archive_now, ends_of, fill, rows_of
from tests.integration.reading import produce, settings_for
from tests.integration.test_read_events_faults import delete_up_to
from transforms.archive import Rolling
from transforms.archive_layout import EVENTS, EXPOSURES, QUERY_RUNS, files_of
from transforms.log_position import ArchiveMismatch, RecordsLost, StoreLost
from transforms.read_plan import plan_read
from transforms.shared_log import close_logs

FreshTopic = Callable[..., str]


@pytest.fixture(autouse=True, scope="module")
def _consumers_are_closed() -> Iterator[None]:
    yield
    close_logs()


@pytest.mark.parametrize(("broker_name", "kills"), [("kafka", 2), ("tansu", 1)])
def test_every_offset_is_archived_once_after_any_kills(
    broker_name: str, kills: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    broker: Kafka | Tansu = request.getfixturevalue(broker_name)
    topic = f"archived-{uuid.uuid4().hex[:8]}"
    create_topics(broker.bootstrap, (topic, f"{topic}-exposure", f"{topic}-runs"), partitions=2)
    held = fill(broker.bootstrap, topic, 4_000)
    draw, ends_at_kill = random.Random(7), []
    small = ("--roll_records=150", "--batch_records=40")
    for _ in range(kills):
        had = len(files_of(str(tmp_path), EVENTS))
        child = archive_job(broker.bootstrap, topic, tmp_path, tmp_path, *small)
        while len(files_of(str(tmp_path), EVENTS)) == had and child.running:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.2)
        assert child.running, child.log_tail(40)
        child.kill()
        ends_at_kill.append(sum(ends_of(tmp_path).values()))
    left = next((tmp_path / EVENTS).rglob("p*.parquet")).with_suffix(".parquet.writing")
    left.write_bytes(b"half")
    child = archive_job(broker.bootstrap, topic, tmp_path, tmp_path, *small, "--end=now")
    assert child.wait(120) == 0, child.log_tail(40)
    child.kill()
    assert rows_of(tmp_path) == held
    assert not left.exists()
    assert 0 < ends_at_kill[0] < sum(map(len, held.values())), "it was killed before or after all work"
    assert not any((rows_of(tmp_path, EXPOSURES) | rows_of(tmp_path, QUERY_RUNS)).values())
    summary = json.loads(child.log.read_text().splitlines()[-1])["summary"]["written"]
    assert summary[EVENTS]["records"] <= sum(map(len, held.values()))


def test_exposures_are_archived_with_their_fields_and_sigterm_ends_the_job(kafka: Kafka, tmp_path: Path) -> None:
    topic = f"archived-{uuid.uuid4().hex[:8]}"
    create_topics(kafka.bootstrap, (topic, f"{topic}-exposure", f"{topic}-runs"), partitions=1)
    shown = [Exposure(f"x{n}", f"u{n}", 1_763_949_600_000 + n, ("red shoes", "socks"), (1,)) for n in range(20)]
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number, exposure in enumerate(shown):
        producer.produce(f"{topic}-exposure", encoder_for(Exposure, ("avro", "json")[number % 2])(exposure))
    producer.produce(f"{topic}-exposure", b"neither")
    producer.flush(30)
    child = archive_job(kafka.bootstrap, topic, tmp_path, tmp_path, "--roll_s=1")
    deadline = time.monotonic() + 60
    while ends_of(tmp_path, EXPOSURES) != {0: 21}:
        assert child.running, child.log_tail(40)
        assert time.monotonic() < deadline, child.log_tail(40)
        time.sleep(0.1)
    assert child.stop(30) == 0, child.log_tail(40)
    rows = [row for file in files_of(str(tmp_path), EXPOSURES) for row in pq.read_table(file.path).to_pylist()]
    assert [row["offset"] for row in rows] == list(range(21))
    assert [(row["id"], row["user"], row["hints"], row["clicked"]) for row in rows] == [
        *((each.id, each.user, list(each.hints), list(each.clicked)) for each in shown),
        (None, None, None, None),
    ]


def test_a_recreated_topic_is_not_archived_into_the_same_folder(
    kafka: Kafka, fresh_topic: FreshTopic, tmp_path: Path
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(10))
    settings = ArchiveSettings(
        kafka.bootstrap, str(tmp_path), topic=topic, exposure_topic="", results_topic="", group=""
    )
    archive_now(tmp_path, kafka.bootstrap, topic)
    assert prepare(settings)[EVENTS].starts == {0: 10}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for deleted in admin.delete_topics([topic]).values():
        deleted.result(30)
    while topic in admin.list_topics(timeout=10).topics:
        time.sleep(0.1)
    create_topics(kafka.bootstrap, (topic,), partitions=1)
    produce(kafka.bootstrap, topic, 0, range(20))
    with pytest.raises(ArchiveMismatch, match="another --archive"):
        prepare(settings)


def test_an_archive_whose_files_are_gone_is_not_begun_anew_in_silence(
    kafka: Kafka, fresh_topic: FreshTopic, tmp_path: Path
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(10))
    settings = ArchiveSettings(
        kafka.bootstrap, str(tmp_path / "empty"), topic=topic, exposure_topic="", results_topic="", group=topic
    )
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    told = ConsumerGroupTopicPartitions(topic, [TopicPartition(topic, 0, 10)])
    for answer in admin.alter_consumer_group_offsets([told]).values():
        answer.result(30)
    with pytest.raises(StoreLost, match="Check --archive"):
        prepare(settings)


def test_records_that_retention_took_before_they_were_archived_stop_it_or_are_a_visible_hole(
    kafka: Kafka, fresh_topic: FreshTopic, tmp_path: Path
) -> None:
    topic = fresh_topic(kafka.bootstrap, partitions=1)
    produce(kafka.bootstrap, topic, 0, range(100))
    archive_now(tmp_path, kafka.bootstrap, topic, Rolling(records=30))
    produce(kafka.bootstrap, topic, 0, range(100, 200))
    delete_up_to(AdminClient({"bootstrap.servers": kafka.bootstrap}), topic, 150)
    with pytest.raises(RecordsLost, match="deleted offsets 100 to 149"):
        archive_now(tmp_path, kafka.bootstrap, topic)
    archive_now(tmp_path, kafka.bootstrap, topic, on_lost_records="skip")
    assert [offset for offset, _ in rows_of(tmp_path)[0]] == [*range(100), *range(150, 200)]
    with pytest.raises(RecordsLost, match="offsets 100 to 149 are neither in the archive"):
        plan_read(settings_for(kafka.bootstrap, topic, archive=str(tmp_path)))
