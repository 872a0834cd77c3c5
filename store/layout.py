"""Names of the keys, and the shard of a shopper. One namespace is one independent store.

Everything of a shard carries the shard's hash tag, so that on a cluster it lies on one node and one call may touch all of it:

    {ns}:meta                  what the namespace is pinned to (JSON)
    {ns}:{sNNN}:u:<user>       state: 8 bytes token, then the blob                     string, expires
    {ns}:{sNNN}:r:<user>       newest runs, newest first                               string, expires
    {ns}:{sNNN}:e:<user>       tombstone: log clock of the erasure                     string, expires
    {ns}:{sNNN}:due:<part>     shoppers whose change comes due, by due time            sorted set
    {ns}:{sNNN}:meta           writer epochs; offsets, clocks, late records by log     hash
    {ns}:{sNNN}:wait           shoppers whose request may be claimed, by as-of         sorted set
    {ns}:{sNNN}:low            the same, of low priority: taken after all others        sorted set
    {ns}:{sNNN}:parked         the same, while an older request of theirs is leased    sorted set
    {ns}:{sNNN}:lease          shoppers whose request is in flight, by end of lease    sorted set
    {ns}:{sNNN}:wait:req       waiting requests by shopper                             hash
    {ns}:{sNNN}:lease:req      leased requests by shopper                              hash
    {ns}:{sNNN}:counts         requests by outcome                                     hash
    {ns}:{sNNN}:outcomes       the newest ended requests, one by one                   stream
    {ns}:{sNNN}:revoked        model versions whose lists are refused                  set

Beside the namespaces, for the whole store:

    aigq:namespaces            every namespace that was ever opened and not dropped    set
    aigq:made                  those that an operator's command made (a shadow, ...)   set
    aigq:pointers              name -> the namespace that it stands for                hash
    aigq:moves                 name -> how often its writers were fenced by a command  hash
    aigq:moving:<name>         who is moving the name to another namespace just now    string, expires
    aigq:operations            what operators asked for, by id (operations.py)         hash
    aigq:operation:<id>        how far that is                                         hash
    aigq:letters               what became of dead letters, by letter id               hash
"""

import zlib
from dataclasses import dataclass
from functools import cached_property

SHARD_HASH = "crc32"
SHARD_KEYS = ("meta", "counts", "outcomes", "wait", "parked", "lease", "wait:req", "lease:req", "revoked", "low")
"""In the order in which functions.lua expects them."""

NAMESPACES, MADE, POINTERS, MOVES = "aigq:namespaces", "aigq:made", "aigq:pointers", "aigq:moves"
OPERATIONS, LETTERS = "aigq:operations", "aigq:letters"


def shard_of(user: str, shards: int) -> int:
    """The shard of a shopper. Pinned in the namespace's metadata: another hash would look for everyone elsewhere."""
    return zlib.crc32(user.encode()) % shards


def namespace_key(namespace: str) -> bytes:
    return f"{namespace}:meta".encode()


@dataclass(frozen=True)
class Shard:
    """The keys of one shard of one namespace."""

    namespace: str
    number: int

    @cached_property
    def prefix(self) -> bytes:
        return f"{self.namespace}:{{s{self.number:03d}}}:".encode()

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(self.prefix + name.encode() for name in SHARD_KEYS)

    def key(self, name: str) -> bytes:
        return self.keys[SHARD_KEYS.index(name)]

    def due(self, partition: int) -> bytes:
        return self.prefix + b"due:%d" % partition

    @cached_property
    def state_prefix(self) -> bytes:
        return self.prefix + b"u:"

    def state(self, user: str) -> bytes:
        return self.state_prefix + user.encode()

    def runs(self, user: str) -> bytes:
        return self.prefix + b"r:" + user.encode()

    def tombstone(self, user: str) -> bytes:
        return self.prefix + b"e:" + user.encode()
