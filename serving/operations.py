"""How operators' commands look on a screen, and as JSON for scripts."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from store.operations import Operation, OperationProgress, Status

EXITS: dict[Status, int] = {
    **{"done": 0, "failed": 1, "interrupted": 1, "cancelled": 4, "stopped": 4},
    **{"running": 5, "paused": 5},
}
"""Of `aigq runs show`. stopped: paused, and its process has ended."""
GOES_ON = ("interrupted", "failed", "stopped")


def show_list(found: Sequence[tuple[Operation, OperationProgress]], now_ms: int, as_json: bool) -> None:
    if as_json:
        for each in found:
            print(json.dumps(operation_as_json(*each, now_ms)))
        return
    table = Table()
    table.add_column("id", min_width=max((len(operation.id) for operation, _ in found), default=0))  # to be typed again
    for heading in ("namespace", "status", "progress", "begun", "counts"):
        table.add_column(heading)
    for operation, progress in found:
        counts = ", ".join(f"{name} {count:,}" for name, count in progress.counts.items())
        table.add_row(
            operation.id,
            operation.namespace,
            progress.said(now_ms),
            _how_far(progress, now_ms),
            _when(operation.begun_ms),
            counts,
        )
    Console().print(table if found else "no operation yet")


def show_one(operation: Operation, progress: OperationProgress, now_ms: int, as_json: bool) -> int:
    """Prints it; returns the exit status that `EXITS` gives its status."""
    status = progress.said(now_ms)
    if as_json:
        print(json.dumps(operation_as_json(operation, progress, now_ms)))
        return EXITS[status]
    again = ": the same command goes on with it" if status in GOES_ON else ""
    table = Table(show_header=False)
    for name, value in (
        ("operation", operation.id),
        ("namespace", operation.namespace),
        ("asked", operation.asked),
        ("begun", _when(operation.begun_ms)),
        ("status", f"{status}{again}"),
        ("last heard of", _when(progress.updated_ms)),
        ("progress", _how_far(progress, now_ms)),
        ("checkpoint", progress.checkpoint or "-"),
        ("counts", ", ".join(f"{name} {count:,}" for name, count in progress.counts.items()) or "-"),
        ("note", progress.note or "-"),
    ):
        table.add_row(name, value)
    Console().print(table)
    return EXITS[status]


def _how_far(progress: OperationProgress, now_ms: int) -> str:
    if not progress.of:
        return "-"
    said = f"{progress.done:,} of {progress.of:,} ({progress.done / progress.of:.0%})"
    left_s = _left_s(progress, now_ms)
    return said if left_s is None else f"{said}, {left_s:,.0f} s to go"


def _left_s(progress: OperationProgress, now_ms: int) -> float | None:
    """Only of one that runs: of the others nobody knows when they go on."""
    return progress.left_s(progress.updated_ms) if progress.said(now_ms) == "running" else None


def operation_as_json(operation: Operation, progress: OperationProgress, now_ms: int) -> dict[str, object]:
    return {
        "id": operation.id,
        "kind": operation.kind,
        "namespace": operation.namespace,
        "asked": json.loads(operation.asked),
        "begun_ms": operation.begun_ms,
        "status": progress.said(now_ms),
        "updated_ms": progress.updated_ms,
        "checkpoint": progress.checkpoint,
        "counts": progress.counts,
        "done": progress.done,
        "of": progress.of,
        "left_s": _left_s(progress, now_ms),
        "note": progress.note,
    }


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
