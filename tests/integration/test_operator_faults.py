"""Each operator's command killed once or twice beside a job under load, small; given again, it leaves nothing wrong.

The campaign with many kills of each is `python -m bench.faults` (docs/results/faults.md). One file, because the servers and the
model take a minute to start.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.faults.campaign import Row, try_command
from bench.faults.operators import COMMANDS, Command
from bench.faults.stage import Stage, stage
from bench.result import ROOT
from interest import FOLD_VERSION, TriggerPolicy
from local.valkey import Valkey
from pipelines.adopt import adopt
from pipelines.options import NearlineSettings
from store.client import ShopperStore
from store.namespaces import Namespaces
from tests.integration.stores import META

BUSY_S = {
    "kill_replay": 1.0,
    "kill_backfill": 2.0,
    "kill_redrive": 1.5,
    "kill_rebuild": 2.0,
    "kill_archive": 0.5,
    "kill_adopt": 0.3,
}
"""Kills come within so many seconds of a command's first write: less than it works on any machine."""
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("commands"), Path(ROOT, "models"), "aigq-small") as started:
        yield started


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_killed_command_given_again_leaves_nothing_lost_doubled_or_older(command: Command, servers: Stage) -> None:
    row = Row(command.name, command.does)
    try_command(servers, command, seed=7, row=row, busy_s=BUSY_S[command.name], thorough=False)
    assert row.clean, "\n".join(row.wrong)
    assert row.instants_s, "it had ended before it was killed"
    assert row.behaviours > 100
    assert row.lists > 0


@pytest.fixture
def adoption(valkey: Valkey, namespace: str) -> Callable[[], Namespaces]:
    """Another number of shards for a namespace that nobody writes. Returns the names of its store."""
    policy = TriggerPolicy()
    meta = replace(META, policy_digest=policy.version, policy=policy.to_json(), fold_version=FOLD_VERSION)
    ShopperStore(valkey.url, namespace, meta.shards).open(meta)
    settings = NearlineSettings(store=valkey.url, namespace=namespace, bootstrap="unused:9092", shards=7)

    def execute() -> Namespaces:
        adopt(settings, ShopperStore(valkey.url, namespace))
        return Namespaces(ShopperStore(valkey.url, namespace).calls)

    return execute


def test_an_adoption_that_died_when_it_had_moved_the_name_lets_it_go_when_given_again(
    adoption: Callable[[], Namespaces], valkey: Valkey, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Namespaces, "point", dying_after(Namespaces.point))
        patch.setattr(Namespaces, "release", lambda *_: None)  # it did not live to do that
        with pytest.raises(KeyboardInterrupt):
            adoption()
    assert Namespaces(ShopperStore(valkey.url, namespace).calls).moving(namespace)
    assert adoption().moving(namespace) is None
    assert shards(valkey, namespace) == 7


def test_an_adoption_that_died_when_it_had_removed_a_half_copy_goes_on(
    adoption: Callable[[], Namespaces], valkey: Valkey, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where, name in ((ShopperStore, "scan_states"), (Namespaces, "drop")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, dying_after(getattr(where, name)))
            with pytest.raises(KeyboardInterrupt):
                adoption()
    names = adoption()
    assert shards(valkey, namespace) == 7
    ours = {each for each in names.names() if each.startswith(namespace)}
    assert ours == {namespace, names.pointed_to(namespace)}


def dying_after(step: Callable[..., object]) -> Callable[..., None]:
    def do_and_die(*arguments: object) -> None:
        step(*arguments)
        raise KeyboardInterrupt

    return do_and_die


def shards(valkey: Valkey, namespace: str) -> int:
    pinned = ShopperStore(valkey.url, namespace).pinned()
    assert pinned
    return pinned.shards
