"""What passes by itself is waited for inside each call; what was lost is noticed; a repeated call changes nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local.ports import free_port
from local.valkey import Valkey
from store.client import Applied, Fired, NamespaceMeta, ShopperStore, StateChange, StoreRefused, StoreUnavailable
from tests.integration.stores import HOUR_MS, SHARDS, a_list, fire, new, open_store, put, users_of

ANN, BOB = users_of(1, 2)


class LossyLine:
    """A line to the store that carries requests on and, when told so, loses the answer and hangs up."""

    def __init__(self, server_port: int) -> None:
        self.carry_answers = 0
        """Of the next so many requests, before any is lost."""
        self.lose_answers = 0
        """Of so many requests then."""
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(1 << 20):
                if answers and self.carry_answers:
                    self.carry_answers -= 1
                elif answers and self.lose_answers:
                    self.lose_answers -= 1
                    break
                target.sendall(data)
        except OSError:
            pass  # the other direction has hung up
        finally:
            for line in (source, target):
                with suppress(OSError):  # hung up already
                    line.shutdown(socket.SHUT_RDWR)  # close() alone would leave the other thread waiting on it

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def line(valkey: Valkey) -> Iterator[LossyLine]:
    line = LossyLine(valkey.port)
    yield line
    line.close()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server that the test may kill, with an append-only file."""
    server = Valkey(tmp_path / "valkey", append_only=True)
    server.start()
    yield server
    server.close()


def after(seconds: float, action: Any) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


@pytest.fixture
def lossy(line: LossyLine, namespace: str) -> tuple[ShopperStore, list[str]]:
    """A store on the lossy line, and the calls it had to repeat."""
    retried: list[str] = []
    return open_store(line.url, namespace, on_retry=retried.append), retried


def test_a_save_whose_answer_was_lost_is_known_as_saved_at_the_second_try(line, lossy):
    store, retried = lossy
    line.lose_answers = 1
    result = store.save(1, 0, 0, 5, 70, [new(ANN, b"1", 5, Fired("a", 5, b"")), new(BOB)])
    assert (result.status, result.applied, retried) == ("saved", Applied(5, 70), ["save"])
    assert (store.state(ANN).blob, store.fired()) == (b"1", 1)
    line.lose_answers = 1
    assert store.save(1, 0, 5, 6, 71).status == "saved"  # a heartbeat
    assert store.save(1, 0, 5, 6, 71).status == "ahead"  # no second try, no excuse


def test_a_fire_whose_answer_was_lost_is_known_as_saved_at_the_second_try(line, lossy):
    store, retried = lossy
    put(store, new(ANN))
    (ann,) = store.load(1, [ANN])
    line.lose_answers = 1
    change = StateChange(ANN, ann.token, b"fired", None, (Fired("a", 5, b""),))
    assert store.fire(1, 0, [change]).status == "saved"
    assert (retried, store.fired(), store.fire(1, 0, [change]).status) == (["fire"], 1, "conflict")


def test_a_publication_whose_answer_was_lost_is_known_as_published_at_the_second_try(line, lossy):
    store, retried = lossy
    fire(store, ANN, "a", 10)
    store.claim(1, HOUR_MS)
    line.lose_answers = 1
    assert store.publish(a_list(ANN, "a", 10)).outcome == "published"
    assert (retried, store.counts()["published"], len(store.runs(ANN))) == (["publish"], 1, 1)


def test_a_finish_whose_answer_was_lost_is_counted_once(line, lossy):
    store, retried = lossy
    fire(store, ANN, "a", 10)
    line.lose_answers = 1
    assert store.finish(ANN, "a", "expired") is True
    assert (retried, store.counts()["expired"]) == (["finish"], 1)


def test_a_claim_whose_answer_was_lost_is_answered_at_the_second_try_with_what_it_took(line, lossy):
    store, retried = lossy
    fire(store, ANN, "a", 10)
    fire(store, BOB, "b", 20)
    line.carry_answers, line.lose_answers = 1, 1  # the look's answer comes, that of the taking is lost
    (claim,) = store.claim(1, HOUR_MS)
    assert (claim.run_id, claim.attempt, claim.blob, retried) == ("b", 1, b"change", ["claim"])
    assert store.depth()[:2] == (1, 1)
    assert [claim.run_id for claim in store.claim(5, HOUR_MS)] == ["a"]


