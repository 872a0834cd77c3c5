"""A rare shopper's words never become another's hint: from requests through vLLM, or a server without our rules, into the store."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from inference.allow_list import FILE_NAME, NONE, AllowedQuery, AllowList
from inference.engine import Engine, ServedModel
from inference.local_engine import LocalEngine
from inference.output import QueryRules, near_duplicates, normalise
from inference.replica import VllmSettings
from inference.scripted_engine import ScriptedEngine, generated
from local.valkey import Valkey
from pipelines.build_allow_list import build_allow_list
from schemas import BehaviourEvent
from store.client import ShopperStore
from tests.integration.test_generate_branch import META, POLICY, SHARDS, Branch, Letters, a_second_ago, shop
from tests.pipelines.test_build_allow_list import archive
from transforms import metrics
from transforms.claim_requests import Claimer
from transforms.generate_queries import Generation
from transforms.write_query_lists import ListWriter

SHIPPED = Path(__file__).parents[2] / "models" / "aigq-small"
SEARCHES = "laptop;tv stand;wireless mouse;iphone case;washer;headphones;gaming chair;hdmi cable;camera;blender".split(
    ";"
)
pytestmark = pytest.mark.timeout(1_200)


@pytest.fixture
def store(valkey: Valkey, namespace: str) -> ShopperStore:
    return new_store(valkey, namespace)


def new_store(valkey: Valkey, namespace: str) -> ShopperStore:
    store = ShopperStore(valkey.url, namespace, SHARDS, deadline_s=10)
    store.open(META)
    store.begin("track")
    store.begin("generate")
    return store


def branch(store: ShopperStore, engine: Engine, allow_list: str) -> Branch:
    letters = Letters()
    generation = Generation(engine, store, letters, QueryRules(), allow_list=allow_list)  # type: ignore[arg-type]
    claimer = Claimer(store, POLICY, generation, catch_up_s=0)
    return Branch(store, engine, letters, generation, claimer, ListWriter(store, None))  # type: ignore[arg-type]


def lists_by_vllm(store: ShopperStore, bundle: Path, allow_list: str) -> dict[str, tuple[str, ...]]:
    """The stored list of each shopper, one for each of SEARCHES."""
    now_ms = int(time.time() * 1000)
    for user, query in enumerate(SEARCHES):
        shop(store, [f"u{user}"], now_ms - POLICY.settle_ms - 1_000, now_ms, query)
    model = ServedModel(str(bundle), bundle.name, 1, "1")
    engine = LocalEngine(lambda: model, VllmSettings(kv_cache_mb=64, allow_list=allow_list))
    try:
        until = time.monotonic() + 400
        while engine.state() != "ready":
            assert time.monotonic() < until
            time.sleep(0.1)
        b = branch(store, engine, allow_list)
        b.run_until(lambda: sum(store.counts().values()) == len(SEARCHES))
    finally:
        engine.close()
    return {f"u{n}": runs[0].queries for n in range(len(SEARCHES)) if (runs := store.runs(f"u{n}"))}


def searches(query: str, shoppers: int) -> list[BehaviourEvent]:
    return [BehaviourEvent(f"{query} {n}", f"s{n}", "search", 1_763_949_600_000, query=query) for n in range(shoppers)]


def test_what_fewer_shoppers_searched_is_never_in_anyones_list(valkey: Valkey, namespace: str, tmp_path: Path):
    """Every other query that the shipped model writes freely is made a rare one; nothing else of its world changes."""
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED / "3", bundle)
    (bundle / FILE_NAME).unlink()
    free = lists_by_vllm(new_store(valkey, f"{namespace}.free"), bundle, "auto")  # the bundle has no list now
    written = sorted({normalise(query) for queries in free.values() for query in queries})
    rare, usual = written[::2], written[1::2]
    assert len(rare) >= 10
    events = [event for query in rare for event in searches(query, 4)]
    events += [event for query in usual for event in searches(query, 5)]
    build_allow_list(archive(tmp_path / "archive", events)).allowed.write(bundle / FILE_NAME)

    lists = lists_by_vllm(new_store(valkey, f"{namespace}.allowed"), bundle, "auto")
    assert set(lists) == set(free), "each shopper has one"
    shown = {normalise(query) for queries in lists.values() for query in queries}
    assert not shown & set(rare)
    assert shown <= set(usual)
    for queries in lists.values():
        words = [frozenset(normalise(query).split()) for query in queries]
        assert len(words) >= QueryRules.fewest
        assert not any(near_duplicates(a, b) for i, a in enumerate(words) for b in words[:i])
    again = lists_by_vllm(new_store(valkey, f"{namespace}.none"), bundle, NONE)
    assert again == free, "without it the model writes as before"


def allow(path: Path, queries: Sequence[str]) -> str:
    AllowList.of(AllowedQuery(normalise(query), query, 5) for query in queries).write(path)
    return str(path)


def test_a_server_without_our_rules_cannot_bring_a_rare_query_into_the_store(store: ShopperStore, tmp_path: Path):
    supported = [f"tv {n}" for n in range(6)]
    text = ";;".join([*supported[:3], "anna kowalska diary", *supported[3:]])
    a_second_ago(store, ["u"], int(time.time() * 1000))
    before = metrics.DROPPED.labels("unsupported")._value.get()
    b = branch(store, ScriptedEngine(lambda run_id, prompt: generated(text)), allow(tmp_path / "list", supported))
    b.run_until_ended(published=1)
    (run,) = store.runs("u")
    assert run.queries == tuple(supported)
    assert metrics.DROPPED.labels("unsupported")._value.get() == before + 1
    assert metrics.ALLOWED._value.get() == 6


def test_where_too_few_allowed_queries_are_left_the_request_ends_malformed(store: ShopperStore, tmp_path: Path):
    supported = [f"tv {n}" for n in range(6)]
    a_second_ago(store, ["u"], int(time.time() * 1000))
    text = ";;".join([*supported[:4], *(f"rare {n}" for n in range(6))])
    b = branch(store, ScriptedEngine(lambda run_id, prompt: generated(text)), allow(tmp_path / "list", supported))
    b.run_until_ended(malformed=1)
    assert not store.runs("u")
    assert "4 good queries of at least 5; dropped: unsupported" in b.letters.written[0].detail
