"""What an on-call should look at, each with what to do about it."""

from serving.pace import log_words, queue_words, span
from serving.status import OTHER_CLOCK_S, PartitionStatus, Status

LATE_S = 30.0
"""What is older than this in a live log needs attention: the job is down, or behind."""


def attention(status: Status, broker: str = "") -> list[str]:
    """Empty in a healthy system."""
    where = f"--store={status.store} --namespace={status.namespace}"
    start = f"aigq run nearline --bootstrap={broker or 'BROKER'} --topic={status.meta.topic} {where}"
    found = []
    if not status.broker_answers:
        found.append(f"the broker {broker} does not answer: how far behind the log the job is cannot be said")
    if not status.partitions:
        found.append(f"nothing has been tracked yet; if no job runs: {start}")
    found += _behind(status, where, start)
    found += _queue(status)
    letters = f"aigq dlq list --bootstrap={broker or 'BROKER'} {where} --stage=generate"
    hour = status.last_hour.outcomes
    ended, malformed, exhausted = sum(hour.values()), hour.get("malformed", 0), hour.get("exhausted", 0)
    if ended >= 100 and malformed > 0.05 * ended:
        found.append(
            f"{malformed:,} of {ended:,} requests of the last hour ended malformed: {letters} --reason=malformed; "
            f"is the model the right one? aigq models list, and the way back: aigq models rollback"
        )
    if exhausted:
        found.append(
            f"{exhausted:,} requests of the last hour failed in all attempts: {letters} --reason=exhausted, and the engine's "
            f"lines in the job's log"
        )
    return found


def _behind(status: Status, where: str, start: str) -> list[str]:
    late = [each for each in status.partitions if each.clock_ms and each.age_s > LATE_S and each.lag != 0]
    still = [each for each in status.partitions if each.lag == 0 and LATE_S < each.age_s <= OTHER_CLOCK_S]
    pace = status.log_pace
    if not late and not (pace and pace.stands_still):
        # A job that has read everything says each second that time has passed.
        since = span(min(each.age_s for each in still)) if still else ""
        return (
            [f"the log is read to its end, and nobody has tracked time for {since}: if no job runs: {start}"]
            if still
            else []
        )
    if pace is None or not status.broker_answers:
        ask = f"whether it moves, and when it is level: aigq status --bootstrap=BROKER {where}"
        return [f"partition {each.partition} is {_behind_by(each)} behind; {ask}" for each in late]
    words = log_words(pace)
    if pace.stands_still:
        return [f"the tracking {words}: if no job runs: {start}; if one does, its log says what it waits for"]
    if pace.left_s is None:
        return [f"the tracking {words}: more readers help, on Flink with {start} --runner=flink --splits=N"]
    return [f"the tracking is behind and catches up by itself: {words}"]


def _queue(status: Status) -> list[str]:
    queue, pace = status.queue, status.queue_pace
    if status.other_clock or not queue.oldest_as_of_ms or queue.oldest_age_s <= LATE_S:
        return []
    oldest = f"the oldest request has waited {span(queue.oldest_age_s)} since it was due"
    if pace and pace.left_s is not None and not pace.stands_still:
        return [f"{oldest}; newest shoppers come first, and {queue_words(pace)}"]
    words = f"; {queue_words(pace)}" if pace else ""
    return [
        f"{oldest}{words}: is the model up? curl -s 127.0.0.1:PORT/metrics | grep aigq_engine (the job's --metrics_port), and "
        f"its log"
    ]


def _behind_by(each: PartitionStatus) -> str:
    records = "" if each.lag is None else f"{each.lag:,} records, "
    known = each.age_s <= OTHER_CLOCK_S
    return (
        f"{records}{span(each.age_s)}" if known else f"{records}{span(each.age_s)} by its log clock (an imported log?)"
    )