def test_every_call_is_retried_until_a_restarted_server_answers(own_valkey, namespace):
    retries: list[str] = []
    store = open_store(own_valkey.url, namespace, on_retry=retries.append)
    put(store, new(ANN, b"kept"))
    time.sleep(1.5)  # appendfsync everysec
    own_valkey.kill()
    restart = after(0.4, own_valkey.start)
    assert put(store, new(BOB)).status == "saved"
    restart.join()
    assert [state.blob for state in store.load(1, [ANN, BOB])] == [b"kept", b"state"]
    assert retries


def test_a_server_that_stays_away_is_named_with_what_to_do(namespace):
    port = free_port()
    store = ShopperStore(f"redis://127.0.0.1:{port}", namespace, SHARDS, deadline_s=0.3)
    with pytest.raises(
        StoreUnavailable, match=rf"127.0.0.1:{port}: pointer got no answer in 0\.\d s .*valkey-cli"
    ) as error:
        store.load(1, [ANN])
    assert error.value.__cause__ is not None


def test_a_node_without_our_functions_gets_them(valkey, namespace):
    retries: list[str] = []
    store = open_store(valkey.url, namespace, on_retry=retries.append)
    client: Any = store.calls.client
    client.execute_command("FUNCTION DELETE", "aigq_v1")
    assert put(store, new(ANN)).status == "saved"
    assert retries == ["save"]


def test_an_error_that_no_retry_cures_is_raised_at_once(valkey, namespace):
    store = ShopperStore(valkey.tcp_url.replace("//", "//nobody:wrong@"), namespace, SHARDS)
    with pytest.raises(StoreRefused, match=r"//\*\*\*@.*username-password"):
        store.load(1, [ANN])


def test_a_server_out_of_memory_is_waited_for(own_valkey, namespace):
    store = open_store(own_valkey.url, namespace)
    client: Any = store.calls.client
    client.config_set("maxmemory", 1)
    room = after(0.3, lambda: ShopperStore(own_valkey.url, namespace).calls.client.config_set("maxmemory", 0))
    assert store.save(1, 0, 0, 1, 1, [new(ANN)]).status == "saved"
    room.join()


def test_an_older_append_only_file_is_noticed_by_every_shard_it_rolled_back(own_valkey, namespace, tmp_path):
    store = open_store(own_valkey.url, namespace)
    put(store, new(ANN, b"old"))
    client: Any = store.calls.client
    client.config_set("appendfsync", "always")
    store.save(2, 0, 0, 1, 10)
    own_valkey.copy_append_files(tmp_path / "older")
    put(store, StateChange(ANN, store.state(ANN).token, b"new", None))
    own_valkey.kill()
    own_valkey.restore_append_files(tmp_path / "older")
    own_valkey.start()
    result = store.save(1, 0, 2, 3, 20)
    assert (result.status, result.applied) == ("behind", Applied(1, 0))
    assert store.save(2, 0, 1, 2, 20).status == "saved"
    (ann,) = store.load(1, [ANN])
    assert ann.blob == b"old"
    assert store.save(1, 0, 1, 2, 20, [StateChange(ANN, ann.token, b"new", None)]).status == "saved"


def test_requests_and_leases_outlive_a_killed_server(own_valkey, namespace):
    store = open_store(own_valkey.url, namespace)
    client: Any = store.calls.client
    client.config_set("appendfsync", "always")
    fire(store, ANN, "a", 10)
    fire(store, BOB, "b", 20)
    (claim,) = store.claim(1, HOUR_MS)
    own_valkey.kill()
    own_valkey.start()
    assert claim.run_id == "b"
    assert store.publish(a_list(BOB, "b", 20)).outcome == "published"
    assert [claim.run_id for claim in store.claim(5, HOUR_MS)] == ["a"]


def test_two_jobs_that_open_a_namespace_at_once_agree_on_what_it_is_pinned_to(valkey, namespace):
    metas = [NamespaceMeta("behaviour", f"topic-{n}", 4, "murmur2", SHARDS, 1, "digest") for n in range(4)]
    opened: list[NamespaceMeta] = []

    def open_one(meta: NamespaceMeta) -> None:
        try:
            ShopperStore(valkey.url, namespace, SHARDS).open(meta)
        except Exception:
            return
        opened.append(meta)

    threads = [threading.Thread(target=open_one, args=(meta,)) for meta in metas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [ShopperStore(valkey.url, namespace).pinned()]
