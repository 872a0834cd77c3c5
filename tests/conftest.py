"""Real servers for the integration tests, one of each a test process, and fresh names so that no two tests meet.

A server that cannot be started here fails the test with the command that brings what is missing; nothing is skipped.
"""

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
from hypothesis import settings

import local.flink
import local.kafka
import local.prism
import local.seaweedfs
import local.tansu
import local.valkey
from bench.faults.model_server import shipped_model
from local.scratch import scratch
from local.topics import create_topics
from transforms.drain import DRAINING, TRACKED

settings.register_profile("shared-machine", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("shared-machine")


def pytest_configure(config: pytest.Config) -> None:
    """What servers and libraries leave in the folder for temporary files goes with the run; its workers share the folder."""
    if not hasattr(config, "workerinput"):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # folders of failed tests stay, as always
        stack = ExitStack()
        stack.enter_context(scratch("aigq-tests-"))
        config.add_cleanup(stack.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs servers is marked so and runs last: a wrong rule shows in seconds."""
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)
    items.sort(key=lambda item: item.get_closest_marker("integration") is not None)


def shared(start: Callable[..., AbstractContextManager[Any]]) -> Any:
    """The fixture of a server that the tests of this process share, up from the first that asks for it until the last."""

    @pytest.fixture(scope="session")
    def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
        with start(tmp_path_factory.mktemp(start.__name__)) as running:
            yield running

    return server


valkey = shared(local.valkey.valkey)
"""A store: each test uses its own `namespace`."""
tansu = shared(local.tansu.tansu)
"""The embedded broker: each test uses topics of its own (`fresh_topic`)."""
kafka = shared(local.kafka.kafka)
"""A real broker, shared likewise; a test that kills one starts its own."""
prism = shared(local.prism.prism)
"""A runner: run a pipeline on it with `prism.options`."""
seaweedfs = shared(local.seaweedfs.seaweedfs)
"""An object store: each test uses a bucket of its own."""
flink = shared(local.flink.flink)
"""A Flink cluster with its job server and worker pool: run a pipeline on it with `flink.options`."""
vllm = shared(shipped_model)
"""The shipped model on a vLLM server behind a gate: it takes half a minute to load. A test that shuts the gate opens it again."""


@pytest.fixture(autouse=True)
def _no_signs_left() -> Iterator[None]:
    """What a bounded read or a drain tells the whole process is over with the test."""
    yield
    DRAINING.clear()
    TRACKED.clear()


@pytest.fixture
def namespace() -> str:
    """A namespace of the store that nothing else uses."""
    return _fresh("ns")


@pytest.fixture
def fresh_topic() -> Callable[..., str]:
    """`fresh_topic(broker.bootstrap, partitions=4)` creates a topic that nothing else uses and returns its name."""

    def create(bootstrap: str, partitions: int = 4) -> str:
        name = _fresh("topic")
        create_topics(bootstrap, (name,), partitions)
        return name

    return create


def _fresh(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:12]}"
