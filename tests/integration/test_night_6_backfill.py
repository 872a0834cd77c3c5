"""Night 6 of the runbook: shoppers need lists before a launch. The command is killed, cancelled and given again, shoppers go on
meanwhile, and nothing is made twice. Broker, store, runner and the shipped model on vLLM are real."""

import random
import subprocess
import time
from collections import Counter

import pytest

from tests.integration.night_shop import SHIPPED, Shop, shop

KILLS = 3
SHOPPERS = [f"shopper-{number}" for number in range(400)]
GOODS = ("gaming laptop", "wireless mouse", "hd lens", "sony microphone", "usb hub")


@pytest.mark.timeout(600)
def test_a_backfill_that_is_killed_and_cancelled_makes_each_list_once(tansu, valkey, namespace, tmp_path):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with shop(tansu, valkey, namespace, SHIPPED, tmp_path) as here:
        begin = f"{int(time.time() * 1000) - 1}"
        for user in SHOPPERS:
            here.click(user, chance.choice(GOODS))
        here.flush()
        here.until(lambda: sum(map(len, here.store.scan_users())) >= len(SHOPPERS))
        end = f"{int(time.time() * 1000) + 1}"
        assert here.store.fired() == 0, "one click is no change"
        command = ["backfill", f"--from={begin}", f"--to={end}", f"--namespace={namespace}", "--most_waiting=50"]

        preview = here.run(*command)
        assert preview.returncode == 0, preview.stderr
        assert "400 shoppers, 400 lists" in preview.stdout
        assert (here.store.fired(), here.operations()) == (0, [])

        command += ["--execute"]
        # Slow enough that it is not done before it is killed; what may be changed when the command is given again.
        slow, slower = [*command, "--per_second=100"], [*command, "--per_second=10"]
        live = chance.sample(SHOPPERS, 40)
        went_back: list[str] = []
        newest = dict.fromkeys(live, 0)
        for number in range(KILLS):
            child = begin_again(here, *slow)
            for user in live[number::KILLS]:
                here.search(user, "oled tv")
            here.flush()
            time.sleep(chance.uniform(0.0, 2.5))
            child.kill()
            child.wait()
            went_back += look(here, newest)
        ((operation, progress),) = here.operations()
        assert progress.status == "running", "nobody had the time to write down that it died"

        cancelled = begin_again(here, *slower)
        assert here.run("runs", "cancel", operation.id).returncode == 0
        assert cancelled.wait(60) == 4
        assert [progress.status for _, progress in here.operations()] == ["cancelled"]
        assert here.store.depth().low == 0
        went_back += look(here, newest)

        done = here.run(*command)
        assert done.returncode == 0, done.stderr
        here.until(lambda: here.store.depth()[:2] == (0, 0))
        went_back += look(here, newest)
        assert went_back == []
        check(here, live)


def begin_again(here: Shop, *command: str) -> subprocess.Popen[bytes]:
    """Returns when the operation has begun, or goes on."""
    given_ms = int(time.time() * 1000)
    child = subprocess.Popen(here.aigq(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    here.until(lambda: any(progress.updated_ms > given_ms for _, progress in here.operations()))
    return child


def look(here: Shop, newest: dict[str, int]) -> list[str]:
    """Shoppers whose newest list is older than at the last look."""
    back = []
    for user, runs in here.store.runs_of(list(newest)).items():
        back += [user] if runs[0].as_of_ms < newest[user] else []
        newest[user] = runs[0].as_of_ms
    return back


def check(here: Shop, live: list[str]) -> None:
    """By the results topic and the store alone."""
    results = here.results()
    twice = {run_id: count for run_id, count in Counter(run.run_id for run in results).items() if count > 1}
    assert twice == {}
    by_user = {user: [run for run in results if run.user == user] for user in SHOPPERS}
    for user in SHOPPERS:
        stored = here.store.runs(user)
        assert stored, f"{user} has no list"
        assert stored[0].as_of_ms == max(run.as_of_ms for run in by_user[user])
        asked_for = [run for run in by_user[user] if run.origin]
        # One more only where the second command began after a change that was not answered yet.
        assert len(asked_for) <= (2 if user in live else 1), [run.origin for run in asked_for]
    for user in live:
        own = [run for run in by_user[user] if not run.origin]
        assert own, f"{user}'s own change got no list"
    counts = here.store.counts()
    assert here.store.fired() == sum(counts.values())
    assert counts["published"] + counts["conflated"] + counts["cancelled"] == here.store.fired()
