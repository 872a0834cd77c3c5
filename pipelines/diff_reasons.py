"""Why a shopper's newest lists of a window differ between two namespaces: the pure rule of `aigq diff`.

A list is missed by its run id: the same records and policy make the same id (interest/fold.py), so what became of a change on the
side that has no list of it is looked up there. Only what neither side's store accounts for is put down to the records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from schemas import QueryRun

CONSIDERED = 10
"""Queries of a list that are compared: what a search box shows at most."""
Place = Literal["here", "there"]
WAITING = "waiting"
"""What became of a change whose request has not ended; all others are outcomes of the store."""
LATE_EVENT, OTHER_BEHAVIOURS = "late event", "other behaviours"

_NO_LIST = {
    "conflated": "its change came due, and a newer one took its place: lag, or a replay faster than its shoppers",
    "malformed": "its change came due, and the model's output was no list",
    "exhausted": "its change came due, and the model failed at every attempt",
    "expired": "its change came due, and waited for longer than --max_age_s",
    "refused": "its change came due, and the shopper was erased or the model revoked",
    "cancelled": "its change came due, and its request was cancelled",
    WAITING: "its change came due, and no list is made yet",
    "not kept": "the store keeps its list no longer, or not what became of its change",
}
MEANINGS: Mapping[str, str] = {
    "same list": "word for word",
    "other trigger": "another policy: its changes came due at other times",
    "only here": "another policy: no change of the shopper came due there",
    "only there": "another policy: no change of the shopper came due here",
    "other model": "the same change, another model or prompt",
    "other words": "the same change and model: it samples, or rounds otherwise in another batch",
    **{f"{ended} {place}": meaning for ended, meaning in _NO_LIST.items() for place in ("here", "there")},
    LATE_EVENT: "the same policy; a record came after a deadline that had fired (docs/sameness.md)",
    OTHER_BEHAVIOURS: "the same policy, other records: redriven or corrected since",
}
"""Every reason, and what it says of the shopper's newest list that one side has and the other has not, or has otherwise."""


@dataclass(frozen=True)
class Came:
    """A change that came due in the window."""

    user: str
    as_of_ms: int
    ended: str
    """An outcome, or WAITING."""


@dataclass(frozen=True)
class History:
    """What one side knows of one shopper in the window."""

    lists: tuple[QueryRun, ...] = ()
    """Newest first."""
    came: Mapping[str, Came] = field(default_factory=dict)
    """By run id."""
    policies: frozenset[str] = frozenset()
    """Trigger versions by which the side decided in the window."""
    whole: bool = True
    """The side still knows of every change of the window what became of it."""


def why(here: History, there: History, late: bool) -> str:
    """One of MEANINGS. One side at least has a list. `late`: records came after their time where the shopper is at home."""
    if not here.lists:
        return _missing(there.lists[0], here, "here", late)
    if not there.lists:
        return _missing(here.lists[0], there, "there", late)
    left, right = here.lists[0], there.lists[0]
    if left.queries[:CONSIDERED] == right.queries[:CONSIDERED]:
        return "same list"
    if left.trigger_version != right.trigger_version:
        return "other trigger"
    if left.run_id != right.run_id:
        return (
            _missing(left, there, "there", late)
            if left.as_of_ms > right.as_of_ms
            else _missing(right, here, "here", late)
        )
    if (left.model_version, left.prompt_version) != (right.model_version, right.prompt_version):
        return "other model"
    if (left.newest_ms, left.prompt_tokens) == (right.newest_ms, right.prompt_tokens):
        return "other words"
    return LATE_EVENT if late else OTHER_BEHAVIOURS


def _missing(run: QueryRun, side: History, place: Place, late: bool) -> str:
    """Why `side`, at `place`, has neither this list nor a newer one."""
    came = side.came.get(run.run_id)
    if came is None and not side.lists:
        came = max(side.came.values(), key=lambda each: each.as_of_ms, default=None)
    if came is not None:
        return f"{'not kept' if came.ended == 'published' else came.ended} {place}"
    if run.trigger_version not in side.policies:
        return "only here" if place == "there" else "only there"
    if not side.whole:
        return f"not kept {place}"
    return LATE_EVENT if late else OTHER_BEHAVIOURS
