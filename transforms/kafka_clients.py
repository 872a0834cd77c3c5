"""Connections to Kafka: one set of settings (librdkafka's names), two clients.

confluent-kafka (librdkafka, C) where every record passes: 450,000 messages/s of 300 bytes against 9,000 in kafka-python.
kafka-python for administration at the start of a job: topics, settings, offsets by time. SASL and TLS reach both.
"""

import logging
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # pyright: ignore[reportPrivateImportUsage]
from confluent_kafka.admin import ConfigResource as SettingsOf  # pyright: ignore[reportPrivateImportUsage]
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError as PortableError
from kafka.structs import TopicPartition as PortablePartition

LOG = logging.getLogger(__name__)

KafkaSettings = Mapping[str, str]
"""librdkafka's names and values, e.g. `bootstrap.servers`, `sasl.username`."""

KAFKA_PYTHON_NAMES = {
    "client.id": "client_id",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "sasl.kerberos.service.name": "sasl_kerberos_service_name",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
    "ssl.crl.location": "ssl_crlfile",
    "ssl.cipher.suites": "ssl_ciphers",
}
"""What a connection needs; the rest of librdkafka's settings tune its own hot loop and have no meaning to kafka-python."""


@dataclass(frozen=True)
class TopicFacts:
    """What the broker says of a topic."""

    topic_id: str
    """As `kafka-topics --describe` shows it; the topic's name where the broker has no ids."""
    partitions: int
    timestamp_type: str | None
    """LogAppendTime or CreateTime; None where we may not ask (no right to describe settings)."""


@dataclass(frozen=True)
class TopicRetention:
    """How long a topic is set to keep its records, milliseconds."""

    retention_ms: int
    """-1 for good."""
    segment_ms: int
    deletes: bool
    """False where it is only compacted."""


def retention_of(settings: KafkaSettings, topic: str, within_s: float = 30.0) -> TopicRetention | None:
    """None where there is no such topic. Raises KafkaException."""
    asked, watcher = SettingsOf(SettingsOf.Type.TOPIC, topic), broker_watcher(settings)
    try:
        found = watcher.describe_configs([asked], request_timeout=within_s)[asked].result(within_s + 1)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    kept, segment, policy = (found[name].value for name in ("retention.ms", "segment.ms", "cleanup.policy"))
    return TopicRetention(int(kept), int(segment), "delete" in str(policy))


def log_consumer(settings: KafkaSettings, group: str, **more: Any) -> Consumer:
    """A consumer that is told where to read (`assign`), reports the end of a partition, and never moves by itself."""
    return Consumer(
        {
            "client.id": "aigq",
            # Tansu answers a waiting fetch only when its time is up: 40 ms wait is 69 ms to a DoFn at p95, 100 ms is 96 ms.
            "fetch.wait.max.ms": 40,
            # 64 MB of read-ahead is the default, and a reader that is slower than the broker holds all of it.
            "queued.max.messages.kbytes": 16_384,
            "fetch.queue.backoff.ms": 20,  # the default of 1,000 ms starves a fast reader each time its read-ahead is full
            "log_level": 2,  # it complains to standard error 20 times a second while a broker is down; error_cb says it once
            **settings,
            "group.id": group or "aigq-without-group",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",  # an offset that is gone must be said, not jumped over
            **more,
        }
    )


def broker_watcher(settings: KafkaSettings) -> AdminClient:
    """A client for the small questions asked all the time (ends of partitions). Errors reach the asker as exceptions."""
    return AdminClient({"client.id": "aigq-watch", "log_level": 2, **settings})


def ends_now(watcher: AdminClient, topic: str, partitions: Iterable[int], within_s: float) -> dict[int, int]:
    """The end (high watermark) of each partition, asked of the brokers now. Raises KafkaException.

    Tansu answers with the offset behind the *first* record of the last batch (see `reachable_ends`).
    """
    return _listed(watcher, topic, partitions, OffsetSpec.latest(), within_s)  # pyright: ignore[reportArgumentType]


def beginnings_now(watcher: AdminClient, topic: str, partitions: Iterable[int], within_s: float) -> dict[int, int]:
    """The first offset that retention has left in each partition. Raises KafkaException."""
    return _listed(watcher, topic, partitions, OffsetSpec.earliest(), within_s)  # pyright: ignore[reportArgumentType]


def _listed(
    watcher: AdminClient, topic: str, partitions: Iterable[int], spec: OffsetSpec, within_s: float
) -> dict[int, int]:
    asked = {TopicPartition(topic, partition): spec for partition in partitions}
    answers = watcher.list_offsets(asked, request_timeout=within_s)
    return {at.partition: answer.result(within_s + 1).offset for at, answer in answers.items()}


