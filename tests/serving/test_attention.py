"""What needs attention, and the command that each line names."""

from dataclasses import replace

import pytest

from serving.attention import attention
from serving.lateness import lateness
from serving.pace import pace
from serving.status import PartitionStatus, QueueStatus, Status
from store.client import Ended, NamespaceMeta

NOW_MS = 1_800_000_000_000
DAY_S = 86_400
HEALTHY = Status(
    namespace="live",
    store="redis://store:6379",
    meta=NamespaceMeta("behaviour", "id", 2, "murmur2", 16, 1, ""),
    seen_ms=NOW_MS,
    broker_answers=True,
    partitions=(),
    queue=QueueStatus(3, 2, 0, NOW_MS - 1_000, 1.0),
    fired=0,
    outcomes={},
    last_hour=lateness([], 0),
)


def partition(number: int, age_s: float, lag: int | None) -> PartitionStatus:
    end = None if lag is None else 1_000 + lag
    return PartitionStatus(number, 1_000, int(NOW_MS - age_s * 1000), age_s, end, lag)


def ends(outcome: str, count: int) -> list[Ended]:
    return [Ended("run", "ann", outcome, NOW_MS, NOW_MS)] * count


BEHIND = replace(HEALTHY, partitions=(partition(0, 2_400, 6_000), partition(1, 0.3, 4)))


def only(status: Status, broker: str = "broker:9092") -> str:
    (line,) = attention(status, broker)
    return line


def test_a_healthy_system_needs_none():
    assert not attention(replace(HEALTHY, partitions=(partition(0, 0.2, 12), partition(1, 8, 0))), "broker:9092")


def test_a_job_that_catches_up_says_when_it_is_level():
    line = only(replace(BEHIND, log_pace=pace(6_000, 250, 50)))
    assert line.endswith("catches up by itself: level in about 30 s (6,000 records behind, 250/s read, 50/s arrive)")


def test_a_job_that_does_not_read_names_the_command_that_starts_it():
    line = only(replace(BEHIND, log_pace=pace(6_000, 0, 50)))
    assert "stands still" in line
    assert (
        "aigq run nearline --bootstrap=broker:9092 --topic=behaviour --store=redis://store:6379 --namespace=live"
        in line
    )


def test_a_job_that_has_just_died_is_noticed_by_the_second_look():
    just_now = replace(HEALTHY, partitions=(partition(0, 9, 70), partition(1, 0.3, 0)))
    assert not attention(just_now)
    assert not attention(replace(just_now, log_pace=pace(70, 500, 40)))
    assert "stands still" in only(replace(just_now, log_pace=pace(70, 0, 40)))


def test_a_job_that_falls_behind_names_more_readers():
    assert "--runner=flink --splits=N" in only(replace(BEHIND, log_pace=pace(6_000, 40, 50)))


def test_without_a_broker_it_names_the_command_that_asks_one():
    line = only(replace(BEHIND, partitions=(partition(0, 2_400, None),)), broker="")
    assert line.startswith("partition 0 is 40 min behind")
    assert "aigq status --bootstrap=BROKER --store=redis://store:6379 --namespace=live" in line


def test_a_broker_that_does_not_answer_is_said_first():
    lines = attention(replace(BEHIND, broker_answers=False, partitions=(partition(0, 2_400, None),)), "broker:9092")
    assert lines[0].startswith("the broker broker:9092 does not answer")


def test_an_imported_log_that_is_read_to_its_end_does_not_shout():
    imported = replace(
        HEALTHY,
        partitions=(partition(0, 4_000 * DAY_S, 0), partition(1, 4_001 * DAY_S, 0)),
        queue=QueueStatus(5, 0, 0, NOW_MS - 4_000 * DAY_S * 1000, 4_000.0 * DAY_S),
    )
    assert imported.other_clock
    assert not attention(imported, "broker:9092")
    assert not replace(imported, partitions=(*imported.partitions, partition(2, 0.2, 0))).other_clock


def test_requests_that_wait_long_name_the_engine_unless_they_get_fewer():
    waiting = replace(HEALTHY, partitions=(partition(0, 0.2, 0),), queue=QueueStatus(300, 0, 0, NOW_MS - 90_000, 90.0))
    assert "the queue is empty in about 30 s" in only(replace(waiting, queue_pace=pace(300, 12, 2)))
    assert "grep aigq_engine" not in only(replace(waiting, queue_pace=pace(300, 12, 2)))
    for stuck in (None, pace(300, 0, 0), pace(300, 1, 2)):
        assert "/metrics | grep aigq_engine" in only(replace(waiting, queue_pace=stuck))


@pytest.mark.parametrize(("malformed", "lines"), [(5, 0), (6, 1)])
def test_a_model_whose_outputs_are_no_lists_names_the_way_back(malformed: int, lines: int):
    hour = lateness(ends("published", 100 - malformed) + ends("malformed", malformed), 0)
    found = attention(replace(HEALTHY, partitions=(partition(0, 0.2, 0),), last_hour=hour))
    assert len(found) == lines
    assert all("aigq models rollback" in line for line in found)


def test_exhausted_requests_point_to_their_dead_letters():
    hour = lateness(ends("exhausted", 2), 0)
    line = only(replace(HEALTHY, partitions=(partition(0, 0.2, 0),), last_hour=hour))
    assert line.startswith("2 requests of the last hour failed in all attempts")
    assert "aigq dlq list --bootstrap=broker:9092" in line
    assert "--stage=generate --reason=exhausted" in line


def test_nothing_tracked_names_the_command_that_starts_a_job():
    assert "aigq run nearline" in only(HEALTHY)


def test_a_log_that_is_read_to_its_end_by_nobody_is_said():
    line = only(replace(HEALTHY, partitions=(partition(0, 99, 0), partition(1, 120, 0))))
    assert "nobody has tracked time for 99 s: if no job runs: aigq run nearline --bootstrap=broker:9092" in line
