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
from store.states import States
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
    "WriterFenced",
]


class ShopperStore(States, RequestQueue, Reading):
    """States (states.py), the queue and the lists (requests.py), and what readers ask (reading.py); see base.py for its options."""