@dataclass(frozen=True)
class LogAdministration:
    """What a job asks about its topic once, at its start."""

    topic: str
    _admin: KafkaAdminClient
    _consumer: KafkaConsumer

    def facts(self) -> TopicFacts | None:
        """None where there is no such topic."""
        (topic,) = self._admin.describe_topics([self.topic])
        if not topic["partitions"]:
            return None
        topic_id = UUID(str(topic.get("topic_id") or UUID(int=0)))
        return TopicFacts(
            topic_id=canonical_id(topic_id) if topic_id.int else self.topic,
            partitions=len(topic["partitions"]),
            timestamp_type=self._timestamp_type(),
        )

    def beginnings(self, partitions: int) -> dict[int, int]:
        return self._by_partition(self._consumer.beginning_offsets(self._all(partitions)))

    def listed_ends(self, partitions: int) -> dict[int, int]:
        return self._by_partition(self._consumer.end_offsets(self._all(partitions)))

    def committed(self, partitions: int) -> dict[int, int]:
        """The group's hint; partitions without one are absent."""
        found = {at.partition: self._consumer.committed(at) for at in self._all(partitions)}
        return {partition: offset for partition, offset in found.items() if offset is not None and offset >= 0}

    def offsets_at(self, partitions: int, time_ms: int) -> dict[int, int]:
        """First offset whose append time is `time_ms` or later; a partition that has none is absent."""
        answers = self._consumer.offsets_for_times(dict.fromkeys(self._all(partitions), time_ms))
        # Tansu answers "none" with an offset and the time -1.
        return {at.partition: found.offset for at, found in answers.items() if found and found.timestamp >= 0}

    def first_time_ms(self, partition: int) -> int | None:
        """Append time of the first record that is held; None where none is."""
        at = PortablePartition(self.topic, partition)
        found = self._consumer.offsets_for_times({at: 0}).get(at)
        return found.timestamp if found and found.timestamp >= 0 else None

    def _timestamp_type(self) -> str | None:
        resource = ConfigResource(ConfigResourceType.TOPIC, self.topic)
        try:
            settings = self._admin.describe_configs([resource], config_filter="all")  # pyright: ignore[reportCallIssue]
        except PortableError as error:
            LOG.info("settings of topic %s could not be read (%r)", self.topic, error)
            return None
        found = settings["topic"][self.topic].get("message.timestamp.type")
        return found["value"] if found else None

    def _all(self, partitions: int) -> list[PortablePartition]:
        return [PortablePartition(self.topic, partition) for partition in range(partitions)]

    @staticmethod
    def _by_partition(offsets: Mapping[PortablePartition, int]) -> dict[int, int]:
        return {at.partition: offset for at, offset in offsets.items()}


@contextmanager
def log_administration(settings: KafkaSettings, topic: str, group: str) -> Iterator[LogAdministration]:
    """Raises kafka.errors.KafkaError where no broker answers."""
    portable = portable_settings(settings)
    admin = KafkaAdminClient(**portable)
    try:
        consumer = KafkaConsumer(**portable, group_id=group or None, enable_auto_commit=False)
        try:
            yield LogAdministration(topic, admin, consumer)
        finally:
            consumer.close()
    finally:
        admin.close()


def complaint_of(settings: KafkaSettings, within_s: float) -> str:
    """Why no connection comes about, in librdkafka's words (kafka-python only knows that it does not); empty where it does."""
    complaints: list[KafkaError] = []
    client = AdminClient({**settings, "log_level": 0, "error_cb": complaints.append})  # pyright: ignore[reportArgumentType]
    try:
        client.list_topics(timeout=within_s)
    except KafkaException as error:
        client.poll(0)
        told = [one for one in complaints if one.code() != KafkaError._ALL_BROKERS_DOWN]
        told.sort(key=lambda one: one.code() != KafkaError._AUTHENTICATION)
        return told[0].str() if told else str(error)
    return ""


def portable_settings(settings: KafkaSettings) -> dict[str, Any]:
    """The connection in kafka-python's words."""
    portable: dict[str, Any] = {
        "bootstrap_servers": settings["bootstrap.servers"].split(","),
        "bootstrap_timeout_ms": 5_000,
    }
    for name, value in settings.items():
        if name in KAFKA_PYTHON_NAMES:
            portable[KAFKA_PYTHON_NAMES[name]] = value
    if "security_protocol" in portable:
        portable["security_protocol"] = portable["security_protocol"].upper()
    if settings.get("ssl.endpoint.identification.algorithm") == "none":
        portable["ssl_check_hostname"] = False
    return portable


def reachable_ends(settings: KafkaSettings, topic: str, listed: Mapping[int, int], within_s: float) -> dict[int, int]:
    """The true end of each partition, found by fetching its last record: Tansu lists too low an end after a batch.

    `listed` is what the broker answers when asked. Raises TimeoutError where a partition cannot be fetched.
    """
    ends: dict[int, int] = {}
    consumer = log_consumer(settings, "")
    try:
        consumer.assign([TopicPartition(topic, partition, max(0, end - 1)) for partition, end in listed.items()])

        def note(record: Message) -> None:
            error, partition, offset = record.error(), record.partition(), record.offset()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                assert partition is not None
                assert offset is not None
                _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
                ends.setdefault(partition, max(high, offset, listed[partition]))
            elif error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:
                ends.setdefault(partition, listed[partition])  # everything was deleted up to its end

        _poll_until(consumer, note, lambda: len(ends) == len(listed), within_s)
    finally:
        consumer.close()
    if missing := sorted(listed.keys() - ends.keys()):
        raise TimeoutError(f"topic {topic}, partitions {missing}: the end could not be fetched within {within_s:.0f} s")
    return ends


def _poll_until(consumer: Consumer, note: Callable[[Message], None], done: Callable[[], bool], within_s: float) -> None:
    for _ in range(int(within_s / 0.1)):
        if done():
            return
        for record in consumer.consume(1_000, 0.1):
            note(record)


def canonical_id(topic_id: UUID) -> str:
    """As Kafka's own tools write it."""
    return urlsafe_b64encode(topic_id.bytes).decode().rstrip("=")


def canonical(librdkafka_id: object) -> str:
    """The same of librdkafka's id, which it writes in the other base64 alphabet."""
    return str(librdkafka_id).replace("+", "-").replace("/", "_")
