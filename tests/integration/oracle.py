"""What a topic's records should have come to: the rule of docs/interest.md, written a second time.

It shares no code with the product on purpose, so that a slip in one writing shows as a difference between the two. One
record after the other, no batches, no packing; weights fade with every behaviour where the product lets them grow.
"""

import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

CLOSE = 1e-9
"""Two writings of one sum differ by rounding. A decision that hangs by less than this may fall either way."""
FOR_EVER_MS = 1 << 60
STOP_WORDS = set("a an and at by for from in is it of on or the to with w".split())


@dataclass(frozen=True)
class Rule:
    """The numbers of the rule, by the names that docs/interest.md uses."""

    trigger_version: str
    drift: float = 0.6
    evidence: float = 0.9
    settle_ms: int = 3_000
    max_wait_ms: int = 15_000
    cooldown_ms: int = 30_000
    half_life_ms: int = 43_200_000
    search_weight: float = 1.0
    click_weight: float = 0.5
    category_share: float = 0.5
    interests_kept: int = 24
    terms_per_behaviour: int = 8
    behaviours_kept: int = 50
    horizon_ms: int = 7_776_000_000


@dataclass(frozen=True)
class Record:
    partition: int
    offset: int
    ingest_ms: int
    value: bytes


@dataclass(frozen=True, order=True)
class Kept:
    """A behaviour that a shopper's state should hold."""

    time_ms: int
    id: int
    kind: str
    text: str
    category: str


@dataclass(frozen=True)
class Due:
    """A request that should have been fired."""

    run_id: str
    as_of_ms: int
    behaviours: tuple[Kept, ...]
    profile: dict[str, str]
    drift: float
    evidence: float


@dataclass
class Shopper:
    """One shopper as the records so far make them."""

    user: str
    partition: int = -1
    offset: int = -1
    clock_ms: int = 0
    kept: list[Kept] = field(default_factory=list)
    floor: tuple[int, int] | None = None
    weights: dict[str, float] = field(default_factory=dict)
    faded_to_ms: int = 0
    base: dict[str, float] = field(default_factory=dict)
    evidence: float = 0.0
    started_ms: int | None = None
    newest_ms: int = 0
    fired_ms: int | None = None
    profile: dict[str, str] = field(default_factory=dict)
    erased_ms: int | None = None
    requests: list[Due] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    close_calls: list[str] = field(default_factory=list)
    """Decisions within rounding, with their offset: from there on the two writings may differ without a fault."""


def fold_log(
    records: Iterable[Record], rule: Rule, until_ms: int | None = None, change: tuple[int, Rule] | None = None
) -> dict[str, Shopper]:
    """Every shopper of the topic. `until_ms` is the log clock reached after the last record; None: all that forms has fired.
    change: from this log clock on another rule holds."""
    shoppers: dict[str, Shopper] = {}
    clocks: dict[int, int] = {}

    def rule_at(clock: int, shopper: Shopper) -> Rule:
        if change is None or clock < change[0]:
            return rule
        fire(shopper, change[0], rule)  # what was due before it
        return change[1]

    for record in sorted(records, key=lambda r: (r.partition, r.offset)):
        clock = clocks[record.partition] = max(clocks.get(record.partition, 0), record.ingest_ms)
        event = json.loads(record.value)
        shopper = shoppers.setdefault(event["user"], Shopper(event["user"]))
        outcome = take(shopper, event, record, clock, rule_at(clock, shopper))
        shopper.outcomes[outcome] = shopper.outcomes.get(outcome, 0) + 1
    for shopper in shoppers.values():
        clock = FOR_EVER_MS if until_ms is None else max(until_ms, clocks[shopper.partition])
        fire(shopper, clock, rule_at(clock, shopper))
    return shoppers


def take(shopper: Shopper, event: dict[str, Any], record: Record, clock: int, rule: Rule) -> str:
    """One record of a shopper, by the thirteen steps of docs/interest.md. Returns what became of it."""
    if shopper.partition not in (-1, record.partition):
        return "wrong_partition"
    if record.offset <= shopper.offset:
        return "duplicate"
    fire(shopper, clock, rule)
    shopper.partition, shopper.offset, shopper.clock_ms = record.partition, record.offset, clock
    if event["kind"] == "erase":
        requests, outcomes, close_calls = shopper.requests, shopper.outcomes, shopper.close_calls
        shopper.__init__(shopper.user, record.partition, record.offset, clock, erased_ms=clock)
        shopper.requests, shopper.outcomes, shopper.close_calls = requests, outcomes, close_calls
        return "erased"
    item = event.get("item") or {}
    is_search = event["kind"] == "search"
    behaviour = Kept(
        min(max(event["time_ms"], 0), clock),
        int.from_bytes(blake2b(event["id"].encode(), digest_size=6).digest(), "big"),
        event["kind"],
        event.get("query", "") if is_search else item["title"],
        "" if is_search else item.get("category", ""),
    )
    if any(behaviour.id == kept.id for kept in shopper.kept):
        return "duplicate"
    place = (behaviour.time_ms, behaviour.id)
    if shopper.erased_ms is not None and not behaviour.time_ms > shopper.erased_ms:
        return "before_erasure"
    if behaviour.time_ms < clock - rule.horizon_ms or (shopper.floor is not None and place <= shopper.floor):
        return "too_late"
    _keep(shopper, behaviour, clock, rule)
    weight = rule.search_weight if is_search else rule.click_weight
    _weigh(shopper, behaviour, weight, rule)
    shopper.evidence += weight * 2.0 ** ((behaviour.time_ms - clock) / rule.half_life_ms)
    shopper.profile = event.get("profile") or shopper.profile
    moved = total_variation(shopper)
    if shopper.evidence >= rule.evidence and abs(moved - rule.drift) < CLOSE:
        shopper.close_calls.append(f"offset {record.offset}: drift {moved!r}")
    if shopper.evidence >= rule.evidence and moved >= rule.drift:
        shopper.started_ms = clock if shopper.started_ms is None else shopper.started_ms
        shopper.newest_ms = clock
    else:
        shopper.started_ms = None
    return "folded"


