"""Runs as the store keeps them: compressed, with a header that the server orders them by, all of a shopper in one value."""

import re
import zlib

import msgspec

from schemas import QueryRun

_DICTIONARY = b"".join(
    [
        b"category term search click laptop phone case wireless black inch tv for with and the men women kids pro air max",
        b"\xaftrigger_version\xa7reasons\x93\xaecategory  +0.\xa9newest_ms\xcf\x00\x00\x01\x9a\xaaclaimed_ms\xcf\x00\x00\x01",
        b"\xacgenerated_ms\xcf\x00\x00\x01\xa9stored_ms\xcf\x00\x00\x01\xadprompt_tokens\xcc\xadoutput_tokens",
        b"\x8f\xa6run_id\xb0\xa4user\xa9as_of_ms\xcf\x00\x00\x01\xa7queries\x9a\xadmodel_version\xabaigq-small/",
        b"\xa9promotion\x00\xaeprompt_version\xa11",
    ]
)
"""What nearly every run holds. Part of the format: a change of it is a new format number."""
_FORMAT = b"\x01"
"""First byte of a compressed run: 1 is raw deflate with the dictionary above."""
_HEADER = re.compile(rb"(\d+) (\d+) (\S+) (\d+) ")

_decode = msgspec.msgpack.Decoder(QueryRun).decode
encode_run = msgspec.msgpack.Encoder().encode


def compress(blob: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -12, 9, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return _FORMAT + compressor.compress(blob) + compressor.flush()


def expand(stored: bytes) -> bytes:
    """Raises ValueError where the value is of a format that this version does not know."""
    if stored[:1] != _FORMAT:
        raise ValueError(
            f"a stored run has format {stored[:1]!r}; this version reads {_FORMAT!r}: it is older than the writer"
        )
    return zlib.decompressobj(-12, _DICTIONARY).decompress(stored[1:])


def split_runs(value: bytes) -> list[bytes]:
    """The value of a shopper's runs -> compressed runs, newest first."""
    runs, at = [], 0
    while header := _HEADER.match(value, at):
        at = header.end() + int(header[4])
        runs.append(value[header.end() : at])
    return runs


def decode_runs(value: bytes) -> list[QueryRun]:
    return [_decode(expand(run)) for run in split_runs(value)]
