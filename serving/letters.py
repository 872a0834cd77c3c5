"""How dead letters look on a screen, and as JSON for scripts."""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from schemas import DeadLetter
from store.letters import LetterFate
from transforms.letter_cases import STATUSES, LetterCase, LetterSum, sums_of


def show_sums(cases: Sequence[LetterCase], unreadable: int, as_json: bool) -> None:
    """A line for each reason, stage and topic; then what to do about those that wait for somebody."""
    sums = sums_of(cases)
    if as_json:
        for each in sums:
            print(json.dumps(_sum_as_json(each)))
        return
    table = Table("reason", "stage", "topic", *STATUSES, "first", "last")
    for each in sums:
        counts = (f"{each.by_status[status]:,}" for status in STATUSES)
        about = (each.reason, each.stage, each.topic or "-")
        table.add_row(*about, *counts, _when(each.first_ms), _when(each.last_ms))
    console = Console(markup=False)
    console.print(table if sums else "no dead letter")
    for reason, remedy in {each.reason: each.remedy for each in sums if each.to_do}.items():
        console.print(f"{reason}: {remedy}", highlight=False)
    total = Counter(case.status for case in cases)
    console.print(f"{len(cases):,} letters: " + ", ".join(f"{total[status]:,} {status}" for status in STATUSES))
    if unreadable:
        console.print(f"{unreadable:,} messages of the topic are no dead letters; they were left out")


def show_each(cases: Iterable[LetterCase], as_json: bool) -> None:
    """A line for each letter."""
    for case in cases:
        if as_json:
            print(json.dumps(_case_as_json(case)))
        else:
            letter = case.newest
            print(
                f"{case.id}  {case.status}  {letter.stage}/{letter.reason}  {_when(letter.time_ms)}  "
                f"{letter.user or '-'}  {_printable(letter.detail)}"
            )


def show_one(case: LetterCase, letters: Sequence[DeadLetter], as_json: bool) -> None:
    """Everything that is known of a letter: its bytes, and what was done with it."""
    if as_json:
        print(json.dumps(_case_as_json(case) | {"letters": [letter_as_json(letter) for letter in letters]}))
        return
    console = Console(markup=False)
    table = Table(show_header=False)
    rows = [
        ("letter", case.id),
        ("status", f"{case.status}{_quarantine(case)}"),
        ("put aside", f"{case.times} times" if case.times > 1 else "once"),
    ]
    rows += list(_history(case.fate)) if case.fate else []
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    for letter in letters:
        table = Table(show_header=False, title=f"stage {letter.stage}: {letter.reason}", title_justify="left")
        for name, value in (
            ("detail", _printable(letter.detail)),
            ("record", f"{letter.topic} partition {letter.partition} offset {letter.offset}" if letter.topic else "-"),
            ("run", letter.run_id or "-"),
            ("written", _when(letter.time_ms)),
            ("shopper", letter.user or "-"),
            ("bytes", f"{len(letter.raw):,}"),
            ("raw", raw_text(letter.raw)),
        ):
            table.add_row(name, value)
        console.print(table)


def letter_as_json(letter: DeadLetter) -> dict[str, Any]:
    """Bytes as base64, and as text where they are some."""
    fields = {name: getattr(letter, name) for name in letter.__struct_fields__ if name != "raw"}
    return fields | {"raw_base64": b64encode(letter.raw).decode(), "raw_text": _as_text(letter.raw)}


def export_line(case: LetterCase, letter: DeadLetter) -> str:
    return json.dumps({"id": case.id, "status": case.status, "redrives": case.redrives} | letter_as_json(letter))


def raw_text(raw: bytes) -> str:
    """As text where it is printable, else in hex."""
    text = _as_text(raw)
    return text if text is not None else raw.hex(" ")


def _printable(text: str) -> str:
    """A mapper's complaint may hold anything, a terminal's commands too."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _as_text(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char in "\n\r\t" for char in text) else None


def _history(fate: LetterFate) -> Iterable[tuple[str, str]]:
    yield fate.status, f"{_when(fate.time_ms)} by {fate.operation or '-'}"
    yield "redrives", str(fate.redrives)
    if fate.places:
        yield "went to", ", ".join(fate.places)
    if fate.why:
        yield "why", fate.why


def _quarantine(case: LetterCase) -> str:
    if case.status != "returned":
        return ""
    return ": it failed again where it went; it is redriven only with --again"


def _sum_as_json(each: LetterSum) -> dict[str, Any]:
    return {
        "reason": each.reason,
        "stage": each.stage,
        "topic": each.topic,
        **{status: each.by_status[status] for status in STATUSES},
        "first_ms": each.first_ms,
        "last_ms": each.last_ms,
        "remedy": each.remedy,
    }


def _case_as_json(case: LetterCase) -> dict[str, Any]:
    letter = case.newest
    return {
        "id": case.id,
        "status": case.status,
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time_ms": letter.time_ms,
        "user": letter.user,
        "run_id": letter.run_id,
        "times": case.times,
        "fate": msgspec.to_builtins(case.fate),
    }


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
