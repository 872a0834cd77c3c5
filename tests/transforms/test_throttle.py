"""The throttle of operators' commands, by a clock of the test's own."""

from transforms.throttle import RAMP_S, Throttle


def taken(throttle: Throttle, begin: float, seconds: float, step: float = 0.05) -> int:
    """As many as go within these seconds."""
    total = 0
    for number in range(int(seconds / step)):
        count = throttle.allowed(begin + number * step)
        throttle.took(count)
        total += count
    return total


def test_it_starts_with_a_tenth_and_rises():
    throttle = Throttle(100.0)
    seconds = [taken(throttle, second, 1) for second in range(40)]
    assert 9 <= seconds[0] <= 14
    assert sorted(seconds[:30]) == seconds[:30]
    assert all(99 <= each <= 101 for each in seconds[31:])


def test_what_was_not_taken_is_no_burst():
    throttle = Throttle(100.0)
    taken(throttle, 0, RAMP_S + 1)
    assert throttle.allowed(RAMP_S + 3) <= 100


def test_after_a_pause_it_starts_small_again():
    throttle = Throttle(100.0)
    taken(throttle, 0, RAMP_S + 1)
    assert taken(throttle, 1_000, 1) <= 14


def test_less_than_one_a_second_still_goes():
    assert 4 <= taken(Throttle(0.5), 0, 30) <= 15
