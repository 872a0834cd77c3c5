"""What is searched of late gains, what is not loses, and in a market that does not move nothing does."""

import numpy as np

from training.log import Log
from training.recency import DAY_MS, late_gain

QUERIES = ("old", "steady", "new", "hinted")


def log_of(days: list[dict[str, int]], hinted_on_last: int = 0) -> Log:
    """Each day's searches, evenly over the day; those of "hinted" were begun by a hint."""
    time_ms, text = [], []
    for day, counts in enumerate(days):
        said = [QUERIES.index(query) for query, count in counts.items() for _ in range(count)]
        time_ms += [day * DAY_MS + i * DAY_MS // len(said) for i in range(len(said))]
        text += said
    time_ms += [time_ms[-1]] * hinted_on_last
    text += [QUERIES.index("hinted")] * hinted_on_last
    said, rows = np.array(text, dtype=np.int32), len(text)
    none = np.zeros(rows, dtype=np.int32)
    themselves = said != QUERIES.index("hinted")
    return Log(("u",), none, np.array(time_ms), none == 0, QUERIES, said, ("",), none, themselves)


def test_a_craze_gains_what_fades_loses_and_what_a_hint_began_does_not_count():
    gain = late_gain(log_of([{"old": 60, "steady": 40}] * 20 + [{"new": 60, "steady": 40}] * 4, hinted_on_last=500))
    assert set(gain) == {"old", "steady", "new"}
    assert gain["new"] > 1
    assert abs(gain["steady"]) < 0.2
    assert gain["old"] < -1


def test_shares_that_only_scatter_are_left_alone():
    random = np.random.default_rng(1)
    days = [dict(zip(QUERIES, random.multinomial(400, (0.5, 0.3, 0.2)).tolist(), strict=False)) for _ in range(28)]
    assert all(abs(gained) < 0.1 for gained in late_gain(log_of(days)).values())


def test_a_log_of_one_day_and_an_empty_one_have_nothing_to_foretell():
    one = late_gain(log_of([{"old": 3, "new": 1}]))
    assert all(abs(gained) < 1e-9 for gained in one.values())
    assert late_gain(log_of([{"old": 1}]).before(0)) == {}
