"""Training-serving skew: the prompt that a live job's store gives at a moment, and the one in the sample of that moment, byte for byte."""

import json
import uuid
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Producer

from inference.prompt import build_prompt
from interest import behaviours_of, decode
from local import process
from local.kafka import Kafka
from local.topics import create_topics
from local.valkey import Valkey
from schemas import BehaviourEvent, Exposure, Item
from schemas.codec import encoder_for
from store.client import ShopperStore
from training.sample_files import read_cases, read_direct

T0 = 1_764_547_200_000
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
USERS = [f"u{n}" for n in range(12)]
QUERIES = [f"{colour} {thing}" for colour in ("Red", "blue", "old") for thing in ("shoes", "lamp", "sofa", "USB;hub")]
LOOKS = (T0 + 20 * HOUR_MS, T0 + 40 * HOUR_MS, T0 + 71 * HOUR_MS)
"""When everyone sees the home page. The last two lie on the test days."""


def log(seed: int) -> list[BehaviourEvent]:
    """Three days in order of arrival (`ingest_ms`). Clicks trail by up to 300 s, some across a look; some records come twice."""
    draw, found = Random(seed), []
    for number in range(1_400):
        time_ms, user, query = (
            T0 + number * (3 * DAY_MS - HOUR_MS // 2) // 1_400,
            draw.choice(USERS),
            draw.choice(QUERIES),
        )
        profile = {"age": str(20 + number % 7)} if draw.random() < 0.1 else {}
        item = None if draw.random() < 0.5 else Item("i", f"{query} {{deluxe}} {number}", query.split()[1])
        ingest_ms = time_ms + (0 if item is None else draw.randrange(300_001))
        kind = "search" if item is None else "click"
        text = query if item is None else ""
        found.append(BehaviourEvent(f"e{number}", user, kind, time_ms, text, item, ingest_ms, profile))
    for look in LOOKS:  # arrives at the look itself, or behind it, of a time before it: not seen
        found.append(BehaviourEvent(f"at {look}", "u1", "search", look - 5_000, "too late", ingest_ms=look))
        found.append(BehaviourEvent(f"after {look}", "u2", "search", look - 5_000, "too late", ingest_ms=look + 1))
        found.append(BehaviourEvent(f"before {look}", "u3", "search", look - 1, "in time", ingest_ms=look - 1))
    found.append(BehaviourEvent("forget", "u5", "erase", T0 + 30 * HOUR_MS, ingest_ms=T0 + 30 * HOUR_MS))
    found += draw.sample(found, 50)
    return sorted(found, key=lambda event: (event.ingest_ms or 0, event.id))


def produce(kafka: Kafka, topic: str, records: list) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random"})
    for record in records:
        producer.produce(topic, encoder_for(type(record))(record), record.user.encode())
    assert producer.flush(30) == 0


def run(folder: Path, *words: str) -> str:
    """`aigq WORDS`; its summary. The runner's connection may complain behind it when the process ends."""
    child = process.start(words[0], process.python("cli", *words), folder / f"{uuid.uuid4().hex[:6]}.log")
    try:
        assert child.wait(200) == 0, child.log_tail(40)
        return next(line for line in reversed(child.log.read_text().splitlines()) if line.startswith("{"))
    finally:
        child.kill()


@pytest.mark.timeout(600)
def test_the_live_store_and_the_samples_of_the_archive_give_the_same_prompts(
    kafka: Kafka, valkey: Valkey, namespace: str, tmp_path: Path
) -> None:
    topics = {name: f"{name}-{namespace}" for name in ("behaviour", "exposure")}
    create_topics(kafka.bootstrap, tuple(topics.values()), partitions=3)
    broker = (f"--bootstrap={kafka.bootstrap}", f"--topic={topics['behaviour']}", "--log_clock=ingest_ms", "--end=now")
    store = ShopperStore(valkey.url, namespace)
    events, begin, live = log(5), 0, dict[tuple[str, int], str]()
    for look in LOOKS:
        end = next(n for n, event in enumerate(events) if (event.ingest_ms or 0) >= look)
        produce(kafka, topics["behaviour"], events[begin:end])
        begin = end
        run(tmp_path, "run", "nearline", *broker, "--stages=track", "--results_topic=", "--dead_letter_topic=dead-letters", f"--store={valkey.tcp_url}", f"--namespace={namespace}", f"--group={namespace}")  # fmt: skip
        for user, stored in store.states(tuple(USERS)).items():
            state = decode(stored.blob)
            live[user, look] = build_prompt(state.profile, tuple(behaviours_of(state)), look)
    produce(kafka, topics["behaviour"], events[begin:])
    shown = [Exposure(f"{user} {look}", user, look, ("red shoes",), (0,), ranked=("blue lamp",)) for look in LOOKS for user in USERS]  # fmt: skip
    produce(kafka, topics["exposure"], shown)
    root, out = tmp_path / "archive", tmp_path / "samples"
    run(tmp_path, "run", "archive", *broker, f"--archive={root}", f"--exposure_topic={topics['exposure']}", "--results_topic=", f"--group=archive-{namespace}")  # fmt: skip
    told = run(tmp_path, "samples", f"--archive={root}", f"--out={out}", "--fewest_shoppers=2", "--shards=4")

    sampled = {
        (each.user, each.as_of_ms): each.prompt for split in ("train", "test") for each in read_direct(out, split)
    }
    forgotten = ("u5", LOOKS[0])
    assert sampled == {key: prompt for key, prompt in live.items() if key != forgotten}
    assert len(sampled) == len(USERS) * len(LOOKS) - 1
    cases = {(c.user, c.as_of_ms): build_prompt(c.profile, c.seen, c.as_of_ms) for c in read_cases(out)}
    assert len(cases) > len(USERS)
    assert cases.items() <= live.items()
    assert "in time" in sampled["u3", LOOKS[1]]
    assert not any("too late" in sampled[user, LOOKS[0]] for user in ("u1", "u2"))
    counts = json.loads(told)["summary"]
    assert (counts["events"], counts["exposures"]) == (len(events), len(shown))
    assert counts["dropped"]["event duplicate"] == 50
