"""A broker that asks for a password, over plain lines and over TLS: the job's own options open it, and wrong ones are said."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from local.kafka import Kafka
from local.ports import free_port
from local.prerequisites import JAVA
from local.topics import create_topics
from pipelines.nearline import read_settings
from pipelines.options import NearlineOptions
from schemas import DeadLetter
from tests.integration.reading import Reading, produce
from transforms.dead_letters import DeadLetterWriter
from transforms.log_position import NotAuthorised
from transforms.read_plan import ReadSettings, plan_read
from transforms.shared_log import close_logs

LOGIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_reader="right";'
PROTOCOLS = ("SASL_PLAINTEXT", "SASL_SSL")


@dataclass(frozen=True)
class Secured:
    ports: dict[str, int]
    certificate: Path
    """Of the broker, signed by itself."""

    def settings(self, protocol: str, **changes: str) -> ReadSettings:
        """As `aigq run nearline` reads them from its command line."""
        kafka = {
            "security.protocol": protocol,
            "sasl.mechanism": "PLAIN",
            "sasl.username": "reader",
            "sasl.password": "right",
            **({"ssl.ca.location": str(self.certificate)} if protocol == "SASL_SSL" else {}),
            **changes,
        }
        given = ";".join(f"{name}={value}" for name, value in kafka.items())
        options = [f"--bootstrap=127.0.0.1:{self.ports[protocol]}", "--store=redis://none", f"--kafka_config={given}"]
        settings = PipelineOptions(options).view_as(NearlineOptions).settings()
        return replace(read_settings(settings), start="earliest")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    store, certificate = folder / "broker.p12", folder / "broker.pem"
    keytool = [
        JAVA.path().resolve().with_name("keytool"),
        "-keystore",
        store,
        "-storepass",
        "secret",
        "-alias",
        "broker",
    ]
    pair = [
        "-genkeypair",
        "-keyalg",
        "RSA",
        "-dname",
        "CN=127.0.0.1",
        "-ext",
        "SAN=ip:127.0.0.1",
        "-storetype",
        "PKCS12",
    ]
    for command in (pair, ["-exportcert", "-rfc", "-file", certificate]):
        subprocess.run([*keytool, *command], check=True, capture_output=True)
    ports = {protocol: free_port() for protocol in ("PLAINTEXT", *PROTOCOLS, "CONTROLLER")}
    listeners = {protocol: f"{protocol}://127.0.0.1:{port}" for protocol, port in ports.items()}
    protocols = {protocol: protocol for protocol in ("PLAINTEXT", *PROTOCOLS)} | {"CONTROLLER": "PLAINTEXT"}
    broker = Kafka(
        folder / "kafka",
        {
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(listener for name, listener in listeners.items() if name != "CONTROLLER"),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "sasl.enabled.mechanisms": "PLAIN",
            **{f"listener.name.{name.lower()}.plain.sasl.jaas.config": LOGIN for name in PROTOCOLS},
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.location": str(store),
            "ssl.keystore.password": "secret",
        },
        ports["PLAINTEXT"],
        ports["CONTROLLER"],
    )
    try:
        broker.start()
        create_topics(broker.bootstrap, partitions=1)
        produce(broker.bootstrap, "behaviour", 0, range(10))
        yield Secured(ports, certificate)
        close_logs()
    finally:
        broker.kill()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_jobs_options_open_the_log_and_the_topics_it_writes(secured: Secured, protocol: str) -> None:
    settings = secured.settings(protocol)
    reading = Reading(settings, plan_read(settings))  # kafka-python plans, librdkafka reads
    reading.until(lambda: bool(reading.proofs(0)))
    assert reading.numbers(0) == list(range(10))
    letter = DeadLetter("decode", "bad_json", "", "behaviour", 0, 1, 0)
    DeadLetterWriter(settings.kafka, "dead-letters", deadline_s=20).write([letter])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_password_is_told_from_a_dead_broker(secured: Secured, protocol: str) -> None:
    with pytest.raises(NotAuthorised, match=r"does not let us in .*uthentication.*sasl\.\*"):
        plan_read(secured.settings(protocol, **{"sasl.password": "wrong"}))


def test_a_certificate_that_nothing_vouches_for_is_said_at_once_with_the_setting_to_mend(secured: Secured) -> None:
    began = time.monotonic()
    settings = secured.settings("SASL_SSL")
    settings = replace(settings, kafka={k: v for k, v in settings.kafka.items() if k != "ssl.ca.location"})
    with pytest.raises(
        NotAuthorised, match=r"127\.0\.0\.1:\d+ .*certificate verify failed.*ssl\.ca\.location.*--kafka_config"
    ):
        plan_read(settings)
    assert time.monotonic() - began < 40
