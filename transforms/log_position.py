"""Where reading begins and ends: pure rules over what the store, the broker and the group know.

The store's applied offsets are the truth. The group's committed offsets are a hint for lag monitors, and evidence: a group
that has read while the store knows nothing means that the store was lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from schemas.validate import FIRST_MS

Offsets = Mapping[int, int]
"""Next offset by partition."""
OnLostRecords = Literal["fail", "skip"]


BEYOND_MS = 10**13
"""The year 2286. From there on lie microseconds, and dates as one number."""


class ReadRefused(Exception):
    """The log is not what the store was made from. Starting again changes nothing: a person decides."""


class NotAuthorised(ReadRefused):
    """The broker does not take our credentials, or they do not reach as far as this topic."""


class StoreLost(ReadRefused):
    """The group has read this topic, but the store has no trace of it."""


class RecordsLost(ReadRefused):
    """Retention deleted records before they were read."""


class ArchiveMismatch(ReadRefused):
    """The archive is another topic's, or was made with another log clock."""


class LogEndsEarly(ReadRefused):
    """The log ends before the offset that the store has applied."""


class PartitionsGrew(ReadRefused):
    """The topic has more partitions than the store was made with."""


class TopicRecreated(ReadRefused):
    """Another topic of the same name: its offsets mean other records."""


class WrongTimestampType(ReadRefused):
    """The topic keeps producers' times, which are no log clock."""


@dataclass(frozen=True)
class LogBounds:
    """What the broker holds of each partition."""

    topic: str
    beginnings: Offsets
    ends: Offsets


def parse_time_ms(text: str) -> int:
    """Epoch milliseconds, or ISO with a zone. Raises ValueError saying what is wrong."""
    if text.isdecimal():
        return _milliseconds(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"not a time: {text!r}; give ISO with a zone (2026-11-24T09:00:00+00:00) or epoch milliseconds"
        ) from None
    if moment.tzinfo is None:
        raise ValueError(f"a time without zone: {text!r}; add one, e.g. {text}+00:00 or {text}Z")
    # Nothing is older than FIRST_MS: an earlier time means the same, and may be handed on in milliseconds.
    return max(FIRST_MS, round(moment.timestamp() * 1000))


def _milliseconds(digits: str) -> int:
    """Raises ValueError where the number is one of seconds, or a date without its marks: an early one would mean everything."""
    number = int(digits)
    if FIRST_MS <= number < BEYOND_MS:
        return number
    if FIRST_MS <= number * 1000 < BEYOND_MS:
        meant = f"if it is seconds, that is {number * 1000}"
    elif digits.startswith(("19", "20")) and len(digits) in (8, 12, 14):
        clock = f"{digits[8:10] or '00'}:{digits[10:12] or '00'}:{digits[12:14] or '00'}"
        meant = f"if it is a date, write {digits[:4]}-{digits[4:6]}-{digits[6:8]}T{clock}Z"
    else:
        meant = "they have 13 digits"
    raise ValueError(f"not epoch milliseconds of the years 2000 to 2286: {digits}; {meant}")


def start_from_applied(
    log: LogBounds, applied: Offsets, committed: Offsets, group: str, start_if_new: str
) -> dict[int, int]:
    """Each partition at the store's applied offset, a new one at `start_if_new` (earliest or latest).

    Raises StoreLost where the group has a committed offset and the store has none.
    """
    lost = sorted(partition for partition in log.ends if partition in committed and partition not in applied)
    if lost:
        where = ", ".join(f"{partition} at {committed[partition]}" for partition in lost)
        raise StoreLost(
            f"topic {log.topic}: group {group!r} has read partitions ({where}) of which the store has applied nothing: the "
            "store was lost or is another one. Check --store and --namespace; if they are right, `aigq rebuild` makes the "
            "namespace anew from the log and the archive"
        )
    fresh = log.beginnings if start_if_new == "earliest" else log.ends
    return {partition: applied.get(partition, fresh[partition]) for partition in log.ends}


