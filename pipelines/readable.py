"""Whether this command reads the log as the job does: what it is about to read is decoded once before it writes anything.

Commands that fold what the job has read pass over single dead records, whose letters the job wrote. Given without the job's
--mapper or --format they would pass over everything, and put in place a namespace without its shoppers. A decoding alone takes a
tenth of the time of the fold.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipelines.nearline import read_settings
from pipelines.operation import Running
from pipelines.options import NearlineSettings
from pipelines.track_into import draining_at_signals
from schemas import DeadLetter
from schemas.codec import decoder_for
from transforms.batches import RecordBatch
from transforms.dead_letter_limits import DeadLetterLimits, TooManyDeadLetters
from transforms.dead_letters import DeadLetterWriter
from transforms.decode_events import EventDecoder
from transforms.drain import DRAINING
from transforms.read_plan import ReadPlan
from transforms.read_through import read_through


class CountedLetters(DeadLetterWriter):
    """Writes none: counts them by reason, and keeps the first. A record that was blanked is none any more."""

    def __init__(self) -> None:
        super().__init__({}, "")
        self.reasons: Counter[str] = Counter()
        self.first: DeadLetter | None = None

    def write(self, letters: Sequence[DeadLetter]) -> None:
        told = [letter for letter in letters if letter.raw]
        self.reasons.update(letter.reason for letter in told)
        self.first = self.first or (told[0] if told else None)


def event_decoder(settings: NearlineSettings, letters: DeadLetterWriter | None = None) -> EventDecoder:
    """The job's decoder, for records whose letters were written when the job met them."""
    decode = decoder_for(settings.format, settings.schema_registry, settings.mapper)
    unlimited = DeadLetterLimits(1.0, 0)
    return EventDecoder(decode, letters or DeadLetterWriter({}, ""), unlimited, settings.log_clock)  # type: ignore[arg-type]


def check_readable(run: Running, settings: NearlineSettings, plan: ReadPlan, of: int) -> None:
    """Counts `records` and `unreadable` of a bounded read into the operation, as the first part of its work. `of`: all of it.

    Raises TooManyDeadLetters where a larger share than --dead_letter_ratio cannot be read; Stopped, ReadRefused.
    """
    letters, read = CountedLetters(), 0
    decoder = event_decoder(settings, letters)
    counts = dict(run.progress.counts)
    for batch in read_here(run, settings, plan):
        decoder.decode(batch)
        read += len(batch.offsets)
        counts |= {"records": read, "unreadable": letters.reasons.total()}
        run.note(counts=counts, done=read, of=of, waits=False)
    run.save(counts=counts)
    if letters.reasons.total() > settings.dead_letter_ratio * read:
        raise TooManyDeadLetters(_explain(settings, letters, read))


def read_here(run: Running, settings: NearlineSettings, plan: ReadPlan) -> Iterator[RecordBatch]:
    """Reads in this process, without a group. Raises Interrupted where a signal ends it."""
    with draining_at_signals():
        yield from read_through(replace(read_settings(settings), group=""), plan)
        if DRAINING.is_set():
            run.stopped()


def _explain(settings: NearlineSettings, letters: CountedLetters, read: int) -> str:
    unreadable, first = letters.reasons.total(), letters.first
    assert first is not None
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in letters.reasons.most_common(3))
    names = ("mapper", "format", "schema_registry", "log_clock")
    given = " ".join(f"--{name}={getattr(settings, name) or 'none'}" for name in names)
    return (
        f"{unreadable:,} of {read:,} records of topic {settings.topic} cannot be read ({reasons}; the first is partition "
        f"{first.partition} offset {first.offset}: {first.reason}, {first.detail}), and --dead_letter_ratio is "
        f"{settings.dead_letter_ratio:g}. Nothing was written. They were read with {given}: give what the job is started with. "
        f"If it too has put them aside, --dead_letter_ratio=1 passes over them"
    )
