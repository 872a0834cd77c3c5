"""Write: a list goes to the store, then what the store holds goes to the results topic, then its request is cleared.

In this order a crash at any point repeats a step and loses none: the request becomes claimable again, the list is made
once more, and the store answers with the one it has ("repeated"), which is produced again.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import apache_beam as beam
import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from msgspec.structs import replace

from schemas import QueryRun
from schemas.codec import encoder_for
from store.client import Publication, PublishResult, ShopperStore
from transforms import metrics

encode_run = msgspec.msgpack.Encoder().encode
decode_run = msgspec.msgpack.Decoder(QueryRun).decode

_ENDS_IN = {"published": "published", "older": "conflated", "refused": "refused"}
"""What the store counts a publication as; `repeated` and `unknown` were counted before."""


class ResultsUnavailable(Exception):
    """Lists could not be produced to the results topic. They are in the store, and are produced when the job runs again."""


class ResultsTopic:
    """The topic of stored lists, keyed by shopper, Avro single-object encoding. One per process."""

    def __init__(self, kafka: Mapping[str, str], topic: str, deadline_s: float = 60.0):
        self._topic = topic
        self._bootstrap = kafka.get("bootstrap.servers", "")
        self._encode = encoder_for(QueryRun)
        self._producer = Producer(
            {
                "enable.idempotence": True,
                "linger.ms": 2,
                "compression.type": "lz4",
                "message.timeout.ms": int(deadline_s * 1000),
                **kafka,
            }
        )

    def produce(self, runs: Sequence[QueryRun]) -> None:
        """Returns when the broker has acknowledged them. Raises ResultsUnavailable."""
        errors: list[KafkaError] = []

        def note(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                errors.append(error)

        for run in runs:
            try:
                self._producer.produce(self._topic, self._encode(run), run.user.encode(), on_delivery=note)
            except BufferError:
                self._producer.flush()
                self._producer.produce(self._topic, self._encode(run), run.user.encode(), on_delivery=note)
            except KafkaException as error:
                errors.append(error.args[0])
        self._producer.flush()
        if errors:
            raise ResultsUnavailable(
                f"{len(errors)} of {len(runs)} lists were not written to topic {self._topic!r} at {self._bootstrap}: "
                f"{errors[0].str()}. Does the topic exist, and may the job write to it? (--results_topic)"
            )


class ListWriter:
    """Writes lists. `results` None: to the store alone."""

    def __init__(self, store: ShopperStore, results: ResultsTopic | None):
        self._store = store
        self._results = results

    def write(self, runs: Sequence[QueryRun]) -> list[PublishResult]:
        """Raises StoreUnavailable, WriterFenced, ResultsUnavailable."""
        now_ms = int(time.time() * 1000)
        stamped = [replace(run, stored_ms=now_ms) for run in runs]
        # Without a results topic the store ends the request in the same call.
        results = self._store.publish_many([publication(run) for run in stamped], end_request=self._results is None)
        readable_ms = int(time.time() * 1000)
        if self._results is not None:
            self._results.produce([decode_run(result.stored) for result in results if result.stored])
            for run, result in zip(stamped, results, strict=True):
                if result.outcome in ("published", "repeated"):
                    self._store.finish(run.user, run.run_id, "published")
        for run, result in zip(stamped, results, strict=True):
            if result.outcome in _ENDS_IN:
                metrics.REQUESTS.labels(_ENDS_IN[result.outcome]).inc()
            if result.outcome == "published" and not run.origin:  # nobody waited for what an operator asked for
                observe(run, readable_ms)
        return results


def publication(run: QueryRun) -> Publication:
    return Publication(
        run.user, run.run_id, run.as_of_ms, run.promotion, run.model_version, encode_run(run), run.replaces
    )


def observe(run: QueryRun, readable_ms: int) -> None:
    """From the newest event of the change to its readable list, by part.

    Log clock and wall clock are compared, which is exact where both are of now; an imported log shows its age.
    """
    parts = {
        "settle": run.as_of_ms - run.newest_ms,
        "queue": run.claimed_ms - run.as_of_ms,
        "model": run.generated_ms - run.claimed_ms,
        "store": readable_ms - run.generated_ms,
        "total": readable_ms - run.newest_ms,
    }
    for part, ms in parts.items():
        metrics.TIME_TO_LIST.labels(part).observe(max(0, ms) / 1000)


class WriteQueryLists(beam.DoFn):
    """The writer as a step of a pipeline. Emits nothing: its output is in the store and the results topic."""

    def __init__(self, writer_of_process: Callable[[], ListWriter]):
        self._writer_of_process = writer_of_process

    def setup(self) -> None:
        self._writer = self._writer_of_process()

    def process(self, element: list[QueryRun]) -> Iterable[None]:
        self._writer.write(element)
        return ()
