"""A real Kafka broker: one KRaft node on loopback, from jars by Maven. It needs Java 17 and Maven, Tansu does not.

Its records outlive `kill()` and `start()`: a killed broker keeps what the operating system had taken.
"""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local import process
from local.jars import jars
from local.ports import answers, free_port
from local.prerequisites import JAVA

JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""A test's broker lives for seconds: a small heap, no collector threads, no second compiler."""


@dataclass
class Kafka:
    """One node and its folder."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    """More of server.properties, e.g. `log.retention.check.interval.ms`."""
    port: int = field(default_factory=free_port)
    controller_port: int = field(default_factory=free_port)
    child: process.Child | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, within_s: float = 60.0) -> None:
        properties = self.folder / "server.properties"
        if not properties.exists():
            self._format(properties)
        self.child = process.start(
            "kafka", [*self._java(), "kafka.Kafka", properties], self.folder / "kafka.log", self._leads, within_s
        )

    def kill(self) -> None:
        """kill -9."""
        if self.child:
            self.child.kill()

    def stop(self) -> None:
        """Asks it to end, as an operator does; partitions are handed over and files closed."""
        if self.child:
            self.child.stop(30)

    def _format(self, properties: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = {**self._properties(), **self.settings}
        properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formatted = subprocess.run(
            [*self._java(), "kafka.tools.StorageTool", "format", "-t", f"I{cluster_id[1:]}", "-c", properties],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if formatted.returncode:
            properties.unlink()
            raise process.StartFailed(f"kafka: its folder {self.folder} could not be formatted:\n{formatted.stdout}")

    def _java(self) -> list[str | Path]:
        return [JAVA.path(), *JVM, f"-Djava.io.tmpdir={self.folder}", "-cp", class_path()]

    def _properties(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "broker.session.timeout.ms": "3000",  # after a kill -9 the controller waits that long for the old self
            "broker.heartbeat.interval.ms": "500",
            "auto.create.topics.enable": "false",
        }

    def _leads(self) -> bool:
        """Whether it is up and has registered with its own controller: a listening port comes seconds before."""
        if not answers(self.port):
            return False
        try:
            return bool(AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(timeout=2).brokers)
        except KafkaException:
            return False


def class_path() -> str:
    """Fetches 44 MB once. Raises Missing."""
    return f"{jars(Path(__file__).with_name('kafka-pom.xml'))}/*"


@contextmanager
def kafka(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Kafka]:
    """A fresh broker, gone at the end; up in about 5 s once its jars are in the cache."""
    broker = Kafka(folder, settings or {})
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
