"""The same source on a real Flink cluster, its partitions split over two readers."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from local.flink import Flink
from local.kafka import Kafka
from tests.integration.reading import produce, settings_for
from transforms.batches import RecordBatch
from transforms.read_events import ReadEvents
from transforms.read_plan import plan_read


class Write(beam.DoFn):
    """A line for each record: workers are processes of their own."""

    def __init__(self, out: str):
        self._out = out

    def process(self, element: RecordBatch) -> Iterable[None]:
        with open(self._out, "a") as file:
            file.writelines(f"{element.partition} {offset}\n" for offset in element.offsets)
        return ()


@pytest.mark.timeout(600)
def test_two_splits_read_every_record_once(
    kafka: Kafka, flink: Flink, fresh_topic: Callable[..., str], tmp_path: Path
) -> None:
    topic, out = fresh_topic(kafka.bootstrap, partitions=4), tmp_path / "read"
    for partition in range(4):
        produce(kafka.bootstrap, topic, partition, range(2_000))
    settings = replace(settings_for(kafka.bootstrap, topic), end="now", splits=2, batch_records=100)
    options = [*flink.options, "--streaming", "--shutdown_sources_after_idle_ms=0"]
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        _ = pipeline | ReadEvents(settings, plan_read(settings)) | beam.ParDo(Write(str(out)))
    read = Counter(tuple(map(int, line.split())) for line in out.read_text().splitlines())
    assert read == Counter((partition, offset) for partition in range(4) for offset in range(2_000))
