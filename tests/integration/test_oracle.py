"""The oracle finds every kind of wrong, and none where there is none: states and requests as the product writes them."""

import copy
import dataclasses
import json
import random
from collections.abc import Callable

import pytest

from interest import TriggerPolicy
from local.tansu import Tansu
from local.valkey import Valkey
from schemas import BehaviourEvent
from schemas.codec import decoder_for
from store.client import NamespaceMeta, ShopperStore
from tests.integration.oracle import Record, Rule, Shopper, fold_log
from tests.integration.oracle_store import Stored, StoredRequest, StoredShopper, read_store
from tests.integration.verdict import judge
from transforms.batches import EventBatch
from transforms.dead_letter_limits import DeadLetterLimits
from transforms.dead_letters import DeadLetterWriter
from transforms.track_interest import Tracker

T0, HOUR_MS = 1_780_000_000_000, 3_600_000
POLICY = TriggerPolicy(drift=0.2)
RULE = Rule(POLICY.version, drift=0.2)


def history(seed: int) -> list[Record]:
    """60 shoppers, 1,500 records in 2 partitions, an hour; then one more of each, so that all that formed has fired."""
    rng, clock, records, offsets = random.Random(seed), T0, list[Record](), [0, 0]
    users = [f"shopper {rng.randrange(60)}" for _ in range(1_500)] + [f"shopper {number}" for number in range(60)]
    for number, user in enumerate(users):
        clock = T0 + 5 * HOUR_MS if number >= 1_500 else clock + rng.randrange(5_000)
        id = number - (rng.random() < 0.05)  # a few ids come twice
        event = {"id": f"e{id}", "user": user, "time_ms": clock - rng.randrange(3_000)}
        text = " ".join(rng.choices("laptop tv lego shoes red phone case".split(), k=rng.randint(1, 3)))
        if rng.random() < 0.5:
            event |= {"kind": "search", "query": text}
        else:
            event |= {"kind": "click", "item": {"id": "i", "title": text, "category": rng.choice(["Toys", "TV"])}}
        partition = sum(user.encode()) % 2
        records.append(Record(partition, offsets[partition], clock, json.dumps(event).encode()))
        offsets[partition] += 1
    return records


@pytest.fixture(scope="module")
def tracked(valkey: Valkey, tansu: Tansu) -> tuple[dict[str, Shopper], Stored]:
    """What the oracle expects of a history, and what the product makes of it in batches of random size."""
    records, namespace, rng = history(7), f"oracle-{random.randrange(1 << 40)}", random.Random(8)
    store = ShopperStore(valkey.url, namespace, 16)
    store.open(NamespaceMeta("behaviour", "id", 2, "murmur2", 16, 1, POLICY.version, POLICY.to_json()))
    store.begin("track")
    letters = DeadLetterWriter({"bootstrap.servers": tansu.bootstrap}, "letters")
    tracker = Tracker(store, POLICY, letters, DeadLetterLimits(), lambda *_: None)
    for partition in range(2):
        rest = [record for record in records if record.partition == partition]
        while rest:
            batch, rest = rest[: (size := rng.randint(1, 200))], rest[size:]
            events = decoder_for("json").decode([record.value for record in batch])
            offsets, clocks = [record.offset for record in batch], [record.ingest_ms for record in batch]
            assert all(isinstance(event, BehaviourEvent) for event in events)
            tracker.track(
                EventBatch("behaviour", "id", partition, offsets[0], offsets, clocks, events, offsets[-1] + 1)  # type: ignore[arg-type]
            )
    return fold_log(records, RULE, until_ms=0), read_store(valkey.url, namespace)


@pytest.fixture
def expected(tracked: tuple[dict[str, Shopper], Stored]) -> dict[str, Shopper]:
    return tracked[0]


@pytest.fixture
def stored(tracked: tuple[dict[str, Shopper], Stored]) -> Stored:
    """As if the model had answered each open request."""
    stored = copy.deepcopy(tracked[1])
    for request in stored.open_requests:
        stored.ended.append((request.run_id, request.user, "published"))
        stored.lists[request.user] = [(request.as_of_ms, 1, request.run_id)]
    stored.open_requests = []
    return stored


def test_the_product_and_the_oracle_agree_on_a_whole_topic(tracked: tuple[dict[str, Shopper], Stored]) -> None:
    verdict = judge(*tracked)
    assert set(verdict.wrong) == {"stuck"}, verdict  # nobody generates here
    assert verdict.behaviours > 1_400
    assert verdict.requests > 250
    assert verdict.close_calls <= 3


def test_a_finished_run_is_clean(expected: dict[str, Shopper], stored: Stored) -> None:
    verdict = judge(expected, stored)
    assert not verdict.wrong, verdict
    assert verdict.outcomes["published"] + verdict.outcomes["conflated"] == verdict.requests


def change(stored: Stored, **fields: object) -> None:
    user, shopper = next(iter(stored.shoppers.items()))
    stored.shoppers[user] = dataclasses.replace(shopper, **fields)  # type: ignore[arg-type]


def first(stored: Stored) -> StoredShopper:
    return next(iter(stored.shoppers.values()))


def swap_lists(stored: Stored) -> None:
    user, (newest,) = next((user, tuple(lists)) for user, lists in stored.lists.items())
    stored.lists[user] = [(newest[0] - 1, 1, "older"), newest]


def serve_a_conflated_one(stored: Stored) -> None:
    run_id, user, _ = next(end for end in stored.ended if end[2] == "conflated")
    stored.lists.setdefault(user, []).append((1, 1, run_id))


WRONGS: dict[str, tuple[str, Callable[[Stored], None]]] = {
    "a behaviour is gone": ("lost", lambda s: change(s, kept=first(s).kept[1:])),
    "shoppers are gone": ("lost", lambda s: s.shoppers.clear()),
    "the offset lags": ("lost", lambda s: change(s, offset=first(s).offset - 1)),
    "a behaviour is held twice": ("doubled", lambda s: change(s, kept=first(s).kept[:1] + first(s).kept)),
    "a shopper of nobody's records": ("doubled", lambda s: s.shoppers.update(stranger=first(s))),
    "a request never came about": (
        "never_fired",
        lambda s: s.ended.remove(next(e for e in s.ended if e[2] == "conflated")),
    ),
    "a request of no records": ("unfounded", lambda s: s.ended.append(("f" * 16, s.ended[0][1], "published"))),
    "a request ended twice": ("ended_twice", lambda s: s.ended.append((*s.ended[0][:2], "expired"))),
    "a request is open": ("stuck", lambda s: s.open_requests.append(StoredRequest("nobody", "0", 0, ()))),
    "the newest request was conflated": (
        "newest_missing",
        lambda s: s.ended.append((*next(e for e in s.ended if e[2] == "published")[:2], "conflated")),
    ),
    "an older list is served first": ("overwritten", swap_lists),
    "a list is served whose request ended conflated": ("overwritten", serve_a_conflated_one),
    "lists are gone": ("overwritten", lambda s: s.lists.clear()),
    "weights moved": ("interest", lambda s: change(s, weights={**first(s).weights, "tv": 9.0})),
    "evidence differs": ("interest", lambda s: change(s, evidence=first(s).evidence * (1 + 1e-6))),
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_the_oracle_names_what_is_wrong(wrong: str, expected: dict[str, Shopper], stored: Stored) -> None:
    kind, spoil = WRONGS[wrong]
    spoil(stored)
    assert kind in judge(expected, stored).wrong
