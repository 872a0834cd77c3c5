"""Sessions: what a shopper did without a longer pause."""

from collections.abc import Iterable

from schemas import Behaviour


def sessions(behaviours: Iterable[Behaviour], gap_ms: int) -> list[list[Behaviour]]:
    """Behaviours (oldest first) cut wherever more than `gap_ms` of event time passed."""
    found: list[list[Behaviour]] = []
    for behaviour in behaviours:
        if not found or behaviour.time_ms - found[-1][-1].time_ms > gap_ms:
            found.append([])
        found[-1].append(behaviour)
    return found
