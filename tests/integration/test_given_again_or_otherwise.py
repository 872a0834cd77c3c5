"""Replay, rebuild and promotion that are given other options than the job, or again after they failed: nothing is put in place that
the log does not say. The log is an archive; runner and store are real."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.exits import exit_status
from interest import FOLD_VERSION, TriggerPolicy, behaviours_of, decode, encode
from local.prism import Prism
from local.valkey import Valkey
from pipelines import rebuild as rebuilding
from pipelines import replay as replaying
from pipelines.operation import Interrupted, Window, running
from pipelines.options import NearlineSettings
from pipelines.promote import promote
from pipelines.readable import check_readable
from pipelines.rebuild import CountsDiffer, rebuild
from pipelines.replay import plan_replay, preview, replace_read, replay
from schemas import BehaviourEvent
from store.client import NamespaceMeta, ShopperStore, StateChange
from store.layout import shard_of
from store.namespaces import NamespaceInUse, Namespaces
from store.operations import Operation, OperationProgress, Operations
from tests.integration.sample_archives import archive_events, of_events
from tests.integration.typed import typed
from transforms.dead_letter_limits import TooManyDeadLetters
from transforms.read_plan import plan_read

T0 = 1_763_949_600_000
MINUTE_MS = 60_000
USERS = [f"shopper-{number}" for number in range(6)]
A_PERSON = 3
THINGS = ("laptop", "tripod", "kettle", "sofa", "camera", "printer", "blender", "tent", "guitar", "drill")


class Nothing(msgspec.Struct, frozen=True):
    """Asked for."""


@dataclass
class Shop:
    """A namespace that a job has opened and read nothing into, and the log that it would read."""

    settings: NearlineSettings
    argv: list[str]
    minutes: int = 0

    @property
    def live(self) -> ShopperStore:
        return ShopperStore(self.settings.store, self.settings.namespace)

    @property
    def names(self) -> Namespaces:
        return Namespaces(self.live.calls)

    def search(self, minutes: int) -> None:
        """So many more, by every shopper one a minute."""
        self.minutes += minutes
        logs: list[list[tuple[int, BehaviourEvent]]] = [[], []]
        for minute in range(self.minutes):
            for number, user in enumerate(USERS):
                at = T0 + minute * MINUTE_MS
                event = BehaviourEvent(f"{user}-{minute}", user, "search", at, query=THINGS[minute])
                logs[number % 2].append((at, event))
        archive_events(Path(self.settings.archive), *map(of_events, logs))

    def window(self, begin: int, end: int) -> Window:
        return Window(T0 + begin * MINUTE_MS, T0 + end * MINUTE_MS)

    def behaviours(self, namespace: str) -> dict[str, list[str]]:
        store = ShopperStore(self.settings.store, namespace)
        return {user: [each.text for each in behaviours_of(decode(s.blob))] for user, s in store.scan_states()}

    def all_behaviours(self) -> dict[str, list[str]]:
        return {user: list(THINGS[: self.minutes]) for user in USERS}

    def ours(self) -> set[str]:
        return {name for name in self.names.names() if name.startswith(self.settings.namespace)}

    def last(self) -> tuple[Operation, OperationProgress]:
        return next(each for each in Operations(self.live.calls).list() if each[0].namespace == self.live.name)

    def replay(self, into: str, **changed: Any) -> str:
        return replay(replace(self.settings, **changed), self.live, self.window(3, 7), into, self.argv)


@pytest.fixture
def shop(valkey: Valkey, prism: Prism, namespace: str, tmp_path: Path) -> Shop:
    settings = NearlineSettings(
        store=valkey.url, namespace=namespace, archive=str(tmp_path), results_topic="", stages="track", shards=2
    )
    policy = TriggerPolicy(drift=0.1, evidence=1.0, settle_ms=1_000, max_wait_ms=30_000, cooldown_ms=1_000)
    identity = ("behaviour", "behaviour-1", 2, "murmur2", 2, FOLD_VERSION)
    ShopperStore(valkey.url, namespace, 2).open(NamespaceMeta(*identity, policy.version, policy.to_json()))
    made = Shop(settings, prism.options)
    made.search(10)
    return made


def refused(shop: Shop, command: Callable[[], object]) -> None:
    """By who cannot read the log: with status 3, and what to look at."""
    with pytest.raises(TooManyDeadLetters, match=r"\d+ of \d+ records.*--mapper=none --format=json") as error:
        command()
    assert exit_status(error.value) == A_PERSON
    _, progress = shop.last()
    assert progress.status == "failed"
    assert progress.counts["unreadable"] == progress.counts["records"] > 0


def test_a_rebuild_that_cannot_read_the_log_puts_nothing_in_place(shop: Shop, capsys: pytest.CaptureFixture[str]):
    wrong = replace(shop.settings, format="json")
    refused(shop, lambda: rebuild(wrong, shop.live, shop.argv))
    assert shop.ours() == {shop.live.name}
    refused(shop, lambda: rebuild(wrong, shop.live, shop.argv))

    id = rebuild(shop.settings, shop.live, shop.argv)
    operation, progress = shop.last()
    assert operation.id == id
    assert (progress.status, progress.done, progress.of) == ("done", 180, 180)
    assert progress.counts | {"records": 60, "unreadable": 0, "shoppers checked": 6} == progress.counts
    assert shop.live.namespace != shop.live.name
    assert shop.behaviours(shop.live.namespace) == shop.all_behaviours()
    said = capsys.readouterr().err
    assert said.count(f"aigq runs pause {id}") == 1
    assert "unreadable 0" in said


def test_a_replay_and_a_promotion_that_cannot_read_the_log_move_nothing(shop: Shop):
    shadow = f"{shop.live.name}-shadow"
    refused(shop, lambda: shop.replay(shadow, format="json"))
    assert shop.ours() == {shop.live.name}
    shop.replay(shadow)
    before = shop.behaviours(shadow)
    assert before == {user: texts[:7] for user, texts in shop.all_behaviours().items()}

    refused(shop, lambda: promote(replace(shop.settings, format="json"), shop.live, shadow, shop.argv))
    assert shop.live.namespace == shop.live.name
    assert shop.behaviours(shadow) == before
    promote(shop.settings, shop.live, shadow, shop.argv)
    assert shop.live.namespace == shadow
    assert shop.behaviours(shadow) == shop.all_behaviours()
    assert shop.last()[1].counts["records"] == 18


def test_a_log_that_is_bad_in_truth_is_passed_over_where_that_is_said(shop: Shop):
    given = replace(shop.settings, format="json", dead_letter_ratio=1.0)
    with running(shop.live, "test", Nothing()) as run:
        check_readable(run, given, plan_read(replace_read(given, "earliest", "now")), of=60)
    assert shop.last()[1].counts == {"records": 60, "unreadable": 60}


def test_a_rebuild_that_differs_from_the_log_is_not_put_in_place_and_is_made_anew_when_given_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    def differs() -> str:
        with monkeypatch.context() as patch:
            patch.setattr(rebuilding, "_put_lists_back", tampering)
            with pytest.raises(
                CountsDiffer, match=r"1 of 6 shoppers differ.*shopper-3.*The same command drops it"
            ) as error:
                rebuild(shop.settings, shop.live, shop.argv)
        assert exit_status(error.value) == A_PERSON
        assert shop.live.namespace == shop.live.name
        (wrong,) = shop.ours() - {shop.live.name}
        return wrong

    dropped = differs()
    first = shop.last()[0].id
    typed("drop", dropped, f"--store={shop.settings.store}", "--execute")
    kept = differs()
    assert kept != dropped
    assert rebuild(shop.settings, shop.live, shop.argv) == first
    assert shop.ours() == {shop.live.name, shop.live.namespace}
    assert shop.live.namespace not in (shop.live.name, kept)
    assert shop.behaviours(shop.live.namespace) == shop.all_behaviours()


def tampering(_run: object, _settings: object, _live: object, fresh: ShopperStore) -> int:
    """In place of the lists that are put back: a state that lacks a behaviour of the log."""
    stored = fresh.state("shopper-3")
    assert stored
    state = decode(stored.blob)
    change = StateChange("shopper-3", stored.token, encode(msgspec.structs.replace(state, rows=state.rows[16:])), None)
    where = shard_of("shopper-3", fresh.shards), state.partition
    fresh.begin("rebuild")
    assert fresh.fire_many({where: [change]}, {where: 0}, "rebuild")[where].status == "saved"
    return 0


def test_a_rebuild_by_a_release_whose_fold_breaks_is_not_put_in_place(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """No letter says so: a rebuild writes none."""

    def breaking(users: list[str]) -> Callable[..., int]:
        def put(_run: object, _settings: object, _live: object, fresh: ShopperStore) -> int:
            fresh.begin("rebuild")
            for user, stored in fresh.states(users).items():
                state = decode(stored.blob)
                broken = msgspec.structs.replace(state, broken_at=state.offset)
                where = shard_of(user, fresh.shards), state.partition
                fresh.fire_many({where: [StateChange(user, stored.token, encode(broken), None)]}, {where: 0}, "rebuild")
            return 0

        return put

    monkeypatch.setattr(rebuilding, "_put_lists_back", breaking(USERS[:4]))
    with pytest.raises(CountsDiffer, match=r"4 of 6 shoppers differ.*in quarantine"):
        rebuild(shop.settings, shop.live, shop.argv)
    assert shop.live.namespace == shop.live.name
    rebuild(replace(shop.settings, dead_letter_ratio=1.0), shop.live, shop.argv)  # so the operator wants it
    assert shop.last()[1].counts["newly in quarantine"] == 4


def test_a_rebuild_counts_as_many_shoppers_at_once_as_memory_holds(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rebuilding, "AT_ONCE", 25)  # of 60 records: three times
    rebuild(shop.settings, shop.live, shop.argv)
    assert shop.last()[1].counts["shoppers checked"] == 6
    monkeypatch.setattr(rebuilding, "_put_lists_back", tampering)
    with pytest.raises(CountsDiffer, match=r"1 of 6 shoppers differ.*shopper-3"):
        rebuild(shop.settings, shop.live, shop.argv)


def test_a_shadow_that_was_made_twice_is_dropped_like_any_other(shop: Shop):
    shadow = f"{shop.live.name}-shadow"
    assert shop.replay(shadow) != shop.replay(shadow)
    typed("drop", shadow, f"--store={shop.settings.store}", "--execute")
    assert shop.ours() == {shop.live.name}


def test_a_replay_whose_shadow_was_dropped_half_way_begins_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    shadow, whole = f"{shop.live.name}-shadow", f"{shop.live.name}-whole"
    with monkeypatch.context() as patch:
        patch.setattr(replaying, "track_into", dying_within("window"))
        with pytest.raises(Interrupted):
            shop.replay(shadow)
    first, progress = shop.last()
    assert msgspec.json.decode(progress.checkpoint)["phase"] == "window"
    typed("drop", shadow, f"--store={shop.settings.store}", "--execute")
    assert shop.replay(shadow) == first.id
    shop.replay(whole)
    assert shop.behaviours(shadow) == shop.behaviours(whole)
    open_requests = [sorted(ShopperStore(shop.settings.store, each).waiting()) for each in (shadow, whole)]
    assert open_requests[0] == open_requests[1]
    assert open_requests[0]


def dying_within(phase: str) -> Callable[..., object]:
    read = replaying.track_into

    def read_or_die(run: Any, *arguments: Any, **named: Any) -> object:
        if msgspec.json.decode(run.progress.checkpoint)["phase"] == phase:
            raise Interrupted("killed")
        return read(run, *arguments, **named)

    return read_or_die


def test_a_replay_never_takes_a_namespace_that_was_asked_for_otherwise(shop: Shop):
    shadow, live = f"{shop.live.name}-shadow", shop.live
    id = shop.replay(shadow)
    held = shop.behaviours(shadow)
    drifted = replace(shop.settings, trigger_drift=0.9)
    plan = plan_replay(drifted, live, shop.window(3, 7))
    for command in (
        lambda: preview(drifted, shop.window(3, 7), shadow, plan, live),
        lambda: shop.replay(shadow, trigger_drift=0.9),
    ):
        with pytest.raises(
            NamespaceInUse, match=f"{shadow}' is {id}'s.*asked for something else and is done.*aigq drop"
        ):
            command()
    shop.names.make(f"{shadow}-2")
    ShopperStore(shop.settings.store, f"{shadow}-2", 2).open(live.pinned())  # type: ignore[arg-type]
    with pytest.raises(NamespaceInUse, match="no replay made it"):
        shop.replay(f"{shadow}-2")
    assert shop.behaviours(shadow) == held
    assert f"'{shadow}' holds what {id} made: it is dropped and made anew" in preview(
        shop.settings, shop.window(3, 7), shadow, plan, live
    )
    assert shop.last()[0].id == id
