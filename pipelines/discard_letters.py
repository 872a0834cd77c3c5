"""Discard: an operator's decision that letters need no more care. They stay in Kafka; only what became of them is written down."""

import time
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from pipelines.operation import running
from store.client import ShopperStore
from store.letters import LetterFate, LetterRegistry
from transforms.letter_cases import LetterCase, LetterFilter

AT_ONCE = 500


class DiscardAsked(Struct, frozen=True):
    dead_letter_topic: str
    filter: LetterFilter
    why: str


def to_discard(cases: Sequence[LetterCase]) -> list[LetterCase]:
    """What has been neither redriven with success nor discarded before."""
    return [case for case in cases if case.status in ("open", "returned")]


def discard(store: ShopperStore, cases: Sequence[LetterCase], asked: DiscardAsked) -> str:
    """Marks the cases; returns the operation's id. Raises pipelines.operation.Stopped where it is cancelled."""
    registry = LetterRegistry(store.calls)
    with running(store, "discard", asked) as run:
        before = run.progress.done
        run.note(done=before, of=before + len(cases), now=True)
        for at in range(0, len(cases), AT_ONCE):
            some = cases[at : at + AT_ONCE]
            now = int(time.time() * 1000)
            fates = {
                case.id: replace(
                    case.fate or LetterFate("discarded", now),
                    status="discarded",
                    time_ms=now,
                    operation=run.id,
                    why=asked.why,
                )
                for case in some
            }
            registry.note(fates)
            done = before + at + len(some)
            run.note(checkpoint=some[-1].id, counts={"discarded": done}, done=done)
        return run.id
