"""Seeded shoppers who search and click in real time: the load under which faults are tried."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator

from confluent_kafka import KafkaError, Message, Producer

SUBJECTS = {
    "Laptops": "laptop 15 inch gaming ultrabook dell refurbished",
    "TV & Video": "tv 55 oled smart stand remote",
    "Toys": "lego castle robot puzzle doll",
    "Shoes": "red running shoes boots size 42",
    "Coffee": "coffee maker espresso grinder filter",
    "Phones": "phone case charger screen protector",
}
HOUR_MS = 3_600_000
ProducerClock = Callable[[random.Random, int], int]
"""(random, now in ms) -> the time that an event claims."""


def honest_clock(rng: random.Random, now_ms: int) -> int:
    """A few late ones, as phones send them."""
    return now_ms - (rng.choice((1_000, 60_000, 3 * HOUR_MS)) if rng.random() < 0.03 else rng.randrange(40))


def wrong_clocks(rng: random.Random, now_ms: int) -> int:
    """A tenth an hour ahead, a tenth a year behind."""
    return now_ms + rng.choice((HOUR_MS, -365 * 24 * HOUR_MS, *[0] * 8))


def events(seed: int, shoppers: int, clock: ProducerClock = honest_clock) -> Iterator[dict[str, object]]:
    """Endless: each shopper stays with a subject for a while, then turns to another one."""
    rng = random.Random(seed)
    subject_of = {f"shopper-{number}": rng.choice(list(SUBJECTS)) for number in range(shoppers)}
    number = 0
    while True:
        number += 1
        user = (
            rng.choice(list(subject_of)) if rng.random() < 0.8 else f"shopper-{rng.randrange(max(1, shoppers // 10))}"
        )
        if rng.random() < 0.15:
            subject_of[user] = rng.choice(list(SUBJECTS))
        category = subject_of[user]
        text = " ".join(rng.sample(SUBJECTS[category].split(), rng.randint(1, 3)))
        event: dict[str, object] = {
            "id": f"{seed}-{number}",
            "user": user,
            "time_ms": clock(rng, int(time.time() * 1000)),
        }
        if rng.random() < 0.5:
            event |= {"kind": "search", "query": text}
        else:
            event |= {"kind": "click", "item": {"id": f"i{rng.randrange(500)}", "title": text, "category": category}}
        if rng.random() < 0.1:
            event["profile"] = {"gender": rng.choice("FM")}
        yield event


class Load:
    """Produces events to a topic from a thread of its own until `stop()`. A broker that is away is waited for."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        seed: int,
        per_s: float = 200.0,
        shoppers: int = 300,
        clock: ProducerClock = honest_clock,
    ):
        self.produced: list[tuple[str, bytes]] = []
        """(shopper, value) in the order of production."""
        self._topic, self._per_s = topic, per_s
        self._events = events(seed, shoppers, clock)
        self._failed: list[KafkaError] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": 300_000,
                "reconnect.backoff.max.ms": 500,
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play, name="load")

    def start(self) -> "Load":
        self._thread.start()
        return self

    def stop(self) -> None:
        """Returns when all that was produced is acknowledged. Raises RuntimeError where something was not."""
        self._stopping.set()
        self._thread.join()
        left = self._producer.flush(120)
        if left or self._failed:
            raise RuntimeError(f"{left} events were not acknowledged, {len(self._failed)} failed: {self._failed[:1]}")

    @property
    def stopped(self) -> bool:
        return self._stopping.is_set()

    def again(self, window: list[tuple[str, bytes]]) -> None:
        """Produces these once more, in this order."""
        for user, value in window:
            self._produce(user, value)

    def _play(self) -> None:
        begun, sent = time.monotonic(), 0
        while not self._stopping.wait(0.01):
            for _ in range(int((time.monotonic() - begun) * self._per_s) - sent):
                event = next(self._events)
                user, value = str(event["user"]), json.dumps(event).encode()
                self.produced.append((user, value))
                self._produce(user, value)
                sent += 1
            self._producer.poll(0)

    def _produce(self, user: str, value: bytes) -> None:
        self._producer.produce(self._topic, value, user.encode(), on_delivery=self._note)

    def _note(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed.append(error)
