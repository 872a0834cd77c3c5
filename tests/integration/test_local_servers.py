"""The servers of this machine start, answer, outlive a kill with their data, and leave nothing behind."""

from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
from apache_beam.io import WriteToText
from apache_beam.options.pipeline_options import PipelineOptions
from confluent_kafka import Producer
from kafka.admin import KafkaAdminClient
from redis import Redis

from local.prism import Prism
from local.tansu import Tansu
from local.topics import TOPICS, create_topics
from local.valkey import Valkey
from local.valkey import valkey as start_valkey
from tests.integration.reading import records_in


def test_a_record_comes_back_from_the_embedded_broker(tansu: Tansu, fresh_topic: Callable[..., str]) -> None:
    topic = fresh_topic(tansu.bootstrap, partitions=1)
    producer = Producer({"bootstrap.servers": tansu.bootstrap})
    producer.produce(topic, b"hello", key=b"shopper")
    assert producer.flush(20) == 0
    (record,) = records_in(tansu.bootstrap, topic, 1)
    assert (record.key(), record.value()) == (b"shopper", b"hello")


def test_topics_are_created_once(tansu: Tansu) -> None:
    create_topics(tansu.bootstrap)
    create_topics(tansu.bootstrap)
    admin = KafkaAdminClient(bootstrap_servers=tansu.bootstrap)
    assert set(TOPICS) <= set(admin.list_topics())
    admin.close()


def test_the_store_answers_on_its_socket_and_its_port(valkey: Valkey, namespace: str) -> None:
    with Redis.from_url(valkey.url) as local, Redis.from_url(valkey.tcp_url) as remote:
        local.set(namespace, "1")
        assert remote.get(namespace) == b"1"


def test_the_store_with_append_files_outlives_kill_9(tmp_path: Path) -> None:
    with start_valkey(tmp_path / "store", append_only=True) as server, Redis.from_url(server.url) as client:
        client.set("kept", "1")
        server.kill()
        server.start()
        assert client.get("kept") == b"1"


def test_older_append_files_bring_back_the_older_store(tmp_path: Path) -> None:
    with start_valkey(tmp_path / "store", append_only=True) as server, Redis.from_url(server.url) as client:
        client.set("state", "old")
        server.copy_append_files(tmp_path / "copy")
        client.set("state", "new")
        server.kill()
        server.restore_append_files(tmp_path / "copy")
        server.start()
        assert client.get("state") == b"old"


def test_a_pipeline_runs_on_prism(prism: Prism, tmp_path: Path) -> None:
    with beam.Pipeline(options=PipelineOptions(prism.options)) as pipeline:
        lines = pipeline | beam.Create(["a", "b"]) | beam.Map(str.upper)
        _ = lines | WriteToText(str(tmp_path / "out"), num_shards=1)
    assert sorted(next(tmp_path.glob("out*")).read_text().split()) == ["A", "B"]
