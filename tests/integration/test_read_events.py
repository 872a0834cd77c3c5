"""Reading a topic, on the embedded broker and on a real one. Most tests drive the reader as Beam does, without a runner."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.timestamp import MAX_TIMESTAMP

from local.kafka import Kafka
from local.prism import Prism
from local.tansu import Tansu
from local.tansu import tansu as start_tansu
from tests.integration.reading import Collect, Reading, collected, produce, settings_for
from transforms import log_watch
from transforms.kafka_clients import log_administration
from transforms.log_position import LogEndsEarly, StoreLost
from transforms.read_events import ReadEvents
from transforms.read_plan import GRACE_MS, plan_read
from transforms.rewinds import REWINDS
from transforms.shared_log import close_logs

FreshTopic = Callable[..., str]


@pytest.fixture(autouse=True, scope="module")
def _consumers_are_closed() -> Iterator[None]:
    yield
    close_logs()


@pytest.fixture(params=["tansu", "kafka"])
def broker(request: pytest.FixtureRequest) -> Tansu | Kafka:
    """Both brokers in turn."""
    return request.getfixturevalue(request.param)


def test_every_record_arrives_once_and_in_order_through_the_runner(
    broker: Tansu | Kafka, prism: Prism, fresh_topic: FreshTopic
) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=3)
    for partition in (0, 1):  # partition 2 stays empty
        produce(broker.bootstrap, topic, partition, range(5_000))
    settings = replace(settings_for(broker.bootstrap, topic), end="now", batch_records=700)
    with beam.Pipeline(options=PipelineOptions([*prism.options, "--streaming"])) as pipeline:
        _ = (
            pipeline
            | ReadEvents(settings, plan_read(settings))
            | beam.ParDo(Collect(topic))
            | beam.Filter(lambda _: False)
            | beam.Reshuffle()
            | beam.Map(lambda nothing: nothing)
        )
    batches = collected(topic)
    for partition in (0, 1):
        own = [batch for batch in batches if batch.partition == partition]
        assert [value for batch in own for value in batch.values] == [b"%d" % n for n in range(5_000)]
        assert [offset for batch in own for offset in batch.offsets] == list(range(5_000))
        assert all(after.start_offset == before.next_offset for before, after in pairwise(own))
        assert max(len(batch.values) for batch in own) == 700
    assert not [batch for batch in batches if batch.partition == 2 and batch.values]


def test_a_bounded_read_never_runs_past_its_end(broker: Tansu | Kafka, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=2)
    produce(broker.bootstrap, topic, 0, range(100))
    settings = replace(settings_for(broker.bootstrap, topic), end="now")
    reading = Reading(settings, plan_read(settings))
    produce(broker.bootstrap, topic, 0, range(100, 200))
    produce(broker.bootstrap, topic, 1, range(50))
    while reading.reader.get_watermark() < MAX_TIMESTAMP:
        reading.step()
    assert reading.numbers(0) == list(range(100))
    assert reading.numbers(1) == []
    assert {batch.partition for batch in reading.batches} == {0}


def test_a_bounded_read_ends_where_every_reader_lives_for_one_step(
    broker: Tansu | Kafka, fresh_topic: FreshTopic
) -> None:
    """As on Flink, which makes readers anew all the time."""
    topic = fresh_topic(broker.bootstrap, partitions=2)
    produce(broker.bootstrap, topic, 0, range(100))
    produce(broker.bootstrap, topic, 1, range(50))
    settings = replace(settings_for(broker.bootstrap, topic), end="now")
    reading = Reading(settings, plan_read(settings))

    def ended_by_a_new_reader() -> bool:
        if reading.reader.get_watermark() == MAX_TIMESTAMP:
            return True
        reading.reader = reading.source.create_reader(None, reading.reader.get_checkpoint_mark())
        return False

    reading.until(ended_by_a_new_reader)
    assert sorted(reading.numbers(0)) == list(range(100))
    assert sorted(reading.numbers(1)) == list(range(50))


def test_a_throttled_read_begins_small_and_comes_to_its_end(broker: Tansu | Kafka, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=1)
    produce(broker.bootstrap, topic, 0, range(100))
    settings = replace(settings_for(broker.bootstrap, topic), end="now", records_per_s=300.0)
    reading = Reading(settings, plan_read(settings))
    reading.until(lambda: bool(reading.batches))
    assert len(reading.numbers(0)) < 50
    reading.until(lambda: len(reading.numbers(0)) == 100)
    assert reading.numbers(0) == list(range(100))


def test_a_new_reader_goes_on_where_the_mark_says(broker: Tansu | Kafka, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=2)
    for partition in (0, 1):
        produce(broker.bootstrap, topic, partition, range(1_000))
    settings = replace(settings_for(broker.bootstrap, topic), batch_records=100)
    reading = Reading(settings, plan_read(settings))
    reading.until(lambda: len(reading.batches) == 3)
    coder = reading.source.get_checkpoint_mark_coder()
    mark = coder.decode(coder.encode(reading.reader.get_checkpoint_mark()))
    for _ in range(5):  # read on, as if the bundle were lost
        reading.step()
    reading.batches = reading.batches[:3]
    reading.reader = reading.source.create_reader(None, mark)
    reading.until(lambda: len(reading.numbers(0)) + len(reading.numbers(1)) >= 2_000)
    assert reading.numbers(0) == reading.numbers(1) == list(range(1_000))


def test_what_was_asked_for_again_is_read_again(broker: Tansu | Kafka, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=2)
    for partition in (0, 1):
        produce(broker.bootstrap, topic, partition, range(500))
    settings = replace(settings_for(broker.bootstrap, topic), batch_records=50)
    reading = Reading(settings, plan_read(settings))
    reading.until(lambda: len(reading.numbers(0)) >= 300 and len(reading.numbers(1)) == 500)
    seen = reading.numbers(0)
    REWINDS.ask(topic, 0, 120)
    reading.until(lambda: reading.numbers(0)[-1] == 499 and len(reading.numbers(0)) > 500)
    assert reading.numbers(0) == seen + list(range(120, 500))
    again = next(batch for batch in reading.batches[1:] if batch.partition == 0 and batch.start_offset == 120)
    assert again.offsets[0] == 120
    assert reading.numbers(1) == list(range(500))


def test_an_idle_partition_proves_its_end_while_another_delivers(
    broker: Tansu | Kafka, fresh_topic: FreshTopic
) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=2)
    produce(broker.bootstrap, topic, 0, range(40))
    began_ms = time.time() * 1000
    settings = settings_for(broker.bootstrap, topic)
    reading = Reading(settings, plan_read(settings))
    numbers: Iterator[int] = iter(range(1_000_000))

    def three_proofs() -> bool:
        produce(broker.bootstrap, topic, 1, [next(numbers)])
        return len(reading.proofs(0)) >= 3

    reading.until(three_proofs)
    proofs = reading.proofs(0)
    assert all(tick.start_offset == tick.next_offset == 40 for tick in proofs)
    times = [tick.progress_ms + GRACE_MS for tick in proofs if tick.progress_ms is not None]
    assert times == sorted(set(times))
    assert began_ms <= times[0] <= times[-1] <= time.time() * 1000


def test_progress_by_wall_clock_is_not_claimed_for_an_imported_log(
    broker: Tansu | Kafka, fresh_topic: FreshTopic
) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=1)
    produce(broker.bootstrap, topic, 0, range(10))
    settings = replace(settings_for(broker.bootstrap, topic), log_clock="ingest_ms")
    reading = Reading(settings, plan_read(settings))
    reading.until(lambda: sum(not batch.values for batch in reading.batches) >= 2)
    assert reading.proofs(0) == []


def test_a_dead_broker_is_not_an_idle_one(
    tmp_path: Path, fresh_topic: FreshTopic, caplog: pytest.LogCaptureFixture
) -> None:
    with start_tansu(tmp_path) as broker:
        topic = fresh_topic(broker.bootstrap, partitions=1)
        produce(broker.bootstrap, topic, 0, range(10))
        settings = settings_for(broker.bootstrap, topic)
        reading = Reading(settings, plan_read(settings))
        reading.until(lambda: len(reading.proofs(0)) >= 2)
        broker.child.kill()
        killed_ms = time.time() * 1000
        heard = len(reading.batches)
        reading.until(lambda: sum(batch.progress_ms is None for batch in reading.batches[heard:]) >= 3)
        assert all(
            batch.progress_ms is None or batch.progress_ms + GRACE_MS <= killed_ms for batch in reading.batches[heard:]
        )
        assert any("does not answer" in record.getMessage() for record in caplog.records)


def test_silence_is_said_with_its_cause_and_an_idle_partition_is_named(
    tansu: Tansu, fresh_topic: FreshTopic, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_watch, "SILENCE_S", 1.0)
    caplog.set_level("INFO")
    topic = fresh_topic(tansu.bootstrap, partitions=2)
    settings = settings_for(tansu.bootstrap, topic)
    reading = Reading(settings, plan_read(settings))
    reading.until(lambda: "the topic is empty" in caplog.text)
    numbers: Iterator[int] = iter(range(1_000_000))

    def partition_0_is_named() -> bool:
        produce(tansu.bootstrap, topic, 1, [next(numbers)])
        return f"partition 0 of topic {topic} is idle while others deliver" in caplog.text

    reading.until(partition_0_is_named)
    reading.until(lambda: "everything was read, the producers are silent" in caplog.text)


def test_the_group_learns_how_far_the_job_is(broker: Tansu | Kafka, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=1)
    produce(broker.bootstrap, topic, 0, range(10))
    settings = replace(settings_for(broker.bootstrap, topic), group=f"group-of-{topic}")
    reading = Reading(settings, plan_read(settings))
    reading.until(lambda: len(reading.numbers(0)) == 10)
    reading.reader.get_checkpoint_mark().finalize_checkpoint()

    def committed() -> bool:
        with log_administration(settings.kafka, topic, settings.group) as administration:
            return administration.committed(1) == {0: 10}

    reading.until(committed)
    with pytest.raises(StoreLost, match="aigq rebuild"):
        plan_read(replace(settings, start="applied"), dict)
    assert plan_read(replace(settings, start="applied"), lambda: {0: 4}).starts == {0: 4}


def test_an_applied_offset_behind_the_logs_end_is_refused(broker: Tansu | Kafka, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=1)
    produce(broker.bootstrap, topic, 0, range(10))
    settings = replace(settings_for(broker.bootstrap, topic), start="applied")
    assert plan_read(settings, lambda: {0: 10}).starts == {0: 10}
    with pytest.raises(LogEndsEarly, match="ends at offset 10, before the applied offset 11"):
        plan_read(settings, lambda: {0: 11})


def test_reading_may_begin_at_the_end(broker: Tansu | Kafka, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=1)
    produce(broker.bootstrap, topic, 0, range(10))
    settings = replace(settings_for(broker.bootstrap, topic), start="latest")
    reading = Reading(settings, plan_read(settings))
    produce(broker.bootstrap, topic, 0, range(10, 20))
    reading.until(lambda: len(reading.numbers(0)) == 10)
    assert reading.numbers(0) == list(range(10, 20))


def test_splits_share_the_partitions(broker: Tansu | Kafka, prism: Prism, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(broker.bootstrap, partitions=4)
    for partition in range(4):
        produce(broker.bootstrap, topic, partition, range(300))
    settings = replace(settings_for(broker.bootstrap, topic), end="now", splits=2)
    with beam.Pipeline(options=PipelineOptions([*prism.options, "--streaming"])) as pipeline:
        _ = pipeline | ReadEvents(settings, plan_read(settings)) | beam.ParDo(Collect(topic))
    found = sorted((batch.partition, offset) for batch in collected(topic) for offset in batch.offsets)
    assert found == [(partition, offset) for partition in range(4) for offset in range(300)]


def test_a_missing_topic_and_a_missing_broker_are_told_apart(kafka: Kafka) -> None:
    with pytest.raises(LookupError, match="no topic 'nowhere'"):
        plan_read(settings_for(kafka.bootstrap, "nowhere"))
    with pytest.raises(TimeoutError, match=r"no broker at 127\.0\.0\.1:1 answered"):
        plan_read(replace(settings_for("127.0.0.1:1", "t"), broker_wait_s=0))
