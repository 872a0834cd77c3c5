"""Watches a log from beside the reader, so that no question to the broker ever delays a record.

Ten times a second it asks for the ends of the partitions: an answer equal to what was read proves that nothing was there at
the time of asking. Every few seconds it looks at the rest: retention, the topic's identity, its partitions, silence.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from transforms import metrics
from transforms.kafka_clients import beginnings_now, broker_watcher, canonical, ends_now
from transforms.log_position import (
    ReadRefused,
    ends_early,
    partitions_grew,
    records_lost,
    skipped,
    topic_recreated,
)
from transforms.read_plan import ReadPlan, ReadSettings

LOG = logging.getLogger(__name__)

ASK_S = 0.05
BUSY_ASK_S = 1.0
"""While every partition delivers, ends are only needed for the lag."""
LOOK_S = 1.0
"""Between looks at the topic's identity: so long may records of a recreated topic be taken for the old one's, if there are
already more of them than were read."""
COMMIT_S = 1.0
ANSWER_S = 1.0
DOWN_AFTER_S = 2.0
"""A broker that does not answer for longer is said to be down."""
SILENCE_S = 30.0
NO_ID = "A" * 22
"""Canonical form of the id 0, which brokers without topic ids answer."""


@dataclass
class Reading:
    """What the reader tells the watch."""

    positions: dict[int, int] = field(default_factory=dict)
    """Next offset by partition, as far as fetched."""
    last_record_at: float = field(default_factory=time.monotonic)
    last_record_of: dict[int, float] = field(default_factory=dict)
    last_error: str = ""
    """Newest complaint of the consumer, for the report of silence."""
    out_of_range: set[int] = field(default_factory=set)
    """Partitions whose position the broker refused, until the watch has looked why."""
    seek_again: set[int] = field(default_factory=set)
    """Partitions of those whose position is right after all."""
    hint: dict[int, int] = field(default_factory=dict)
    """Next offset by partition as far as the job is done: what the group is told."""


class LogWatch:
    """A thread beside one consumer. `every_step` runs on it too."""

    def __init__(
        self,
        settings: ReadSettings,
        plan: ReadPlan,
        partitions: tuple[int, ...],
        reading: Reading,
        every_step: Callable[[], None],
    ):
        self.ends: dict[int, tuple[int, int]] = {}
        """End and the wall clock (ms) of the question, by partition."""
        self.gone: dict[int, int] = {
            partition: plan.beginnings[partition]
            for partition in partitions
            if plan.starts[partition] < plan.beginnings[partition]
        }
        """First offset left, where records below it are to be skipped."""
        self.refusal: ReadRefused | None = None
        self.read_out = False
        """Whether a bounded read has ended, so that silence is no news."""
        self._settings, self._plan, self._partitions, self._reading = settings, plan, partitions, reading
        self._every_step = every_step
        self._stopped = threading.Event()
        self._watcher: AdminClient | None = None
        self._asked_at = self._looked_at = 0.0
        self._committed: dict[int, int] = {}
        self._committed_at = 0.0
        self._positions_then: dict[int, int] = {}
        self._down_since: float | None = None
        self._down_said = False
        self._started_at = self._silence_said_at = time.monotonic()
        self._shrunk = False
        """Whether an end went back: a sign of another topic behind the name."""
        self._idle: set[int] = set()
        self._thread = threading.Thread(target=self._run, name=f"watch-{plan.topic}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        self._watcher = broker_watcher(self._settings.kafka)
        while not self._stopped.wait(ASK_S):
            try:
                self._step(self._watcher)
                self._every_step()
            except Exception:  # the watch must outlive what it did not expect; the reader stands still without it
                LOG.exception("watching topic %s", self._plan.topic)

    def _step(self, watcher: AdminClient) -> None:
        now, positions = time.monotonic(), dict(self._reading.positions)
        busy = bool(positions) and all(positions[p] != self._positions_then.get(p) for p in positions)
        self._positions_then = positions
        if not busy or now - self._asked_at >= BUSY_ASK_S:
            self._asked_at = now
            self._ask_ends(watcher, positions)
        if now - self._looked_at >= LOOK_S or self._reading.out_of_range or self._shrunk:
            self._looked_at = now
            self._look(watcher, positions)
        if self._settings.group and self._down_since is None and now - self._committed_at >= COMMIT_S:
            self._committed_at = now
            self._commit(watcher)
        if not self.read_out:
            self._say_silence(positions)

    def _ask_ends(self, watcher: AdminClient, positions: dict[int, int]) -> None:
        asked_ms = int(time.time() * 1000)
        try:
            ends = ends_now(watcher, self._plan.topic, self._partitions, ANSWER_S)
        except (KafkaException, TimeoutError) as error:
            self._no_answer(error)
            return
        if self._down_since is not None and self._down_said:
            LOG.warning(
                "broker %s is back after %.0f s; reading goes on",
                self._settings.kafka["bootstrap.servers"],
                time.monotonic() - self._down_since,
            )
        self._down_since, self._down_said = None, False
        self._shrunk = any(end < self.ends.get(partition, (0, 0))[0] for partition, end in ends.items())
        self.ends = {partition: (end, asked_ms) for partition, end in ends.items()}
        for partition, end in ends.items():
            if partition in positions:
                metrics.LAG.labels(partition).set(max(0, end - positions[partition]))

    def _no_answer(self, error: Exception) -> None:
        self._reading.last_error = str(error)
        now = time.monotonic()
        if self._down_since is None:
            self._down_since = now
        elif not self._down_said and now - self._down_since >= DOWN_AFTER_S:
            self._down_said = True
            LOG.error(
                "broker %s does not answer for topic %s (%s): reading and progress stand still until it does; trying again",
                self._settings.kafka["bootstrap.servers"],
                self._plan.topic,
                error,
            )

    def _look(self, watcher: AdminClient, positions: dict[int, int]) -> None:
        try:
            (answer,) = watcher.describe_topics(TopicCollection([self._plan.topic]), request_timeout=ANSWER_S).values()
            topic = answer.result(ANSWER_S + 1)
            beginnings = beginnings_now(watcher, self._plan.topic, self._partitions, ANSWER_S)
            ends = ends_now(watcher, self._plan.topic, self._partitions, ANSWER_S)
        except (KafkaException, TimeoutError) as error:
            self._no_answer(error)
            return
        topic_id = canonical(topic.topic_id).replace("+", "-").replace("/", "_")  # librdkafka writes plain base64
        if topic_id not in {self._plan.topic_id, NO_ID}:
            self._refuse(topic_recreated(self._plan.topic, self._plan.topic_id, topic_id))
        elif len(topic.partitions) > self._plan.partitions:
            self._refuse(partitions_grew(self._plan.topic, self._plan.partitions, len(topic.partitions)))
        for partition in tuple(self._reading.out_of_range):
            self._judge(partition, positions.get(partition), beginnings[partition], ends[partition])
            self._reading.out_of_range.discard(partition)

    def _judge(self, partition: int, position: int | None, beginning: int, end: int) -> None:
        """Why the broker refused to fetch at `position`. (What was deleted on the broker may already have been fetched, so
        the refusal counts, not the comparison alone.)"""
        if position is None or position < self.gone.get(partition, 0):
            return
        if position < beginning:
            lost = records_lost(self._plan.topic, partition, position, beginning)
            if self._settings.on_lost_records == "fail":
                self._refuse(lost)
            else:
                LOG.error(skipped(lost))
                self.gone[partition] = beginning
        elif position > end:
            self._refuse(ends_early(self._plan.topic, partition, position, end))
        else:
            self._reading.seek_again.add(partition)

    def _commit(self, watcher: AdminClient) -> None:
        """Not by the consumer: closing it would wait 45 s for an answer to a commit from a broker that is down."""
        group, hint = self._settings.group, self._reading.hint
        if hint == self._committed:
            return
        self._committed = hint
        offsets = [TopicPartition(self._plan.topic, partition, offset) for partition, offset in hint.items()]
        try:
            request = ConsumerGroupTopicPartitions(group, offsets)
            (answer,) = watcher.alter_consumer_group_offsets([request], request_timeout=ANSWER_S).values()
            answer.result(ANSWER_S + 1)
        except (KafkaException, TimeoutError) as error:
            LOG.warning("group %s was not told its offsets (%s); nothing but lag monitors depends on it", group, error)

    def _refuse(self, refusal: ReadRefused) -> None:
        if self.refusal is None:
            LOG.error("%s: %s", type(refusal).__name__, refusal)
            self.refusal = refusal

    def _say_silence(self, positions: dict[int, int]) -> None:
        now = time.monotonic()
        heard = self._reading.last_record_of
        for partition in positions:
            silent_s = now - heard.get(partition, self._started_at)
            if silent_s < SILENCE_S:
                self._idle.discard(partition)
            elif partition not in self._idle and now - self._reading.last_record_at < SILENCE_S:
                self._idle.add(partition)
                LOG.info("partition %d of topic %s is idle while others deliver", partition, self._plan.topic)
        if now - max(self._reading.last_record_at, self._silence_said_at) >= SILENCE_S:
            self._silence_said_at = now
            ends = {partition: end for partition, (end, _) in self.ends.items()}
            down = self._down_since is not None
            LOG.warning(
                "nothing arrives from topic %s for %.0f s: %s",
                self._plan.topic,
                now - self._reading.last_record_at,
                why_nothing_arrives(positions, ends, down, self._reading.last_error),
            )


def why_nothing_arrives(positions: dict[int, int], ends: dict[int, int], down: bool, last_error: str) -> str:
    """The cause, from what the reader holds and the broker last answered."""
    complaint = f" (last complaint: {last_error})" if last_error else ""
    if "uthoriz" in last_error or "uthenticat" in last_error or "SASL" in last_error:
        return f"not authorised{complaint}: check the credentials and the right to READ and DESCRIBE the topic"
    if down or not ends:
        return f"the broker does not answer{complaint}"
    if not positions:
        return "the runner has not asked for records yet"
    if all(end == 0 for end in ends.values()):
        return "the topic is empty, nothing was ever produced to it. Do the producers write to this topic and cluster?"
    behind = {partition: ends[partition] - at for partition, at in positions.items() if ends[partition] > at}
    if not behind:
        return "everything was read, the producers are silent"
    return f"records are there ({behind} by partition) but fetching brings none{complaint}"