def fire(shopper: Shopper, clock: int, rule: Rule) -> None:
    """The forming change becomes a request where its due time lies before the clock."""
    if shopper.started_ms is None:
        return
    due = min(shopper.newest_ms + rule.settle_ms, shopper.started_ms + rule.max_wait_ms)
    if shopper.fired_ms is not None:
        due = max(due, shopper.fired_ms + rule.cooldown_ms)
    if not due < clock:
        return
    run_id = blake2b(f"{shopper.user}\x1f{due}\x1f{rule.trigger_version}".encode(), digest_size=8).hexdigest()
    shopper.requests.append(
        Due(run_id, due, tuple(shopper.kept), shopper.profile, total_variation(shopper), shopper.evidence)
    )
    shopper.base, shopper.evidence = shares(shopper.weights), 0.0
    shopper.started_ms, shopper.fired_ms = None, due


def shares(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {part: weight / total for part, weight in weights.items()} if total else {}


def total_variation(shopper: Shopper) -> float:
    """How much of the interest moved since the last firing; nothing where nothing is held, all where there was none."""
    now, before = shares(shopper.weights), shopper.base
    if not now or not before:
        return 1.0 if now else 0.0
    return sum(abs(now.get(part, 0.0) - before.get(part, 0.0)) for part in now.keys() | before.keys()) / 2


def _keep(shopper: Shopper, behaviour: Kept, clock: int, rule: Rule) -> None:
    everything = sorted([*shopper.kept, behaviour], key=lambda kept: (kept.time_ms, kept.id))
    young = [kept for kept in everything if kept.time_ms >= clock - rule.horizon_ms]
    shopper.kept = young[-rule.behaviours_kept :]
    for gone in everything[: len(everything) - len(shopper.kept)]:
        shopper.floor = max(shopper.floor or (0, 0), (gone.time_ms, gone.id))


def _weigh(shopper: Shopper, behaviour: Kept, weight: float, rule: Rule) -> None:
    words = [word for word in re.findall(r"\w+", behaviour.text.lower()) if len(word) >= 2 and word not in STOP_WORDS]
    terms = list(dict.fromkeys(words))[: rule.terms_per_behaviour]
    spread: dict[str, float] = {}
    if behaviour.category:
        spread[f"#{behaviour.category}"] = rule.category_share if terms else 1.0
    for term in terms:
        spread[term] = (1 - rule.category_share if behaviour.category else 1) / len(terms)
    if behaviour.time_ms > shopper.faded_to_ms or not shopper.weights:
        fade = 2.0 ** -((behaviour.time_ms - shopper.faded_to_ms) / rule.half_life_ms) if shopper.weights else 1.0
        shopper.weights = {part: held * fade for part, held in shopper.weights.items()}
        shopper.faded_to_ms = behaviour.time_ms
    amount = weight * 2.0 ** ((behaviour.time_ms - shopper.faded_to_ms) / rule.half_life_ms)
    for part, share in spread.items():
        shopper.weights[part] = shopper.weights.get(part, 0.0) + amount * share
    too_many = rule.interests_kept * 4 // 3
    if len(shopper.weights) > too_many:
        ranked = sorted(shopper.weights.items(), key=lambda held: (-held[1], held[0]))
        last = ranked[rule.interests_kept - 1][1]
        nearly = [held for _, held in ranked if held != last and abs(held - last) < CLOSE * last]
        if nearly:
            shopper.close_calls.append(f"offset {shopper.offset}: weights {last!r} and {nearly!r}")
        staying = [(part, held) for part, held in ranked if held >= last]
        shopper.weights = dict(staying if len(staying) <= too_many else ranked[: rule.interests_kept])


def shard_of(user: str, shards: int) -> int:
    return zlib.crc32(user.encode()) % shards


def read_topic(bootstrap: str, topic: str, within_s: float = 60.0) -> list[Record]:
    """All records that the topic holds now. Raises TimeoutError where the broker does not hand them out in time."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "oracle", "enable.partition.eof": True})
    try:
        partitions = consumer.list_topics(topic, timeout=within_s).topics[topic].partitions
        open_ends, records, begin = set(), [], []
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=within_s)
            begin.append(TopicPartition(topic, partition, low))
            if high > low:
                open_ends.add(partition)
        consumer.assign(begin)
        while open_ends:
            message = consumer.poll(within_s)
            if message is None:
                raise TimeoutError(f"{topic}: partitions {open_ends} ended nowhere within {within_s:g} s")
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                open_ends.discard(message.partition())
            elif error is not None:
                raise TimeoutError(f"{topic}: {error}")
            elif (value := message.value()) is not None:
                records.append(Record(message.partition() or 0, message.offset() or 0, message.timestamp()[1], value))
        return records
    finally:
        consumer.close()
