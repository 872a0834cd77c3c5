"""One retention for every place that holds shoppers' ids: what is older goes out of archive and store, and a topic that keeps its
records longer is named with the command that mends it. docs/archive.md has the places.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from pipelines.operation import running
from store.client import ShopperStore
from store.letters import LetterFate, LetterRegistry
from store.operations import Operations
from transforms.archive_overview import DAY_MS, Pruned, prune
from transforms.kafka_clients import KafkaSettings, TopicRetention, retention_of
from transforms.letter_box import LetterBox, NoSuchTopic, read_letters
from transforms.letter_cases import cases_of


class PruneAsked(msgspec.Struct, frozen=True):
    """What was asked for."""

    archive: str
    keep_days: float

    def before_ms(self) -> int:
        return int(time.time() * 1000) - int(self.keep_days * DAY_MS)


@dataclass(frozen=True)
class OldRecords:
    """What the store holds beside states and lists, older than it may be kept."""

    operations: tuple[str, ...]
    unfinished: tuple[str, ...]
    """Operations as old that have not ended: they stay, the same command would go on with them."""
    letters: tuple[str, ...]
    """Letters whose fate is known and that their topic does not hold any more."""
    requests: int
    """Ended ones in the namespace's list of them."""

    def said(self) -> list[str]:
        """What goes, in words."""
        counted = (
            (len(self.operations), "ended operations"),
            (len(self.letters), "fates of letters that are gone"),
            (self.requests, "ended requests"),
        )
        return [f"{count:,} {what}" for count, what in counted if count]


def old_records(store: ShopperStore, before_ms: int, box: LetterBox | None) -> OldRecords:
    """box: what the topic of dead letters holds now; None where nobody knows: then no fate may go, its letter would be open again."""
    old = [(o, p) for o, p in Operations(store.calls).list() if max(o.begun_ms, p.updated_ms) < before_ms]
    return OldRecords(
        tuple(operation.id for operation, progress in old if progress.ended),
        tuple(operation.id for operation, progress in old if not progress.ended),
        tuple(without_letter(LetterRegistry(store.calls).all(), box, before_ms)) if box is not None else (),
        sum(each.ended_ms < before_ms for each in store.outcomes()) if store.pinned() else 0,
    )


def without_letter(fates: Mapping[str, LetterFate], box: LetterBox, before_ms: int) -> Iterable[str]:
    there = {case.id for case in cases_of(box.letters, box.times, fates)}
    return (id for id, fate in fates.items() if fate.time_ms < before_ms and id not in there)


def prune_all(store: ShopperStore, asked: PruneAsked, box: LetterBox | None) -> tuple[list[Pruned], OldRecords]:
    """Takes away what is too old, under an operation. Given again after a kill it takes away what is left."""
    with running(store, "prune", asked) as run:
        before_ms = asked.before_ms()
        pruned = prune(asked.archive, asked.keep_days, execute=True)
        old = old_records(store, before_ms, box)
        Operations(store.calls).forget(old.operations)
        LetterRegistry(store.calls).forget(old.letters)
        if old.requests:
            store.forget_outcomes(before_ms)
        files = sum(each.files for each in pruned)
        counts = {"files": files, "operations": len(old.operations), "letters": len(old.letters)}
        run.save(counts=counts | {"ended requests": old.requests})
    return pruned, old


def letters_now(kafka: KafkaSettings, topic: str) -> LetterBox | None:
    """None where there is no such topic."""
    try:
        return read_letters(kafka, topic)
    except NoSuchTopic:
        return None


def kept_too_long(kafka: KafkaSettings, topics: Iterable[str], keep_days: float) -> list[str]:
    """What is wrong with the topics that exist, each with the command that mends it. Raises KafkaException."""
    found = {topic: retention_of(kafka, topic) for topic in topics}
    complaints = (complaint(t, each, keep_days, kafka["bootstrap.servers"]) for t, each in found.items() if each)
    return [each for each in complaints if each]


def complaint(topic: str, set_to: TopicRetention, keep_days: float, bootstrap: str) -> str:
    """Empty where the topic's records go in time.

    A broker deletes whole segments, by their newest record: the oldest one lives for up to retention.ms and segment.ms.
    """
    keep_ms = int(keep_days * DAY_MS)
    if set_to.deletes and set_to.retention_ms >= 0 and set_to.retention_ms + set_to.segment_ms <= keep_ms:
        return ""
    if not set_to.deletes:
        said = "keeps the newest record of every key for good (cleanup.policy=compact)"
    elif set_to.retention_ms < 0:
        said = "keeps records for good (retention.ms=-1)"
    else:
        retention, segment = set_to.retention_ms / DAY_MS, set_to.segment_ms / DAY_MS
        said = f"keeps records for up to {retention + segment:,.1f} days (retention.ms {retention:,.1f}, segment.ms {segment:,.1f})"
    segment_ms = max(1, min(set_to.segment_ms, keep_ms // 10))
    settings = f"retention.ms={max(0, keep_ms - segment_ms)},segment.ms={segment_ms}"
    if not set_to.deletes:
        settings += ",cleanup.policy=delete"
    return (
        f"topic {topic} {said}, longer than --keep-days {keep_days:g}: kafka-configs.sh --bootstrap-server {bootstrap} --alter "
        f"--entity-type topics --entity-name {topic} --add-config {settings}"
    )
