"""The product's four topics, and fresh ones for tests."""

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

TOPICS = ("behaviour", "exposure", "query-runs", "dead-letters")


def create_topics(bootstrap: str, names: tuple[str, ...] = TOPICS, partitions: int = 4) -> None:
    """Creates what is not there yet. The broker stamps append time: it is the log clock that decides when a list is due.

    (Tansu always stamps append time and ignores the setting.)
    """
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        for name in names:
            try:
                admin.create_topics(
                    [NewTopic(name, partitions, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})]
                )
            except TopicAlreadyExistsError:
                continue
    finally:
        admin.close()
