"""Real servers for the integration tests, one of each a test process, and fresh names so that no two tests meet.

A server that cannot be started here fails the test with the command that brings what is missing; nothing is skipped.
"""

import uuid
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from local.flink import Flink
from local.flink import flink as start_flink
from local.kafka import Kafka
from local.kafka import kafka as start_kafka
from local.prism import Prism
from local.prism import prism as start_prism
from local.tansu import Tansu
from local.tansu import tansu as start_tansu
from local.topics import create_topics
from local.valkey import Valkey
from local.valkey import valkey as start_valkey

settings.register_profile("shared-machine", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("shared-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs servers is marked so and runs last: a wrong rule shows in seconds."""
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)
    items.sort(key=lambda item: item.get_closest_marker("integration") is not None)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A store, shared by the tests of this process: each uses its own `namespace`."""
    with start_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def tansu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tansu]:
    """The embedded broker, shared: each test uses topics of its own (`fresh_topic`)."""
    with start_tansu(tmp_path_factory.mktemp("tansu")) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A real broker, shared likewise; a test that kills one starts its own (`local.kafka.kafka`)."""
    with start_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def prism(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prism]:
    """A runner, shared: run a pipeline on it with `prism.options`."""
    with start_prism(tmp_path_factory.mktemp("prism")) as runner:
        yield runner


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flink]:
    """A Flink cluster with its job server and worker pool, shared: run a pipeline on it with `flink.options`."""
    with start_flink(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


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
