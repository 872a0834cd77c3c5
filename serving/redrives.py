"""How a redrive looks on a screen before it begins and when it has ended."""

import json
from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from transforms.redriven_records import SKIPS

Outcomes = Mapping[tuple[str, str], Counter[str]]
"""(reason, topic) of letters -> how many of each outcome."""
_SHOWN = {"folded": "takes effect", "duplicate": "duplicate", "too_late": "too late"}
TOO_LATE = (
    "{:,} come too late to count: older than the days that are remembered, or than the oldest behaviour that their shopper's full "
    "history keeps (docs/interest.md, step 8)"
)
DEAD_AGAIN = (
    "{:,} would be dead letters again, as this command reads them (--format, --mapper): give what the job runs with, or mend the "
    "cause first. What comes back is quarantined"
)


def show_outlook(expected: Outcomes, skipped: Outcomes, executed: bool) -> None:
    """What is given again, as what the job takes it, and what is left and why."""
    console = Console(markup=False)
    total: Counter[str] = sum(expected.values(), Counter())
    table = Table("reason", "topic", "redriven" if executed else "to redrive", *_SHOWN.values(), "dead again", "other")
    for (reason, topic), counts in sorted(expected.items()):
        if counts:
            dead = sum(count for name, count in counts.items() if name.startswith("dead "))
            known = [counts[name] for name in _SHOWN]
            numbers = (counts.total(), *known, dead, counts.total() - sum(known) - dead)
            table.add_row(reason, topic or "-", *(f"{number:,}" for number in numbers))
    console.print(table if total else "nothing to redrive")
    for text, count in (
        (TOO_LATE, total["too_late"]),
        (DEAD_AGAIN, sum(count for name, count in total.items() if name.startswith("dead "))),
        ("{:,} ask for a new list, at low priority", total["list"]),
        ("{:,} are about another topic than the namespace's, so that their effect is not known", total["readable"]),
    ):
        if count:
            console.print(text.format(count))
    left: Counter[str] = sum(skipped.values(), Counter())
    for name, count in sorted(left.items()):
        console.print(f"left: {count:,} {name}: {SKIPS[name]}")


def outlook_as_json(expected: Outcomes, skipped: Outcomes, **more: object) -> str:
    def rows(outcomes: Outcomes) -> list[dict[str, object]]:
        return [
            {"reason": reason, "topic": topic, **counts}
            for (reason, topic), counts in sorted(outcomes.items())
            if counts
        ]

    return json.dumps({"expected": rows(expected), "left": rows(skipped)} | more)


def show_aftermath(id: str, taken: bool, came_back: Mapping[str, int], dead_letter_topic: str) -> None:
    """What became of them, as far as the job has come."""
    console = Console(markup=False)
    if not taken:
        console.print(
            f"{id}: the job has not taken all of it yet: does one run (`aigq status`)? What was given stays given; "
            f"`aigq dlq list` tells what comes back to {dead_letter_topic!r}"
        )
    back = ", ".join(f"{reason} {count:,}" for reason, count in came_back.items())
    console.print(f"{id}: {sum(came_back.values()):,} came back as dead letters" + (f": {back}" if back else ""))
    if back:
        console.print("they are quarantined: mend the cause, then the same command with --again, or `aigq dlq discard`")
