"""Rules of the store that need no server."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    DataError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

import store
from schemas import QueryRun
from store.calls import FUNCTIONS, missing_function, passes
from store.codec import compress, decode_runs, encode_run, expand, read_states, split_runs, state_packer
from store.layout import Shard, shard_of

REDIS_7 = set(
    "DEL GET GETRANGE HDEL HGET HINCRBY HLEN HMGET HSET SET SISMEMBER STRLEN TIME XADD XLEN ZADD ZCARD "
    "ZRANGEBYSCORE ZREM ZREVRANGE ZSCORE".split()
)
"""What the functions may call: in Redis since 5.0, and in Valkey."""


def test_the_functions_use_only_commands_that_redis_and_valkey_share():
    called = set(re.findall(r"redis\.call\('([A-Z]+)'", FUNCTIONS)) | set(
        re.findall(r"in_chunks\('([A-Z]+)'", FUNCTIONS)
    )
    assert called == REDIS_7


def test_every_name_that_the_server_sees_carries_the_version():
    names = re.findall(r"redis\.register_function\('(\w+)'", FUNCTIONS)
    assert FUNCTIONS.startswith("#!lua name=aigq_v1\n")
    assert sorted(names) == ["aigq_v1_", "aigq_v1_begin", "aigq_v1_save"]
    assert sorted(re.findall(r"^register\('(\w+)'", FUNCTIONS, re.M)) == [
        "claim",
        "erase",
        "extend",
        "finish",
        "publish",
        "restore",
        "want",
    ]


def test_every_file_of_functions_is_loaded():
    files = Path(store.__file__ or "").parent.glob("*.lua")
    assert all(file.read_text() in FUNCTIONS for file in files)


def test_a_shopper_stays_in_the_shard_that_crc32_says():
    assert [shard_of(user, 16) for user in ("ann", "bob", "Zoë", "")] == [3, 0, 10, 0]


@given(st.text(max_size=20), st.sampled_from(["live", "shadow-2", "a.b_c"]))
def test_all_keys_of_a_shopper_carry_the_hash_tag_of_the_shard_whatever_the_name(user, namespace):
    user = user.encode("utf-8", "replace").decode()
    shard = Shard(namespace, 7)
    for key in (*shard.keys, shard.due(3), shard.state(user), shard.runs(user), shard.tombstone(user)):
        assert re.match(rb"[^{]*\{([^}]+)\}", key)[1] == b"s007"  # type: ignore[index]


def a_run(**changes) -> QueryRun:
    run = QueryRun("0123456789abcdef", "ann", 10, ("usb hub",) * 10, "m/1", 1, "1", "t", ("r",), 1, 2, 3, 4, 5, 6)
    return msgspec.structs.replace(run, **changes)


@given(st.lists(st.tuples(st.text(max_size=30), st.integers(0, 2**53 - 1)), max_size=4))
def test_runs_read_back_as_written(drawn):
    runs = [a_run(queries=(text,) * 3, as_of_ms=as_of) for text, as_of in drawn]
    packed = [compress(encode_run(run)) for run in runs]
    value = b"".join(
        b"%d %d %s %d " % (run.as_of_ms, 1, b"id", len(p)) + p for run, p in zip(runs, packed, strict=True)
    )
    assert split_runs(value) == packed
    assert decode_runs(value) == runs


@given(st.lists(st.none() | st.binary(max_size=300), max_size=5), st.booleans())
def test_states_read_back_as_written_compressed_or_not(blobs, compressed):
    pack = state_packer(compressed)
    states = read_states([None if blob is None else b"12345678" + pack(blob) for blob in blobs])
    assert [state and state.blob for state in states] == blobs
    assert all(state is None or state.token == b"12345678" for state in states)


def test_a_value_of_a_later_format_is_said_to_be_one():
    with pytest.raises(ValueError, match="format b'\\\\t'"):
        expand(b"\x09...")
    with pytest.raises(ValueError, match="format b'\\\\t'"):
        read_states([b"12345678\x09..."])


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("refused"),
        TimeoutError("no answer"),
        BusyLoadingError("loading"),
        TryAgainError("multiple keys during rehashing"),
        ResponseError("TRYAGAIN Multiple keys request during rehashing of slot"),
        ResponseError("Function not found"),
        ResponseError("READONLY You can't write against a read only replica."),
        ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
    ],
)
def test_what_passes_by_itself_is_retried(error):
    assert passes(error)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("wrong password"),
        DataError("invalid input"),
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        ResponseError("aigq_v1: run id is empty"),
    ],
)
def test_what_no_retry_cures_is_not_retried(error):
    assert not passes(error)
    assert not missing_function(error)
