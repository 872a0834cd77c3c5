"""The same pipeline on a real Flink cluster: a TaskManager and a worker are killed, and the oracle finds nothing wrong.

Flink and Prism make the same requests with the same frozen behaviours: both equal the oracle's, which knows no runner.
"""

import json
import time
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka import Producer

from bench.faults.load import events
from bench.faults.stage import stage
from bench.result import ROOT
from local.flink import Flink

EVENTS = 20_000


@pytest.mark.timeout(900)
def test_on_flink_a_killed_taskmanager_and_a_killed_worker_lose_and_double_nothing(
    flink: Flink, tmp_path: Path
) -> None:
    with stage(tmp_path, Path(ROOT, "models"), "aigq-small") as servers:
        servers.begin("flink")
        servers.start_job(*flink.options, "--splits=2", "--parallelism=2", "--sdk_worker_parallelism=2")
        producer = Producer({"bootstrap.servers": servers.broker.bootstrap, "partitioner": "murmur2_random"})
        for number, event in enumerate(islice(events(7, 1_500), EVENTS), 1):
            producer.produce(servers.topic, json.dumps(event).encode(), str(event["user"]).encode())
            if number % 200 == 0:
                producer.flush()
                time.sleep(0.1)
            if number == 6_000:
                servers.wait("saves", lambda: servers.has_reached(dict.fromkeys(range(4), 1)), 180)
                flink.kill("task-manager")
                flink.start("task-manager")
            if number == 14_000:
                producer.flush()
                ends = servers.ends()
                servers.wait("recovery", partial(servers.has_reached, ends), 240)
                flink.kill_one_worker()
        producer.flush()
        servers.settle(within_s=240)
        flink.cancel_all()  # the driver was killed, the cluster's job was not
        verdict = servers.verdict()
        assert not verdict.wrong, str(verdict)
        assert verdict.behaviours > 10_000
