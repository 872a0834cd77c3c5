"""How an archive looks on a screen."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from transforms.archive_overview import Pruned, SetOverview


def show_overview(sets: Sequence[SetOverview], as_json: bool) -> int:
    """Prints it; returns 1 where records are missing, else 0."""
    if as_json:
        print(json.dumps([asdict(each) for each in sets]))
    else:
        for each in sets:
            _show(each)
    return int(any(each.holes for each in sets))


def _show(found: SetOverview) -> None:
    console = Console()
    console.print(f"[bold]{found.kind}[/]: topic {found.topic} (id {found.topic_id})")
    table = Table("day (UTC)", "partition", "files", "records", "bytes", "offsets")
    for column in table.columns[1:5]:
        column.justify = "right"
    for day, partitions in found.days.items():
        for row, each in enumerate(partitions):
            first, next_offset = each.offsets
            held = f"{first:,} to {next_offset - 1:,}" if next_offset > first else f"none (at {first:,})"
            table.add_row(
                "" if row else day, str(each.partition), f"{each.files:,}", f"{each.records:,}", f"{each.size:,}", held
            )
    console.print(table)
    for partition, (first, next_offset) in found.holes:
        console.print(
            f"[red]HOLE[/]: partition {partition}, offsets {first} to {next_offset - 1} are in no file; a replay over them is refused "
            "unless the broker still holds them"
        )
    for partition, (first, next_offset) in found.overlaps:
        console.print(
            f"overlap: partition {partition}, offsets {first} to {next_offset - 1} are in two files; readers take them once. Did two "
            "archive jobs run?"
        )


def show_pruned(pruned: Sequence[Pruned], of_store: Sequence[str], executed: bool) -> None:
    """of_store: what goes out of the store, in words."""
    for each in pruned:
        first, last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (each.hours[0], each.hours[-1]))
        print(
            f"{each.kind}: {len(each.hours)} hours, {first:%Y-%m-%d %H}:00 to {last:%Y-%m-%d %H}:59 UTC, {each.files:,} files, "
            f"{each.size:,} bytes {'deleted' if executed else 'would be deleted'}"
        )
    for said in of_store:
        print(f"store: {said} {'forgotten' if executed else 'would be forgotten'}")
    if not pruned and not of_store:
        print("nothing is that old")
    elif not executed:
        print("nothing was done; --execute does it")
