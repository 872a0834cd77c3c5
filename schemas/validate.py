"""What an event must be before it may move a shopper's state: `check` returns it, cleaned, or says why not.

Ids are never mended: a mended id can be another shopper's. Texts are: they come from keyboards and crawled titles, and a
stray tab is no reason to lose a behaviour. What a text *says* (braces, separators, words that look like special tokens) is
left as it is; whoever puts it into a prompt or a key escapes it there.
"""

import re
from typing import NamedTuple, final

from msgspec.structs import replace

from schemas.records import BehaviourEvent, Item

MOST_ID = 256
"""Characters of an event's or a user's id. It becomes part of a key in the store."""
MOST_QUERY = 256
MOST_TITLE = 256
"""Characters; the rest is cut off. The prompt reads less, and a shopper's state keeps every one of them."""
MOST_NAME = 128
"""Characters of a category, an attribute, a profile field; the rest is cut off."""
MOST_FIELDS = 16
"""Attributes of an item, and fields of a profile; the others are left out."""
FIRST_MS = 946_684_800_000
"""The year 2000. Before it lie times in seconds, the usual mistake, and 0."""
LAST_MS = 253_402_300_799_999
"""The end of year 9999. After it lie times in microseconds. A time in the future but before it is a wrong clock: the fold
clamps it to the log clock."""

_NOT_IN_IDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_IN_TEXTS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]+"
)
"""Control characters, line breaks, marks that reverse the direction of what follows, halves of surrogate pairs."""


@final
class Rejection(NamedTuple):
    """Why a record cannot be used."""

    reason: str
    """A short name from `transforms.dead_letters.REASONS`."""
    detail: str


def check(event: BehaviourEvent) -> BehaviourEvent | Rejection:
    """The event, cleaned, or why it is none. Costs about half a microsecond where there is nothing to clean."""
    id, user, profile = event.id, event.user, event.profile
    if not (0 < len(id) <= MOST_ID and 0 < len(user) <= MOST_ID):
        return _bad_length(event)
    if not (id.isprintable() and user.isprintable()) and (_NOT_IN_IDS.search(id) or _NOT_IN_IDS.search(user)):
        return Rejection("bad_id", f"control character in id {id!r} or user {user!r}")
    if not FIRST_MS <= event.time_ms <= LAST_MS:
        return Rejection("bad_time", f"time_ms {event.time_ms} is not in Unix milliseconds of the years 2000 to 9999")
    if profile and not _is_clean_mapping(profile):
        event = replace(event, profile=_clean_mapping(profile))
    if event.kind == "search":
        return _check_search(event)
    return _check_click(event) if event.kind == "click" else event


def _check_search(event: BehaviourEvent) -> BehaviourEvent | Rejection:
    query = event.query
    if len(query) > MOST_QUERY or not query.isprintable() or query != query.strip():
        query = clean(query, MOST_QUERY)
        event = replace(event, query=query)
    return event if query else Rejection("no_text", "a search without a query")


def _check_click(event: BehaviourEvent) -> BehaviourEvent | Rejection:
    item = event.item
    if item is None:
        return Rejection("no_text", "a click without an item")
    if not _is_clean(item):
        item = _clean_item(item)
        event = replace(event, item=item)
    return event if item.title else Rejection("no_text", f"the clicked item {item.id!r} has no title")


def clean(text: str, most: int) -> str:
    """A text of at most `most` characters on one line: runs of control characters become one space."""
    return _NOT_IN_TEXTS.sub(" ", text[: most * 4]).strip()[:most].rstrip()


def _bad_length(event: BehaviourEvent) -> Rejection:
    for name, value in (("id", event.id), ("user", event.user)):
        if not value:
            return Rejection("bad_id", f"{name} is empty")
        if len(value) > MOST_ID:
            return Rejection("bad_id", f"{name} has {len(value)} characters, more than {MOST_ID}: {value[:40]!r}...")
    raise AssertionError("both lengths are right")


def _is_clean(item: Item) -> bool:
    title, category, attributes = item.title, item.category, item.attributes
    return (
        0 < len(title) <= MOST_TITLE
        and len(category) <= MOST_NAME
        and len(item.id) <= MOST_ID
        and (title + category + item.id).isprintable()
        and title == title.strip()
        and (not attributes or _is_clean_mapping(attributes))
    )


def _is_clean_mapping(fields: dict[str, str]) -> bool:
    texts = "".join([*fields, *fields.values()])
    # Short together is short each; only a rare long one is cleaned for nothing.
    return len(fields) <= MOST_FIELDS and len(texts) <= MOST_NAME and texts.isprintable()


def _clean_item(item: Item) -> Item:
    return Item(
        clean(item.id, MOST_ID),
        clean(item.title, MOST_TITLE),
        clean(item.category, MOST_NAME),
        _clean_mapping(item.attributes),
    )


def _clean_mapping(fields: dict[str, str]) -> dict[str, str]:
    kept = list(fields.items())[:MOST_FIELDS]
    return {clean(name, MOST_NAME): clean(value, MOST_NAME) for name, value in kept}
