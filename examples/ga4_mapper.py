"""A mapper: your own events become behaviour events, without a change to your producers.

    aigq run nearline --mapper examples.ga4_mapper:to_event ...

This one reads Google Analytics 4 events, one JSON object a record, in the form of GA4's BigQuery export:

    {"event_name": "view_search_results", "event_timestamp": 1780000000000000, "user_pseudo_id": "17.42",
     "event_params": [{"key": "search_term", "value": {"string_value": "red shoes"}}]}

A mapper is one function, bytes in. It returns

- a BehaviourEvent, which is then checked and cleaned like any other;
- a text, the reason why the record cannot be used: it becomes a dead letter that carries the reason;
- SKIP, where the record is fine but not about behaviour: it is counted and left.

It is called once a record, in the worker, so it should be quick and must not wait for anything. If it raises, that record is
a dead letter and the job goes on, until dead letters are too many (docs/bad-input.md).
"""

import msgspec

from schemas import BehaviourEvent, Item
from schemas.wire_mapper import SKIP


class _Value(msgspec.Struct):
    string_value: str | None = None


class _Param(msgspec.Struct):
    key: str
    value: _Value


class _Item(msgspec.Struct):
    item_id: str
    item_name: str
    item_category: str = ""
    item_brand: str = ""


class _Ga4Event(msgspec.Struct):
    """The fields we need; a typed decoder leaves the other hundred out without building them."""

    event_name: str
    event_timestamp: int
    """Microseconds."""
    user_pseudo_id: str
    user_id: str | None = None
    event_params: list[_Param] = []
    items: list[_Item] = []


_decode = msgspec.json.Decoder(_Ga4Event).decode


def to_event(record: bytes):
    """GA4's searches (view_search_results) and clicks on an item (select_item)."""
    try:
        ga4 = _decode(record)
    except msgspec.MsgspecError as error:
        return f"not a GA4 event: {error}"
    user, time_ms = ga4.user_id or ga4.user_pseudo_id, ga4.event_timestamp // 1000
    # GA4 names no event, so its content does: the same record read twice must have the same id.
    id = f"{ga4.user_pseudo_id}.{ga4.event_timestamp}.{ga4.event_name}"
    if ga4.event_name == "view_search_results":
        query = next((p.value.string_value for p in ga4.event_params if p.key == "search_term"), None)
        if not query:
            return "view_search_results without search_term"
        return BehaviourEvent(id, user, "search", time_ms, query=query)
    if ga4.event_name == "select_item":
        if not ga4.items:
            return "select_item without items"
        item = ga4.items[0]
        attributes = {"brand": item.item_brand} if item.item_brand else {}
        return BehaviourEvent(
            id, user, "click", time_ms, item=Item(item.item_id, item.item_name, item.item_category, attributes)
        )
    return SKIP
