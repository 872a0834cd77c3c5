import os
import signal

import pytest

from simulation.market_folder import START_MS, MarketFacts
from simulation.ranker_training import ShopLog
from simulation.workers import Workers

FACTS = MarketFacts("tests.simulation.tiny_law:Tiny", 1, 1.0, 9, 3, START_MS, False)
FIRST = ShopLog(["group 0", "group 1", "group 2"]).statistics()


def test_every_shopper_is_played_once_by_one_of_the_workers():
    with Workers(FACTS, 2) as workers:
        workers.begin(0, FIRST)
        played = workers.played()
    with Workers(FACTS, 1) as one:
        one.begin(0, FIRST)
        alone = one.played()
    assert sorted((each.shopper, each.number) for each in played.saw) == [
        (each.shopper, each.number) for each in alone.saw
    ]
    assert len({each.shopper for each in alone.saw}) > 3


def test_a_worker_that_was_killed_is_named_with_the_likely_reason():
    with Workers(FACTS, 2) as workers:
        process = workers.processes[1]
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        workers.begin(0, FIRST)
        with pytest.raises(RuntimeError, match="'shoppers 1' ended with -9"):
            workers.played()
    assert not any(each.is_alive() for each in workers.processes)


def test_no_process_stays_behind():
    with Workers(FACTS, 2) as workers:
        assert all(each.is_alive() for each in workers.processes)
    assert not any(each.is_alive() for each in workers.processes)
