"""What all commands of an operator have in common, as far as it needs no store."""

import pytest

from pipelines.operation import Window


def test_a_window_holds_its_begin_and_not_its_end_in_whatever_zone_it_is_said():
    window = Window.parse("2026-11-24T02:00:00+01:00", "2026-11-24T02:00:00Z")
    assert window.to_ms - window.from_ms == 3_600_000
    assert window.holds(window.from_ms)
    assert not window.holds(window.to_ms)
    assert str(window) == "[2026-11-24T01:00:00.000+00:00, 2026-11-24T02:00:00.000+00:00)"
    assert Window.parse(str(window.from_ms), str(window.to_ms)) == window


@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        ("2026-11-24T02:00:00", "2026-11-24T03:00:00Z", "without zone"),
        ("yesterday", "2026-11-24T03:00:00Z", "not a time"),
        ("2026-11-24T03:00:00Z", "2026-11-24T03:00:00Z", "is empty"),
        ("2026-11-24T04:00:00Z", "2026-11-24T03:00:00Z", "is empty"),
    ],
)
def test_a_window_that_means_nothing_is_refused_with_the_reason(begin, end, said):
    with pytest.raises(ValueError, match=said):
        Window.parse(begin, end)
