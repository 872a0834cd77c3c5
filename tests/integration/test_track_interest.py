"""Tracking against a real store: whatever is read again, rolled back or raced, the states end as one fold in offset order."""

import random
from dataclasses import replace

import pytest

from interest import EMPTY, Arrival, TriggerPolicy, decode, due_ms, encode, expire, fold
from schemas import BehaviourEvent, DeadLetter, Item
from store.client import Applied, Fired, NamespaceMeta, ShopperStore, StateChange
from transforms.batches import EventBatch
from transforms.dead_letter_limits import DeadLetterLimits, TooManyDeadLetters
from transforms.track_interest import Tracker, encode_change

T0 = 1_700_000_000_000
POLICY = TriggerPolicy()
TOPIC_ID = "topic-1"


class Letters:
    """Keeps what would go to the dead-letter topic (which has tests of its own)."""

    def __init__(self) -> None:
        self.written: list[DeadLetter] = []

    def write(self, letters) -> None:
        self.written += letters


def history(seed: int, events: int = 400, users: int = 30) -> list[tuple[int, BehaviourEvent]]:
    """(log clock, event) of one partition."""
    r = random.Random(seed)
    clock, records = T0, []
    for number in range(events):
        clock += r.choice([0, 10, 200, 2_000, 9_000])
        user, text = (
            f"u{r.randrange(users)}",
            f"{r.choice(['red', 'blue', 'big'])} {r.choice(['tv', 'lego', 'shoes', 'lamp'])}",
        )
        id, time = f"e{r.randrange(number + 1)}", clock - r.choice([0, 0, 0, 60_000])
        if r.random() < 0.5:
            event = BehaviourEvent(id, user, "search", time, query=text)
        else:
            event = BehaviourEvent(id, user, "click", time, item=Item("i", text, text.split()[1]))
        records.append((clock, event))
    return records


def batch(
    records: list[tuple[int, BehaviourEvent]], start: int, end: int, progress_ms: int | None = None
) -> EventBatch:
    chosen = records[start:end]
    return EventBatch(
        "behaviour",
        TOPIC_ID,
        0,
        start,
        list(range(start, end)),
        [clock for clock, _ in chosen],
        [event for _, event in chosen],
        end,
        progress_ms,
    )


def expected(records: list[tuple[int, BehaviourEvent]]) -> tuple[dict, int]:
    """States and number of changes by folding one after another."""
    states, changes = {}, 0
    for offset, (clock, event) in enumerate(records):
        step = fold(states.get(event.user, EMPTY), event, Arrival(0, offset, clock), POLICY)
        states[event.user] = step.state
        changes += len(step.changes)
    return states, changes


@pytest.fixture
def store(valkey, namespace) -> ShopperStore:
    return opened(valkey.url, namespace)


def opened(url: str, namespace: str) -> ShopperStore:
    store = ShopperStore(url, namespace, shards=4, deadline_s=10)
    store.open(NamespaceMeta("behaviour", TOPIC_ID, 1, "murmur2", 4, 1, POLICY.version))
    store.begin("track")
    store.begin("generate")
    return store


def tracker(store: ShopperStore, rewinds: list | None = None, **limits) -> Tracker:
    return Tracker(
        store,
        POLICY,
        Letters(),
        DeadLetterLimits(**limits),
        lambda *where: (rewinds if rewinds is not None else []).append(where),
    )  # type: ignore[arg-type]


def states_in(store: ShopperStore, users) -> dict:
    return {user: decode(stored.blob) for user in users if (stored := store.state(user))}


@pytest.mark.parametrize("seed", range(3))
def test_any_batches_read_any_number_of_times_end_in_the_states_of_one_fold(store, seed):
    records, r = history(seed), random.Random(seed)
    current, at = tracker(store), 0
    while at < len(records):
        if r.random() < 0.2:
            current = tracker(store)  # the process was killed: a new one starts at the least applied offset
            at = min((a.next_offset for a in store.applied(0).values()), default=0)
        end = min(len(records), at + r.randrange(1, 60))
        current.track(batch(records, at, end))
        at = end if r.random() < 0.8 else max(0, end - r.randrange(60))
    current.track(batch(records, len(records), len(records)))
    states, changes = expected(records)
    assert states_in(store, states) == states
    assert store.fired() == changes
    assert {a.next_offset for a in store.applied(0).values()} == {len(records)}


def test_a_shard_that_lost_its_newest_saves_is_noticed_and_read_again(store, valkey):
    records, rewinds = history(5), []
    current = tracker(store, rewinds)
    current.track(batch(records, 0, 100))
    server = store.calls
    keys = list(server.one("keys", "KEYS", f"{store.namespace}:{{s002}}*"))
    before = {key: server.one("dump", "DUMP", key) for key in keys}
    current.track(batch(records, 100, 200))
    for key in server.one("keys", "KEYS", f"{store.namespace}:{{s002}}*"):
        server.one("del", "DEL", key)
    for key, value in before.items():
        server.one("restore", "RESTORE", key, 0, value)
    current.track(batch(records, 200, 300))
    assert rewinds == [("behaviour", 0, 100)]
    current.track(batch(records, 300, 400))  # already on its way when the reader was asked to go back
    for start in range(100, 400, 100):
        current.track(batch(records, start, start + 100))
    assert states_in(store, expected(records)[0]) == expected(records)[0]


