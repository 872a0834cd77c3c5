"""Where reading begins and ends, and what is said: the rules, without a server."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.kafka_clients import portable_settings
from transforms.log_position import (
    LogBounds,
    LogEndsEarly,
    RecordsLost,
    StoreLost,
    checked_starts,
    parse_time_ms,
    start_from_applied,
)
from transforms.log_watch import why_nothing_arrives
from transforms.read_events import LogMark, LogSource
from transforms.read_plan import ReadPlan, ReadSettings
from transforms.rewinds import Rewinds

LOG = LogBounds("behaviour", beginnings={0: 10, 1: 20}, ends={0: 100, 1: 200})


def test_reading_goes_on_where_the_store_is_whatever_the_group_says() -> None:
    assert start_from_applied(LOG, {0: 50, 1: 60}, {0: 99, 1: 20}, "g", "earliest") == {0: 50, 1: 60}


def test_a_partition_that_nobody_has_read_begins_where_new_ones_are_told_to() -> None:
    assert start_from_applied(LOG, {0: 50}, {}, "g", "earliest") == {0: 50, 1: 20}
    assert start_from_applied(LOG, {}, {}, "g", "latest") == {0: 100, 1: 200}


def test_a_group_that_has_read_what_the_store_does_not_know_means_a_lost_store() -> None:
    with pytest.raises(StoreLost, match=r"group 'g' has read partitions \(1 at 70\).*aigq rebuild"):
        start_from_applied(LOG, {0: 50}, {0: 50, 1: 70}, "g", "earliest")


def test_a_start_below_retention_fails_and_names_the_lost_offsets() -> None:
    with pytest.raises(RecordsLost, match=r"partition 0: retention deleted offsets 4 to 9 \(6 records at most\)"):
        checked_starts(LOG, {0: 4, 1: 30}, "fail")


def test_a_start_below_retention_is_skipped_loudly_where_told_to() -> None:
    (said,) = checked_starts(LOG, {0: 4, 1: 30}, "skip")
    assert said.startswith("SKIPPED")
    assert "offsets 4 to 9" in said


def test_a_log_that_ends_before_the_applied_offset_is_refused_even_where_loss_is_skipped() -> None:
    with pytest.raises(LogEndsEarly, match=r"partition 1 ends at offset 200, before the applied offset 201"):
        checked_starts(LOG, {0: 50, 1: 201}, "skip")


def test_reading_may_begin_at_either_end_of_the_log() -> None:
    assert checked_starts(LOG, LOG.beginnings, "fail") == []
    assert checked_starts(LOG, LOG.ends, "fail") == []


def test_times_are_iso_with_a_zone_or_epoch_milliseconds() -> None:
    assert parse_time_ms("2026-11-24T09:00:00+01:00") == parse_time_ms("2026-11-24T08:00:00Z") == 1795507200000
    assert parse_time_ms("1795507200000") == 1795507200000
    with pytest.raises(ValueError, match="without zone"):
        parse_time_ms("2026-11-24T09:00:00")
    with pytest.raises(ValueError, match="not a time: 'yesterday'"):
        parse_time_ms("yesterday")
    assert parse_time_ms("2026-11-24T09:00:00.001Z") % 1_000 == 1, "to the millisecond"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1795507200", "if it is seconds, that is 1795507200000"),
        ("20261124", "if it is a date, write 2026-11-24T00:00:00Z"),
        ("202611240210", "if it is a date, write 2026-11-24T02:10:00Z"),
        ("20261124021000", "if it is a date, write 2026-11-24T02:10:00Z"),
        ("0", "13 digits"),
        ("1795507200000000", "13 digits"),
    ],
)
def test_a_number_that_is_no_milliseconds_is_refused_with_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match=meant):
        parse_time_ms(text)


def test_a_time_before_all_records_can_be_handed_on_in_milliseconds() -> None:
    first = parse_time_ms("1970-01-01T00:00Z")
    assert parse_time_ms(str(first)) == first < parse_time_ms("2001-01-01T00:00Z")


@pytest.mark.parametrize(
    ("positions", "ends", "down", "complaint", "cause"),
    [
        ({0: 5}, {0: 5}, True, "timed out", r"does not answer \(last complaint: timed out\)"),
        ({0: 0}, {0: 0}, False, "", "the topic is empty"),
        ({0: 5}, {0: 5}, False, "", "everything was read"),
        ({}, {0: 5}, False, "", "has not asked"),
        ({0: 5, 1: 5}, {0: 9, 1: 5}, False, "", r"records are there \(\{0: 4\} by partition\)"),
        ({0: 5}, {}, True, "Broker: Topic authorization failed", "not authorised"),
        ({0: 5}, {}, True, "SASL authentication error", "not authorised"),
    ],
)
def test_silence_is_reported_with_its_cause(
    positions: dict[int, int], ends: dict[int, int], down: bool, complaint: str, cause: str
) -> None:
    assert re.search(cause, why_nothing_arrives(positions, ends, down, complaint))


def test_credentials_reach_both_clients() -> None:
    portable = portable_settings(
        {
            "bootstrap.servers": "a:1,b:2",
            "security.protocol": "sasl_ssl",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "u",
            "sasl.password": "p",
            "ssl.ca.location": "/ca.pem",
            "queued.min.messages": "7",
        }
    )
    assert portable == {
        "bootstrap_timeout_ms": 5_000,
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
        "ssl_cafile": "/ca.pem",
    }


def test_a_rewind_goes_to_the_least_offset_asked_for_and_only_once() -> None:
    rewinds = Rewinds()
    for offset in (30, 10, 20):
        rewinds.ask("t", 0, offset)
    rewinds.ask("t", 1, 5)
    assert rewinds.take("other", [0, 1]) == {}
    assert rewinds.take("t", [0]) == {0: 10}
    assert rewinds.take("t", [0, 1]) == {1: 5}
    assert rewinds.take("t", [0, 1]) == {}


@given(splits=st.integers(1, 40), wanted=st.integers(1, 40), partitions=st.integers(1, 30))
def test_splits_read_every_partition_once(splits: int, wanted: int, partitions: int) -> None:
    everything = range(partitions)
    plan = ReadPlan("t", "id", dict.fromkeys(everything, 0), dict.fromkeys(everything, 0))
    settings = ReadSettings({"bootstrap.servers": "nowhere:1"}, "t", splits=splits)
    shares = [source.partitions for source in LogSource(settings, plan, tuple(everything)).split(wanted)]
    assert len(shares) == min(splits, wanted, partitions)
    assert sorted(partition for share in shares for partition in share) == list(everything)


@given(offsets=st.dictionaries(st.integers(0, 1000), st.integers(0, 2**62)))
def test_a_mark_survives_its_coder(offsets: dict[int, int]) -> None:
    source = LogSource(ReadSettings({}, "t"), ReadPlan("t", "id", {}, {}), ())
    coder = source.get_checkpoint_mark_coder()
    assert coder.decode(coder.encode(LogMark(offsets, source))).offsets == offsets
