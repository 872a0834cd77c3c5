"""How the store keeps blobs: states as they are or compressed, runs always compressed. Figures: docs/store.md.

A state's value is its token, one byte of format, the state. A shopper's runs are one value: each a header that the server
orders them by, one byte of format, the run.
"""

import re
import zlib
from collections.abc import Callable

import msgspec
import zstandard

from schemas import QueryRun
from store.values import TOKEN_BYTES, StoredState

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


PLAIN, ZSTD = b"\0", b"\1"
ZSTD_LEVEL = -3
"""Half the time of level 1 for a tenth more bytes."""


def state_packer(compressed: bool) -> Callable[[bytes], bytes]:
    """blob -> its format and the bytes to store. For one thread: a packer holds a compressor."""
    if not compressed:
        return PLAIN.__add__
    compress_state = zstandard.ZstdCompressor(ZSTD_LEVEL, write_checksum=False).compress
    return lambda blob: ZSTD + compress_state(blob)


def read_states(values: list[bytes | None]) -> list[StoredState | None]:
    """Stored values -> states; either format, whatever this process writes. Raises ValueError for an unknown format."""
    expand_state = zstandard.ZstdDecompressor().decompress
    states: list[StoredState | None] = []
    for value in values:
        if value is None:
            states.append(None)
            continue
        token, form, blob = value[:TOKEN_BYTES], value[TOKEN_BYTES : TOKEN_BYTES + 1], value[TOKEN_BYTES + 1 :]
        if form == ZSTD:
            blob = expand_state(blob)
        elif form != PLAIN:
            raise ValueError(f"a stored state has format {form!r}; this version reads {PLAIN!r} and {ZSTD!r}")
        states.append(StoredState(token, blob))
    return states


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