def test_a_state_that_the_other_stage_changed_meanwhile_is_folded_again(store):
    first, second = (
        BehaviourEvent("a", "ann", "search", T0, query="tv"),
        BehaviourEvent("b", "ann", "search", T0, query="lego"),
    )
    current = tracker(store)
    current.track(batch([(T0, first)], 0, 1))
    load_many = store.load_many

    def load_then_fire(users):
        loaded = load_many(users)
        store.load_many = load_many  # type: ignore[method-assign]
        stored = store.state("ann")
        assert stored
        state, changes = expire(decode(stored.blob), "ann", T0 + 10_000, POLICY)
        fired = tuple(Fired(c.run_id, c.as_of_ms, encode_change(c)) for c in changes)
        shard = next(shard for shard, names in users.items() if "ann" in names)
        assert (
            store.fire(shard, 0, [StateChange("ann", stored.token, encode(state), due_ms(state, POLICY), fired)]).status
            == "saved"
        )
        return loaded

    store.load_many = load_then_fire  # type: ignore[method-assign]
    current.track(batch([(T0, first), (T0 + 10_000, second)], 1, 2))
    states, changes = expected([(T0, first), (T0 + 10_000, second)])
    assert states_in(store, ["ann"]) == states
    assert store.fired() == changes == 1


def test_time_that_passes_without_records_moves_progress_and_never_back(store):
    current = tracker(store)
    current.track(batch([], 0, 0, progress_ms=T0))
    assert {a.clock_ms for a in store.applied(0).values()} == {T0}
    late = (T0 - 10_000, BehaviourEvent("a", "ann", "search", T0, query="tv"))
    current.track(batch([late], 0, 1))
    assert states_in(store, ["ann"])["ann"].newest_ms == T0


def test_the_end_of_a_window_is_noted_by_every_shard_at_once(store):
    current = tracker(store)
    current.track(batch([], 0, 0, progress_ms=T0))
    current.track(batch([(T0 + 1, BehaviourEvent("a", "ann", "search", T0, query="tv"))], 0, 1))
    current.track(replace(batch([], 1, 1, progress_ms=T0 + 60_000), closing=True))
    assert set(store.applied(0).values()) == {Applied(1, T0 + 60_000)}


def test_a_record_that_breaks_the_fold_becomes_a_letter_and_its_shopper_alone_is_quarantined(store):
    broken = BehaviourEvent("x", "bob", "click", T0)  # a click without an item: the decoder lets none through
    records = [(T0, replace_user("ann", 0)), (T0, broken), (T0, replace_user("bob", 1)), (T0, replace_user("ann", 2))]
    current = tracker(store)
    current.track(batch(records, 0, 4))
    letters = current.letters.written  # type: ignore[attr-defined]
    assert [(letter.reason, letter.offset, letter.user) for letter in letters] == [
        ("broke_the_fold", 1, "bob"),
        ("quarantined", 2, "bob"),
    ]
    states = states_in(store, ["ann", "bob"])
    assert (states["ann"].texts, states["bob"].texts, states["bob"].broken_at) == ("word2word0", "", 1)


def test_a_version_that_breaks_on_every_record_stops_before_it_puts_a_topic_aside(store):
    broken = [(T0, BehaviourEvent(f"x{n}", f"u{n}", "click", T0)) for n in range(40)]
    current = tracker(store, run=5)
    with pytest.raises(TooManyDeadLetters, match=r"5 records in a row are dead.*cannot be folded in; offset"):
        current.track(batch(broken, 0, 40))
    assert len(current.letters.written) < 5  # type: ignore[attr-defined]


def replace_user(user: str, number: int) -> BehaviourEvent:
    return BehaviourEvent(f"n{number}", user, "search", T0, query=f"word{number}")


def test_a_partition_is_tracked_on_its_own(store):
    records = history(9, 50)
    current = tracker(store)
    current.track(batch(records, 0, 50))
    other = replace(batch([(T0, replace_user("zoe", 1))], 0, 1), partition=1)
    current.track(other)
    assert {a.next_offset for a in store.applied(1).values()} == {1}
    assert {a.next_offset for a in store.applied(0).values()} == {50}


def test_a_shard_without_events_for_a_while_is_not_left_behind(store):
    """Between two notes of progress a shard is saved only for events of its own; the offsets it skipped were not its own."""
    records = [(T0 + n, BehaviourEvent(f"e{n}", f"u{n % 7}", "search", T0 + n, query=f"red tv {n}")) for n in range(40)]
    current = tracker(store)
    for at in range(len(records)):
        current.track(batch(records, at, at + 1))
    states, _ = expected(records)
    assert states_in(store, states) == states
