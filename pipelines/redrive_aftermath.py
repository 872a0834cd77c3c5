"""Before and after a redrive: does a job take records of this topic at all, and what came back."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.codec import Decoder
from schemas.validate import Rejection
from store.client import ShopperStore
from store.letters import LetterFate
from transforms.kafka_clients import KafkaSettings
from transforms.letter_box import Places, places, read_letters

LOOK_S = 1.5
"""A job moves its progress several times a second, also where nothing comes."""
POLL_S = 0.2
LOOK_AHEAD = 500
"""Records behind the progress: as many dead ones in a row stop a job."""


@dataclass(frozen=True)
class Standstill:
    """Records wait in a partition, and no job takes them."""

    topic: str
    partition: int
    offset: int
    end: int
    looked_at: int
    """Records read from there on."""
    dead: int
    """Of them, those that cannot be read."""

    def __str__(self) -> str:
        said = (
            f"no job tracks {self.topic} partition {self.partition}: it stands at offset {self.offset}, {self.end - self.offset:,} "
            f"records before the end; what is redriven waits behind them."
        )
        if self.dead * 2 > self.looked_at:
            said += (
                f" {self.dead} of the next {self.looked_at} records cannot be read: that stops a job (too many dead letters). Mend "
                f"its cause first, or start the job with --dead_letter_ratio=1 --dead_letter_run=0 to put them aside."
            )
        return said


def standstills(kafka: KafkaSettings, store: ShopperStore, decoder: Decoder) -> list[Standstill]:
    """Partitions of the namespace's topic that wait for a job. Takes LOOK_S where records wait. Raises KafkaException, TimeoutError."""
    pinned = store.pinned()
    if pinned is None:
        return []
    before = store.progress()
    applied: dict[int, int] = {}
    for (_, partition), each in before.items():
        applied[partition] = max(each.next_offset, applied.get(partition, 0))
    with places(kafka) as reading:
        bounds = reading.bounds(pinned.topic, sorted(applied))
        waiting = {partition: offset for partition, offset in applied.items() if offset < bounds[partition][1]}
        if not waiting:
            return []
        time.sleep(LOOK_S)
        now = store.progress()
        stand: list[Standstill] = []
        for partition, offset in sorted(waiting.items()):
            if all(now[where] == before.get(where) for where in now if where[1] == partition):
                begin, end = bounds[partition]
                values = _next_values(reading, pinned.topic, partition, max(begin, offset), end)
                dead = _unreadable(decoder, values)
                stand.append(Standstill(pinned.topic, partition, offset, end, len(values), dead))
        return stand


def _next_values(reading: Places, topic: str, partition: int, start: int, end: int) -> list[bytes | None]:
    records = reading.read(topic, {partition: start}, {partition: min(end, start + LOOK_AHEAD)})
    return [record.value() for record in records]


def _unreadable(decoder: Decoder, values: Sequence[bytes | None]) -> int:
    results = decoder.decode(values)
    return sum(isinstance(result, Rejection) and result.reason != "skipped" for result in results)


def wait_for_the_job(store: ShopperStore, given: Mapping[str, LetterFate], within_s: float) -> bool:
    """Whether the job has taken everything that was given again; False where it had not by then."""
    pinned = store.pinned()
    last: dict[int, int] = {}
    unread = False
    for fate in given.values():
        topic, partition, offset = _place(fate.places[-1])
        if pinned and topic == pinned.topic:
            last[partition] = max(last.get(partition, -1), offset)
        elif topic:
            unread = True  # nobody says whether a job takes it
    deadline = time.monotonic() + within_s
    while True:
        progress = store.progress()
        behind = [
            partition
            for partition, offset in last.items()
            if min((a.next_offset for (_, p), a in progress.items() if p == partition), default=0) <= offset
        ]
        if not behind:
            return not unread
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)


def came_back(kafka: KafkaSettings, dead_letter_topic: str, given: Mapping[str, LetterFate]) -> Counter[str]:
    """How many of what was given again are dead letters again, by reason."""
    box = read_letters(kafka, dead_letter_topic)
    return Counter(box.letters[fate.places[-1]].reason for fate in given.values() if fate.places[-1] in box.letters)


def _place(name: str) -> tuple[str, int, int]:
    """Of `TOPIC/PARTITION/OFFSET`; a request's (`run/RUN_ID`) is in no topic."""
    topic, *numbers = name.rsplit("/", 2)
    return (topic, int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else ("", -1, -1)
