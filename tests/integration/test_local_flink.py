"""A real Flink cluster runs Beam Python pipelines, and goes on doing so after its parts were killed."""

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from local.flink import Flink


@pytest.mark.timeout(600)
def test_pipelines_run_before_and_after_task_manager_and_workers_are_killed(flink: Flink, tmp_path: Path) -> None:
    _count_letters(flink, tmp_path / "before")
    flink.kill("task-manager")
    flink.kill("workers")
    flink.start_all(("workers", "task-manager"))
    _count_letters(flink, tmp_path / "after")
    assert set(flink.jobs().values()) == {"FINISHED"}


def _count_letters(flink: Flink, out: Path) -> None:
    with beam.Pipeline(options=PipelineOptions([*flink.options, "--shutdown_sources_after_idle_ms=0"])) as pipeline:
        counts = pipeline | beam.Create(list("abab")) | beam.combiners.Count.PerElement()
        _ = counts | beam.Map(write_line, str(out))
    assert sorted(out.read_text().split()) == ["a2", "b2"]


def write_line(count: tuple[str, int], out: str) -> None:
    with open(out, "a") as file:
        file.write(f"{count[0]}{count[1]}\n")
