"""What a shopper costs in the server's memory."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from local.valkey import valkey as start_valkey
from schemas import QueryRun
from store.client import Fired, ShardSave, ShopperStore, StateChange
from store.codec import encode_run
from store.layout import shard_of
from tests.integration.stores import HOUR_MS, SHARDS, a_list, open_store

SHOPPERS = 1_000
STATE_BYTES = 1_600
MOST_BYTES = 4_500


def test_a_shopper_with_a_state_of_1600_bytes_and_three_lists_takes_less_than_4500_bytes(tmp_path: Path):
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvwy", k=draw.randint(4, 9))) for _ in range(3_000)]
    users = [f"shopper-{number:08d}" for number in range(SHOPPERS)]
    with start_valkey(tmp_path) as server:
        store = open_store(server.url, "live")
        client: Any = store.calls.client
        empty = client.info("memory")["used_memory"]
        for number in range(3):
            fire_all(store, users, draw, number)
            publish_all(store, words, draw)
        each = (client.info("memory")["used_memory"] - empty) / SHOPPERS
    assert each < MOST_BYTES, f"{each:.0f} bytes a shopper"


def fire_all(store: ShopperStore, users: list[str], draw: random.Random, number: int) -> None:
    saves = []
    for shard in range(SHARDS):
        names = [user for user in users if shard_of(user, SHARDS) == shard]
        changes = []
        for user, state in zip(names, store.load(shard, names), strict=True):
            fired = (Fired(f"{draw.getrandbits(64):016x}", 1_700_000_000_000 + number * HOUR_MS, b"change"),)
            token = state.token if state else b""
            changes.append(StateChange(user, token, draw.randbytes(STATE_BYTES), 1_700_000_000_000, fired))
        saves.append(ShardSave(shard, 0, number, number + 1, 1, changes))
    assert {result.status for result in store.save_many(saves)} == {"saved"}


def publish_all(store: ShopperStore, words: list[str], draw: random.Random) -> None:
    while claims := store.claim(500, HOUR_MS):
        lists = []
        for claim in claims:
            waiting = store.request(claim.user).leased
            assert waiting
            publication = a_list(claim.user, claim.run_id, waiting.as_of_ms)
            run = msgspec.msgpack.decode(publication.blob, type=QueryRun)
            run = msgspec.structs.replace(run, queries=tuple(" ".join(draw.choices(words, k=3)) for _ in range(10)))
            lists.append(replace(publication, blob=encode_run(run)))
        assert {result.outcome for result in store.publish_many(lists)} == {"published"}
