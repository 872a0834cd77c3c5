"""What README and the tutorial tell a newcomer to type is typed here, on one demo that is kept up. A command that is added to
README without a test that runs it fails."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from local import process
from local.tansu import Tansu
from local.valkey import Valkey
from schemas import BehaviourEvent
from schemas.codec import encoder_for
from simulation.crowd import Crowd
from store.client import ShopperStore
from tests.integration import readme, tutorial


def test_every_command_of_readme_is_run_by_a_test():
    assert sorted(readme.commands(readme.README)) == sorted(readme.RUNS)
    for command, run in readme.RUNS.items():
        asks = rf'readme\.words\(\s*"{re.escape(command)}"'
        assert re.search(asks, (readme.TESTS / run.by).read_text()), f"{run.by} does not run {command!r}"


def test_a_command_in_the_text_is_the_beginning_of_one_in_a_block_here_or_in_the_runbook():
    said = re.findall(r"`((?:aigq|make|\.venv/bin/\S+|python|pip) [^`]+)`", readme.README)
    assert said
    runbook = (readme.ROOT / "docs" / "runbook").glob("*.md")  # whose commands have a test of their own
    run = [*readme.RUNS, *(command for page in runbook for command in readme.commands(page.read_text("utf-8")))]
    assert not [command for command in said if not any(known.startswith(command) for known in run)]


@pytest.mark.parametrize(
    "added",
    [
        "\n    .venv/bin/aigq demo --keep\n    aigq dance  # new\n",
        "\n```sh\naigq dance\n```\n",
        "\n```\n$ aigq \\\n  dance\n```\n",
        "Text.\n\n    # a comment\n    aigq dance",
    ],
)
def test_a_new_command_is_found_in_whatever_block_it_stands(added: str):
    assert "aigq dance" in readme.commands(readme.README + added)


def test_make_demo_is_the_demo_below_and_make_test_is_what_ci_runs():
    def recipe(words: list[str]) -> str:
        words = [*words, "-n", "--no-print-directory"]
        return subprocess.run(words, cwd=readme.ROOT, capture_output=True, text=True, check=True).stdout

    assert recipe(readme.words("make demo")).splitlines()[-1] == ".venv/bin/aigq demo"
    assert recipe(readme.words("make test")).splitlines()[-1].startswith(".venv/bin/python -m pytest")
    assert "make test" in (readme.ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.timeout(900)
def test_the_demo_ends_with_lists_stays_up_for_readme_and_tutorial_and_leaves_nothing_running(tmp_path: Path):
    before = {each.pid for each in psutil.process_iter()}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a child of a shell's background job would ignore Ctrl-C
    words = [*readme.words(".venv/bin/aigq demo --keep"), "--seconds=5"]
    demo = process.start("demo", words, tmp_path / "demo.log", cwd=readme.ROOT)
    try:
        broker, store = kept(demo)
        kept_s = time.time()
        said = demo.log.read_text()
        assert "Lists in the store (simulated shoppers)" in said
        assert "event to list: median" in said
        user = re.findall(r"missions-1-\d+", said)[0]
        hints = answer(readme.words("aigq get USER --store redis://store:6379", store=store, user=user)).splitlines()
        assert len(hints) >= 5
        explained = answer(readme.words("aigq explain USER --store redis://store:6379", store=store, user=user))
        assert "interest (drift" in explained
        status = readme.words("aigq status --store redis://store:6379", store=store)
        for words in (status, [*status, f"--bootstrap={broker}"]):
            assert "nothing needs attention" in answer(words)
        tutorial.follow(broker, store, user, kept_s)
        os.kill(demo.pid, signal.SIGINT)
        assert demo.wait(120) == 0, demo.log_tail(40)
    finally:
        demo.kill()
    folder = said.split("job's log ")[1].split("/job.log")[0]
    # A zombie that init has not fetched yet has no command line any more.
    left = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"]) if each.pid not in before]
    assert not [command for command in left if any(folder in part for part in command)]


def kept(demo: process.Child) -> tuple[str, str]:
    """The addresses of broker and store, once the demo has shown its lists and keeps them up."""
    deadline = time.monotonic() + 600
    while not (found := re.search(r"kept running: broker (\S+), store (\S+)", demo.log.read_text())):
        assert demo.running, demo.log_tail(40)
        assert time.monotonic() < deadline, demo.log_tail(40)
        time.sleep(0.2)
    return found[1], found[2]


def answer(words: list[str], within_s: float = 120) -> str:
    """What a command prints; it must exit 0."""
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=within_s, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout


@pytest.mark.timeout(600)
def test_the_same_command_runs_on_a_flink_cluster(
    tansu: Tansu, valkey: Valkey, namespace: str, fresh_topic: Callable[..., str]
):
    topic, encode = fresh_topic(tansu.bootstrap), encoder_for(BehaviourEvent)
    producer = Producer({"bootstrap.servers": tansu.bootstrap, "partitioner": "murmur2_random"})
    events = list(Crowd(11).bursts(int(time.time() * 1000), 20, 8))
    for event in events:
        producer.produce(topic, key=event.user, value=encode(event))
    producer.flush()
    words = readme.words("aigq run nearline ... --runner=flink", broker=tansu.bootstrap, store=valkey.tcp_url)
    words += [f"--topic={topic}", f"--namespace={namespace}", f"--group={namespace}", "--stages=track", "--end=now"]
    answer([*words, "--shutdown_sources_after_idle_ms=0"], within_s=500)
    store = ShopperStore(valkey.url, namespace)
    applied = [store.applied(partition).values() for partition in range(4)]
    assert sum(min(shard.next_offset for shard in shards) for shards in applied) == len(events)