def checked_starts(log: LogBounds, starts: Offsets, on_lost_records: OnLostRecords) -> list[str]:
    """Raises where the log no longer holds, or does not yet hold, a start. Returns what is to be said of skipped records.

    Raises RecordsLost (unless told to skip), LogEndsEarly.
    """
    said = []
    for partition, start in starts.items():
        if start > log.ends[partition]:
            raise ends_early(log.topic, partition, start, log.ends[partition])
        if start < log.beginnings[partition]:
            lost = records_lost(log.topic, partition, start, log.beginnings[partition])
            if on_lost_records == "fail":
                raise lost
            said.append(skipped(lost))
    return said


def not_authorised(topic: str, bootstrap: str, complaint: str) -> NotAuthorised:
    return NotAuthorised(
        f"topic {topic}: {bootstrap} does not let us in ({complaint}). Check security.protocol, sasl.* and ssl.* in "
        "--kafka_config, and the rights to READ and DESCRIBE the topic and to READ the group"
    )


def ends_early(topic: str, partition: int, position: int, end: int) -> LogEndsEarly:
    return LogEndsEarly(
        f"topic {topic} partition {partition} ends at offset {end}, before the applied offset {position}: the log was "
        "truncated, or this is another cluster. Check --bootstrap and --topic; if they are right, `aigq rebuild` folds this "
        "log anew"
    )


def records_lost(topic: str, partition: int, position: int, beginning: int) -> RecordsLost:
    return RecordsLost(
        f"topic {topic} partition {partition}: retention deleted offsets {position} to {beginning - 1} "
        f"({beginning - position} records at most) before they were read. Go on without them with --on_lost_records=skip, "
        "or produce them again from an archive; raise retention.ms above the longest outage you want to survive"
    )


def not_archived(topic: str, partition: int, first: int, next: int, root: str) -> RecordsLost:
    return RecordsLost(
        f"topic {topic} partition {partition}: offsets {first} to {next - 1} are neither in the archive {root} nor held by a "
        "broker. `aigq archive show` lists holes; read a window without them, or go on without these records by "
        "--on_lost_records=skip"
    )


def begin_lost(topic: str, partition: int, beginning: int, held_ms: int | None, since_ms: int, why: str) -> RecordsLost:
    held = "and nothing there tells from when" if held_ms is None else f"from {_moment(held_ms)} on"
    return RecordsLost(
        f"topic {topic} partition {partition}: {why} {_moment(since_ms)}, and the log is held from offset {beginning} only, {held}: "
        f"offsets 0 to {beginning - 1} are gone, and some of them may belong to it. Name an --archive that holds them, or a "
        "later begin (--from, --start), or go on without them by --on_lost_records=skip"
    )


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def skipped(lost: RecordsLost) -> str:
    return f"SKIPPED: {lost}"


def partitions_grew(topic: str, had: int, has: int) -> PartitionsGrew:
    return PartitionsGrew(
        f"topic {topic} has {has} partitions, the job began with {had}: shoppers now hash to other partitions, and their "
        "events could be folded out of order. Copy the records, keyed by shopper, into a topic that has its partitions from the "
        "first record on, and `aigq rebuild --topic=NEW` (docs/runbook/upgrades.md)"
    )


def topic_recreated(topic: str, had: str, has: str) -> TopicRecreated:
    return TopicRecreated(
        f"topic {topic} is not the one this job began with (id {has}, was {had}): it was deleted and created again, so "
        "offsets mean other records. `aigq rebuild` folds the new one; shoppers begin anew, their lists are put back"
    )


def wrong_timestamp_type(topic: str, bootstrap: str) -> WrongTimestampType:
    return WrongTimestampType(
        f"topic {topic} keeps its producers' times (message.timestamp.type is CreateTime): no log clock, one wrong clock "
        "would move everybody's deadlines. Set it: kafka-configs.sh --bootstrap-server "
        f"{bootstrap} --alter --entity-type topics --entity-name {topic} --add-config message.timestamp.type=LogAppendTime "
        "(records already there keep their times); a trusted imported log runs with --log_clock=ingest_ms"
    )
