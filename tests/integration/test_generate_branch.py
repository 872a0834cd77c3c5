"""The generate branch against a real store and broker; the engine is scripted, a model has tests of its own."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from inference.engine import GivenBack, Rejected
from inference.output import QueryRules
from inference.scripted_engine import TEN, ScriptedEngine, generated
from interest import EMPTY, Arrival, TriggerPolicy, due_ms, encode, fold
from local.prism import Prism
from local.tansu import Tansu
from local.valkey import Valkey
from schemas import BehaviourEvent, DeadLetter, QueryRun
from schemas.wire_avro import reader
from store.client import NamespaceMeta, ShopperStore, StateChange
from store.layout import shard_of
from tests.integration.reading import records_in
from transforms.claim_requests import Claimer, ClaimRequests
from transforms.drain import DRAINING
from transforms.generate_queries import GenerateQueries, Generation
from transforms.write_query_lists import ListWriter, ResultsTopic, WriteQueryLists

POLICY = TriggerPolicy()
SHARDS = 4
META = NamespaceMeta("behaviour", "topic-1", 1, "murmur2", SHARDS, 1, POLICY.version)
QUERIES = tuple(TEN.split(";; "))
read_run = reader(QueryRun)


@dataclass
class Letters:
    """Keeps what would go to the dead-letter topic (which has tests of its own)."""

    written: list[DeadLetter] = field(default_factory=list)

    def write(self, letters) -> None:
        self.written += letters


@dataclass
class Branch:
    """The three steps without a runner, on one store."""

    store: ShopperStore
    engine: ScriptedEngine
    letters: Letters
    generation: Generation
    claimer: Claimer
    writer: ListWriter

    def run_until(self, done: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not done():
            assert time.monotonic() < until, f"counts {self.store.counts()}, {self.store.depth()}"
            claims = self.claimer.next_batch()
            if claims is not None:
                self.generation.submit(claims)
                self.writer.write(self.generation.collect())

    def run_until_ended(self, **outcomes: int) -> None:
        self.run_until(lambda: {k: v for k, v in self.store.counts().items() if v} == outcomes)


def branch(
    store: ShopperStore, engine: ScriptedEngine, results: ResultsTopic | None = None, lease_s: float = 60, **claimer
) -> Branch:
    letters = Letters()
    generation = Generation(engine, store, letters, QueryRules(), lease_s, attempts=3)  # type: ignore[arg-type]
    return Branch(
        store, engine, letters, generation, Claimer(store, POLICY, generation, **claimer), ListWriter(store, results)
    )


@pytest.fixture
def store(valkey: Valkey, namespace: str) -> ShopperStore:
    store = ShopperStore(valkey.url, namespace, SHARDS, deadline_s=10)
    store.open(META)
    store.begin("track")
    store.begin("generate")
    return store


@pytest.fixture
def now_ms() -> int:
    return int(time.time() * 1000)


def shop(store: ShopperStore, users: list[str], at_ms: int, clock_ms: int, query: str = "red tv") -> None:
    """Each shopper searches at `at_ms`; the tracking has come to `clock_ms`."""
    offset = max((a.next_offset for a in store.applied(0).values()), default=0)
    for shard in range(SHARDS):
        changes = []
        for user in (u for u in users if shard_of(u, SHARDS) == shard):
            event = BehaviourEvent(f"{user}-{at_ms}", user, "search", at_ms, query=query)
            state = fold(EMPTY, event, Arrival(0, offset, at_ms), POLICY).state
            changes.append(StateChange(user, b"", encode(state), due_ms(state, POLICY)))
        assert store.save(shard, 0, offset, offset + 1, clock_ms, changes).status == "saved"


def a_second_ago(store: ShopperStore, users: list[str], now_ms: int) -> None:
    """Their changes came due a second ago, and nothing has fired them yet."""
    shop(store, users, now_ms - POLICY.settle_ms - 1_000, now_ms)


def test_a_silent_shoppers_change_comes_due_and_becomes_a_list(store: ShopperStore, now_ms: int):
    users = [f"u{n}" for n in range(50)]
    a_second_ago(store, users, now_ms)
    branch(store, ScriptedEngine()).run_until_ended(published=50)
    for user in users:
        (run,) = store.runs(user)
        assert run.queries == QUERIES
        assert (run.model_version, run.promotion, run.trigger_version) == ("scripted/1", 1, POLICY.version)
        assert run.as_of_ms == now_ms - 1_000
        assert run.newest_ms <= run.as_of_ms <= run.claimed_ms <= run.generated_ms <= run.stored_ms


def test_a_change_that_is_not_due_by_the_log_clock_does_not_fire(store: ShopperStore, now_ms: int):
    shop(store, ["early"], now_ms - 60_000, now_ms - 60_000 + POLICY.settle_ms)
    shop(store, ["late"], now_ms - 90_000, now_ms - 60_000 + POLICY.settle_ms)
    b = branch(store, ScriptedEngine(), catch_up_s=0)
    b.run_until_ended(published=1)
    b.run_until(lambda: b.claimer.next_batch() is None)
    assert store.runs("late")
    assert not store.runs("early"), "an event at exactly `due` would still belong to the list"


def test_prompts_hold_the_behaviours_of_the_change(store: ShopperStore, now_ms: int):
    prompts: list[str] = []

    def script(run_id: str, prompt: str):
        prompts.append(prompt)
        return generated()

    a_second_ago(store, ["u"], now_ms)
    branch(store, ScriptedEngine(script)).run_until_ended(published=1)
    assert "<1><now><search> red tv" in prompts[0]


def test_a_malformed_output_is_a_dead_letter_and_the_last_good_list_stays(store: ShopperStore, now_ms: int):
    a_second_ago(store, ["u"], now_ms)
    b = branch(store, ScriptedEngine())
    b.run_until_ended(published=1)
    b.engine.script = lambda run_id, prompt: generated("tv;; tv;; tv")
    state = store.state("u")
    assert state
    refired = fold(
        EMPTY,
        BehaviourEvent("other", "u", "search", now_ms - 3_500, query="lego"),
        Arrival(0, 1, now_ms - 3_500),
        POLICY,
    ).state
    store.fire(shard_of("u", SHARDS), 0, [StateChange("u", state.token, encode(refired), due_ms(refired, POLICY))])
    b.run_until_ended(published=1, malformed=1)
    assert [run.queries for run in store.runs("u")] == [QUERIES]
    (letter,) = b.letters.written
    assert (letter.stage, letter.reason, letter.user, letter.raw) == ("generate", "malformed", "u", b"tv;; tv;; tv")
    assert letter.detail.startswith("too_few")


def test_one_bad_prompt_never_fails_its_neighbours(store: ShopperStore, now_ms: int):
    users = [f"u{n}" for n in range(20)]
    a_second_ago(store, users, now_ms)
    first: list[str] = []

    def script(run_id: str, prompt: str):
        first.append(run_id)
        return Rejected("the prompt has 9000 tokens") if run_id == first[0] else generated()

    b = branch(store, ScriptedEngine(script))
    b.run_until_ended(published=19, malformed=1)
    assert [letter.run_id for letter in b.letters.written] == [first[0]]


def test_no_more_is_claimed_than_the_engine_has_room_for_and_the_newest_come_first(store: ShopperStore, now_ms: int):
    for number in range(10):
        shop(store, [f"u{number}"], now_ms - 20_000 + 1_000 * number, now_ms)
    b = branch(store, ScriptedEngine(lambda run_id, prompt: None, in_flight=3))
    b.run_until(lambda: store.depth().leased == 3)
    for _ in range(3):
        b.claimer.next_batch()
    assert store.depth().waiting == 7
    assert b.engine.state() == "busy"
    assert all(store.request(f"u{number}").leased for number in (7, 8, 9))


def test_requests_wait_in_the_store_while_the_engine_is_dead(store: ShopperStore, now_ms: int):
    a_second_ago(store, ["u"], now_ms)
    b = branch(store, ScriptedEngine())
    b.engine.forced_state = "dead"
    b.run_until(lambda: store.depth().waiting == 1)
    for _ in range(3):
        assert not b.claimer.next_batch()
    b.engine.forced_state = None
    b.run_until_ended(published=1)


def test_what_the_engine_gives_back_is_tried_again_and_after_three_times_put_aside(
    store: ShopperStore, now_ms: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("transforms.generate_queries.BACK_OFF_MS", 50)
    a_second_ago(store, ["u"], now_ms)
    tried: list[str] = []

    def script(run_id: str, prompt: str):
        tried.append(run_id)
        return GivenBack("the engine died")

    b = branch(store, ScriptedEngine(script))
    b.run_until_ended(exhausted=1)
    assert len(tried) == 3
    assert [letter.reason for letter in b.letters.written] == ["exhausted"]


def test_a_request_whose_worker_died_is_taken_over_when_its_lease_ends(store: ShopperStore, now_ms: int):
    a_second_ago(store, ["u"], now_ms)
    dead = branch(store, ScriptedEngine(lambda run_id, prompt: None), lease_s=0.5)
    dead.run_until(lambda: store.depth().leased == 1)
    branch(store, ScriptedEngine()).run_until_ended(published=1)


def test_a_lease_is_kept_while_the_request_is_in_flight(store: ShopperStore, now_ms: int):
    a_second_ago(store, ["u"], now_ms)
    slow = branch(store, ScriptedEngine(delay_s=2.0), lease_s=0.6)
    slow.run_until_ended(published=1)
    assert slow.engine.stats().generated == 1


def test_a_request_that_is_too_old_by_the_log_clock_expires(store: ShopperStore, now_ms: int):
    shop(store, ["old"], now_ms - 100_000, now_ms)
    shop(store, ["new"], now_ms - 10_000, now_ms)
    branch(store, ScriptedEngine(), max_age_s=60).run_until_ended(published=1, expired=1)
    assert store.runs("new")
    assert not store.runs("old")


def test_a_log_of_years_ago_is_not_too_old(store: ShopperStore):
    in_2011 = 1_300_000_000_000
    shop(store, ["u"], in_2011, in_2011 + 10_000)
    branch(store, ScriptedEngine(), max_age_s=60, catch_up_s=0.1).run_until_ended(published=1)


def test_claims_wait_while_the_tracking_catches_up_but_not_for_ever(store: ShopperStore, now_ms: int):
    shop(store, ["u"], now_ms - 3_600_000, now_ms - 3_500_000)
    patient = branch(store, ScriptedEngine(), catch_up_s=1_000)
    patient.run_until(lambda: store.depth().waiting == 1)
    for _ in range(3):
        assert not patient.claimer.next_batch()
    a_second_ago(store, ["other"], now_ms)  # it has caught up
    patient.run_until_ended(published=2)
    shop(store, ["v"], now_ms - 3_600_000, now_ms)
    branch(store, ScriptedEngine(), catch_up_s=0.2).run_until_ended(published=3)


def test_a_stored_list_is_in_the_results_topic_before_its_request_is_cleared(
    store: ShopperStore, tansu: Tansu, fresh_topic: Callable[..., str], now_ms: int
):
    topic = fresh_topic(tansu.bootstrap)
    users = [f"u{n}" for n in range(20)]
    a_second_ago(store, users, now_ms)
    results = ResultsTopic({"bootstrap.servers": tansu.bootstrap}, topic)
    branch(store, ScriptedEngine(), results).run_until_ended(published=20)
    produced = results_in(tansu.bootstrap, topic, 20)
    assert sorted(produced, key=lambda run: run.user) == sorted(
        (store.runs(user)[0] for user in users), key=lambda run: run.user
    )


def test_a_worker_that_dies_between_store_and_topic_leaves_nothing_out(
    store: ShopperStore, tansu: Tansu, fresh_topic: Callable[..., str], now_ms: int
):
    topic = fresh_topic(tansu.bootstrap)
    a_second_ago(store, ["u"], now_ms)

    class Dies(ResultsTopic):
        def produce(self, runs) -> None:
            raise KeyboardInterrupt

    kafka = {"bootstrap.servers": tansu.bootstrap}
    with pytest.raises(KeyboardInterrupt):
        branch(store, ScriptedEngine(), Dies(kafka, topic), lease_s=0.5).run_until(lambda: False)
    (stored,) = store.runs("u")
    other_text = TEN.replace("number", "No")
    again = branch(store, ScriptedEngine(lambda run_id, prompt: generated(other_text)), ResultsTopic(kafka, topic))
    again.run_until_ended(published=1)
    assert store.runs("u") == [stored], "the list that was stored first stays"
    assert results_in(tansu.bootstrap, topic, 1) == [stored]


OF_PROCESS: dict[str, object] = {}
"""Workers on Prism are threads of this process."""


def _claimer() -> Claimer:
    return OF_PROCESS["claimer"]  # type: ignore[return-value]


def _generation() -> Generation:
    return OF_PROCESS["generation"]  # type: ignore[return-value]


def _writer() -> ListWriter:
    return OF_PROCESS["writer"]  # type: ignore[return-value]


@pytest.fixture
def draining() -> Iterator[None]:
    yield
    DRAINING.clear()


def test_on_prism_every_request_becomes_a_list_and_a_drain_ends_the_job(
    store: ShopperStore, prism: Prism, now_ms: int, draining: None
):
    users = [f"u{n}" for n in range(300)]
    a_second_ago(store, users, now_ms)
    b = branch(store, ScriptedEngine(delay_s=0.3, in_flight=64))
    OF_PROCESS.update(claimer=b.claimer, generation=b.generation, writer=b.writer)
    pipeline = beam.Pipeline(options=PipelineOptions([*prism.options, "--streaming"]))
    _ = (
        pipeline
        | ClaimRequests(_claimer)
        | beam.ParDo(GenerateQueries(_generation))
        | beam.ParDo(WriteQueryLists(_writer))
        | beam.Filter(lambda _: False)
        | beam.Reshuffle()
        | beam.Map(print)
    )
    result = pipeline.run()
    until = time.monotonic() + 120
    while store.counts()["published"] < 300:
        assert time.monotonic() < until, store.counts()
        time.sleep(0.1)
    DRAINING.set()
    assert result.wait_until_finish(60_000) == "DONE"
    assert b.generation.in_flight == 0


def results_in(bootstrap: str, topic: str, count: int) -> list[QueryRun]:
    messages = records_in(bootstrap, topic, count)
    runs = [read_run(message.value()) for message in messages]  # type: ignore[arg-type]
    assert [message.key() for message in messages] == [run.user.encode() for run in runs]  # type: ignore[union-attr]
    return runs  # type: ignore[return-value]
