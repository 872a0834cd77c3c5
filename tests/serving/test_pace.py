"""When a backlog is gone, said from two looks at it."""

import pytest

from serving.pace import log_words, pace, queue_words, span


def test_the_time_left_is_the_backlog_over_what_is_gained():
    assert pace(12_300, 4_100, 50).left_s == pytest.approx(12_300 / 4_050, abs=0.1)
    assert pace(0, 0, 0).left_s == 0
    assert pace(100, 50, 50).left_s is None
    assert pace(100, 40, 50).left_s is None


def test_the_log_in_words():
    assert (
        log_words(pace(738_000, 4_150, 50))
        == "level in about 3 min (738,000 records behind, 4,150/s read, 50/s arrive)"
    )
    assert log_words(pace(300, 40, 55)) == "falls further behind (300 records behind, 40/s read, 55/s arrive)"
    assert log_words(pace(300, 0, 55)) == "stands still (300 records behind, 0/s read, 55/s arrive)"
    assert log_words(pace(0, 50, 50)) == "level with the log"


def test_the_queue_in_words():
    assert queue_words(pace(310, 8.25, 0.5)) == "the queue is empty in about 40 s (310 requests, 8.2/s end, 0.5/s come)"
    assert queue_words(pace(310, 1, 2)) == "the queue grows (310 requests, 1.0/s end, 2.0/s come)"
    assert queue_words(pace(310, 0, 2)) == "the queue stands still (310 requests, 0/s end, 2.0/s come)"
    assert queue_words(pace(0, 3, 3)) == "the queue is empty"


@pytest.mark.parametrize(
    ("seconds", "said"), [(7.6, "8 s"), (119, "119 s"), (2_400, "40 min"), (10_800, "3 h"), (864_000, "10 days")]
)
def test_spans_are_said_as_people_say_them(seconds: float, said: str):
    assert span(seconds) == said
