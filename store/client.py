"""The store of shoppers' states, requests and lists: one small client over the functions in functions.lua.

    store = ShopperStore("unix:///run/valkey.sock", "live")
    store.open(meta)                # installs the functions, checks what the namespace is pinned to
    store.begin("track")            # fences older writers of this stage
    store.save(...), store.claim(...), store.publish(...)

Reading needs neither `open` nor `begin`. Every call is retried until its deadline (calls.py); any may raise StoreUnavailable
or StoreRefused, one that writes also WriterFenced. The rules are told in docs/store.md.
"""

from store.errors import NamespaceMismatch, StoreError, StoreLost, StoreRefused, StoreUnavailable, WriterFenced
from store.reading import Reading
from store.requests import RequestQueue
from store.scanning import Scanning
from store.values import (
    Applied,
    Claim,
    Depth,
    Ended,
    Fired,
    NamespaceMeta,
    Outcome,
    Publication,
    PublishResult,
    Request,
    Requests,
    SaveResult,
    ShardSave,
    Stage,
    StateChange,
    StoredState,
    Wanted,
    WantedAnswer,
)

__all__ = [
    "Applied",
    "Claim",
    "Depth",
    "Ended",
    "Fired",
    "NamespaceMeta",
    "NamespaceMismatch",
    "Outcome",
    "Publication",
    "PublishResult",
    "Request",
    "Requests",
    "SaveResult",
    "ShardSave",
    "ShopperStore",
    "Stage",
    "StateChange",
    "StoreError",
    "StoreLost",
    "StoreRefused",
    "StoreUnavailable",
    "StoredState",
    "Wanted",
    "WantedAnswer",
    "WriterFenced",
]


class ShopperStore(Scanning, RequestQueue, Reading):
    """States (states.py), the queue and the lists (requests.py), what readers ask (reading.py), and walks over all of a namespace
    (scanning.py); see base.py for its options."""
