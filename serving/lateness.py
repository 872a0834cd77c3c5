"""How late lists came: from the moment a change was due (its as-of) to the moment its list was stored."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from serving.pace import span
from store.client import Ended

IN_TIME_S = 5.0
LATE_S = 30.0
OTHER_CLOCK_S = 86_400.0
"""A list that is later than this is of an imported log: its as-of is another clock's."""


@dataclass(frozen=True)
class Lateness:
    """Of the requests that ended in a window of time. Seconds are None where no list came."""

    lists: int
    """Stored, and as-of and end by one clock."""
    in_time: int
    """At most `IN_TIME_S` after as-of."""
    late: int
    """More than `LATE_S`."""
    p50_s: float | None
    p95_s: float | None
    latest_s: float | None
    other_clock: int
    """Lists of an imported log or an operation: not among the above."""
    outcomes: dict[str, int]
    """What all requests of the window ended in."""


def lateness(ended: Iterable[Ended], since_ms: int) -> Lateness:
    """Of what ended at `since_ms` or later."""
    window = [each for each in ended if each.ended_ms >= since_ms]
    lists = [each for each in window if each.outcome == "published"]
    waits_s = sorted(max(0, each.ended_ms - each.as_of_ms) / 1000 for each in lists if not each.low)
    ours = [wait_s for wait_s in waits_s if wait_s <= OTHER_CLOCK_S]
    return Lateness(
        lists=len(ours),
        in_time=sum(wait_s <= IN_TIME_S for wait_s in ours),
        late=sum(wait_s > LATE_S for wait_s in ours),
        p50_s=_quantile(ours, 0.5),
        p95_s=_quantile(ours, 0.95),
        latest_s=ours[-1] if ours else None,
        other_clock=len(lists) - len(ours),
        outcomes=dict(Counter(each.outcome for each in window)),
    )


def lateness_words(found: Lateness) -> str:
    """One line for the screen."""
    parts = [f"{found.lists:,} lists"]
    if found.p50_s is not None and found.p95_s is not None and found.latest_s is not None:
        parts += [
            f"{found.in_time / found.lists:.0%} within {IN_TIME_S:.0f} s of being due",
            f"half by {found.p50_s:,.1f} s, 95 % by {found.p95_s:,.1f} s, the latest by {span(found.latest_s)}",
            f"{found.late:,} later than {LATE_S:.0f} s",
        ]
    if found.other_clock:
        parts.append(f"{found.other_clock:,} more of an imported log or an operation")
    without = "  ".join(f"{name} {count:,}" for name, count in sorted(found.outcomes.items()) if name != "published")
    return "; ".join(parts) + (f"; without a list: {without}" if without else "")


def _quantile(ordered: list[float], share: float) -> float | None:
    """The least of them that this share does not exceed."""
    if not ordered:
        return None
    return ordered[ceil(len(ordered) * share) - 1]
