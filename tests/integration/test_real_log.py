"""The importer's records on a real broker: one shopper in one partition, in order, with the time of writing as Kafka's."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from kafka.partitioner.default import murmur2

from local import process
from local.kafka import Kafka
from pipelines.import_log import produce
from schemas import BehaviourEvent
from schemas.codec import decoder_for
from tests.integration.reading import records_in
from tests.schemas.test_search_log import files

PARTITIONS = 4
IN_2011 = 1_313_035_144_270


def test_imported_events_lie_where_kafkas_own_partitioner_puts_them(
    kafka: Kafka, fresh_topic: Callable[..., str]
) -> None:
    topic, before = fresh_topic(kafka.bootstrap, partitions=PARTITIONS), time.time() * 1000
    times = [IN_2011 + number for number in range(200)]
    events = [BehaviourEvent(f"e{t}", f"u{t % 23}", "search", t, query=f"tv {t}", ingest_ms=t) for t in times]
    assert produce(events, {"bootstrap.servers": kafka.bootstrap}, topic) == 200

    read: dict[str, list[BehaviourEvent]] = {}
    for message in records_in(kafka.bootstrap, topic, 200):
        key, value = message.key(), message.value()
        assert key is not None
        assert message.partition() == (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
        assert message.timestamp()[1] >= before - 60_000, "an event time of 2011 would let retention delete the topic"
        (event,) = decoder_for().decode([value])
        assert isinstance(event, BehaviourEvent)
        assert key.decode() == event.user
        read.setdefault(event.user, []).append(event)
    assert read == {user: [event for event in events if event.user == user] for user in read}


def test_aigq_import_log_writes_what_it_says(kafka: Kafka, fresh_topic: Callable[..., str], tmp_path: Path) -> None:
    topic = fresh_topic(kafka.bootstrap)
    searches, products, categories = files(tmp_path)
    words = [str(searches), f"--products={products}", f"--categories={categories}", f"--topic={topic}"]
    command = process.python("cli", "import-log", f"--bootstrap={kafka.bootstrap}", *words)
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (said["written"], said["rows"], said["shoppers"]) == (6, 4, 2)
    assert len(records_in(kafka.bootstrap, topic, 6)) == 6
