"""Dead letters as an operator sees them: one case for each record or output, with all letters that it ever became and what was
done with it. Pure.

A record that is redriven gets a new place in its topic. If it fails there again, its new letter belongs to the same case, which is
then `returned`, and is not redriven again unless that is asked for: else it would go round for ever.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from store.letters import LetterFate
from transforms.dead_letters import REASONS
from transforms.letter_box import SeenLetter

CaseStatus = Literal["open", "redriven", "returned", "discarded"]
STATUSES: tuple[CaseStatus, ...] = ("open", "redriven", "returned", "discarded")


@dataclass(frozen=True, slots=True)
class LetterCase:
    """One record or output that could not be used."""

    id: str
    """Of its first letter; names it for good."""
    letters: tuple[SeenLetter, ...]
    """Its letters, oldest first; retention may have deleted the first ones."""
    fate: LetterFate | None
    times: int = 1
    """How often the newest letter was put aside."""

    @property
    def newest(self) -> SeenLetter:
        return self.letters[-1]

    @property
    def status(self) -> CaseStatus:
        if self.fate is None:
            return "open"
        if self.fate.status == "discarded":
            return "discarded"
        return "returned" if self.fate.places[-1:] == (self.newest.id,) else "redriven"

    @property
    def redrives(self) -> int:
        return self.fate.redrives if self.fate else 0

    @property
    def place(self) -> tuple[str, int, int]:
        return self.newest.topic, self.newest.partition, self.newest.offset


class LetterFilter(Struct, frozen=True, omit_defaults=True):
    """Which cases are meant; empty means all. It looks at a case's newest letter."""

    reasons: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    partitions: tuple[int, ...] = ()
    from_ms: int = 0
    to_ms: int | None = None
    """Wall clock at which the letter was written; half-open."""
    users: tuple[str, ...] = ()
    """Letters of stage decode name no shopper."""
    ids: tuple[str, ...] = ()
    """Of any letter of the case."""

    def errors(self) -> list[str]:
        wrong = [
            f"--reason {reason!r} is none; there are {', '.join(REASONS)}"
            for reason in self.reasons
            if reason not in REASONS
        ]
        wrong += [
            f"--stage {stage!r} is none; there are decode, track, generate"
            for stage in self.stages
            if stage not in ("decode", "track", "generate")
        ]
        if self.to_ms is not None and self.from_ms >= self.to_ms:
            wrong.append("the window is empty: --from must lie before --to")
        return wrong

    def holds(self, case: LetterCase) -> bool:
        letter = case.newest
        return (
            letter.reason in (self.reasons or (letter.reason,))
            and letter.stage in (self.stages or (letter.stage,))
            and letter.topic in (self.topics or (letter.topic,))
            and letter.partition in (self.partitions or (letter.partition,))
            and self.from_ms <= letter.time_ms
            and (self.to_ms is None or letter.time_ms < self.to_ms)
            and letter.user in (self.users or (letter.user,))
            and (not self.ids or case.id in self.ids or any(each.id in self.ids for each in case.letters))
        )


def cases_of(
    letters: Mapping[str, SeenLetter], times: Mapping[str, int], fates: Mapping[str, LetterFate]
) -> list[LetterCase]:
    """All cases, in the order of their newest letter's place in the log."""
    step = {place: number for fate in fates.values() for number, place in enumerate(fate.places)}
    first = {place: id for id, fate in fates.items() for place in fate.places}
    grouped: dict[str, list[SeenLetter]] = {}
    for letter in letters.values():
        grouped.setdefault(first.get(letter.id, letter.id), []).append(letter)
    cases = []
    for id, group in grouped.items():
        group.sort(key=lambda letter: step.get(letter.id, -1))
        cases.append(LetterCase(id, tuple(group), fates.get(id), times.get(group[-1].id, 1)))
    cases.sort(key=lambda case: case.place)
    return cases


@dataclass(frozen=True)
class LetterSum:
    """The cases of one reason, stage and topic."""

    reason: str
    stage: str
    topic: str
    by_status: Counter[CaseStatus]
    first_ms: int
    last_ms: int

    @property
    def to_do(self) -> int:
        """Cases that wait for a person."""
        return self.by_status["open"] + self.by_status["returned"]

    @property
    def remedy(self) -> str:
        reason = REASONS.get(self.reason)
        return reason.remedy if reason else "unknown to this version"


def sums_of(cases: Iterable[LetterCase]) -> list[LetterSum]:
    """One for each reason, stage and topic; those with most open cases first."""
    grouped: dict[tuple[str, str, str], list[LetterCase]] = {}
    for case in cases:
        grouped.setdefault((case.newest.reason, case.newest.stage, case.newest.topic), []).append(case)
    sums = [
        LetterSum(
            *about,
            Counter(case.status for case in group),
            min(case.newest.time_ms for case in group),
            max(case.newest.time_ms for case in group),
        )
        for about, group in grouped.items()
    ]
    return sorted(sums, key=lambda each: (-each.by_status["open"], each.reason, each.topic))
