"""How a backlog moves, from two looks at it some seconds apart: how fast it is worked off, and when it is gone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """A backlog (records of the log, requests of the queue) and the two streams that move it."""

    backlog: int
    done_per_s: float
    arriving_per_s: float
    left_s: float | None
    """Seconds until nothing is left, if both streams go on like this; None where it does not get shorter."""

    @property
    def stands_still(self) -> bool:
        return self.backlog > 0 and self.done_per_s == 0


def pace(backlog: int, done_per_s: float, arriving_per_s: float) -> Pace:
    shrinks_per_s = done_per_s - arriving_per_s
    left_s = 0.0 if backlog == 0 else backlog / shrinks_per_s if shrinks_per_s > 0 else None
    return Pace(backlog, round(done_per_s, 2), round(arriving_per_s, 2), None if left_s is None else round(left_s, 1))


def log_words(pace: Pace) -> str:
    """`level in about 3 min (12,300 records behind, 4,100/s read, 50/s arrive)`"""
    if pace.backlog == 0:
        return "level with the log"
    figures = f"({pace.backlog:,} records behind, {rate(pace.done_per_s)} read, {rate(pace.arriving_per_s)} arrive)"
    if pace.stands_still:
        return f"stands still {figures}"
    return f"falls further behind {figures}" if pace.left_s is None else f"level in about {span(pace.left_s)} {figures}"


def queue_words(pace: Pace) -> str:
    if pace.backlog == 0:
        return "the queue is empty"
    figures = f"({pace.backlog:,} requests, {rate(pace.done_per_s)} end, {rate(pace.arriving_per_s)} come)"
    if pace.stands_still:
        return f"the queue stands still {figures}"
    if pace.left_s is None:
        return f"the queue grows {figures}"
    return f"the queue is empty in about {span(pace.left_s)} {figures}"


def rate(per_s: float) -> str:
    return f"{per_s:,.0f}/s" if per_s >= 10 or per_s == 0 else f"{per_s:.1f}/s"


def span(seconds: float) -> str:
    """As people say it: `8 s`, `3 min`, `5 h`, `2 days`."""
    for unit, length_s, up_to_s in (("s", 1, 120), ("min", 60, 7_200), ("h", 3_600, 172_800)):
        if seconds < up_to_s:
            return f"{seconds / length_s:,.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"
