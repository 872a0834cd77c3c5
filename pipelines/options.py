"""The settings of the nearline job: one frozen dataclass, read from Beam's pipeline options, checked all at once.

Every field is an option of the same name with its help and unit; the trigger policy's are prefixed `trigger_`.
"""

import argparse
import os
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from inference.allow_list import AUTO, NONE, AllowList, BadAllowList
from interest import TriggerPolicy
from store.client import NamespaceMeta
from transforms.log_position import parse_time_ms


def option(help: str, default: Any = MISSING, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class NearlineSettings:
    """Everything the job can be told. A default is a value that someone would run in production."""

    bootstrap: str = option("Kafka brokers, host:port separated by commas; or $AIGQ_BOOTSTRAP", "")
    kafka_config: str = option("more librdkafka settings (SASL, TLS), name=value separated by semicolons", "")
    topic: str = option("topic of behaviour events, keyed by shopper", "behaviour")
    results_topic: str = option("topic that every stored list is produced to; empty for none", "query-runs")
    dead_letter_topic: str = option("topic for records and outputs that could not be used", "dead-letters")
    group: str = option(
        "consumer group: a hint of progress for lag monitors (the truth is in the store); empty for aigq-NAMESPACE", ""
    )
    start: str = option(
        "where to begin: applied (in the store), earliest, latest, or a time (ISO with zone)", "applied"
    )
    start_if_new: str = option(
        "where to begin in a namespace that has read nothing yet", "earliest", ("earliest", "latest")
    )
    end: str = option("stop there and drain: empty (never), now (the ends at start), or a time (ISO with zone)", "")
    archive: str = option(
        "folder or URL of an archive of the topic, for what the broker no longer holds; empty for none", ""
    )
    on_lost_records: str = option("retention has deleted records that were not read yet", "fail", ("fail", "skip"))
    adopt: bool = option("take another fold version or trigger policy over into the namespace", False)
    log_clock: str = option(
        "what drives settle, cooldown and due: the broker's append time, or the events' own ingest_ms (imported logs only)",
        "append",
        ("append", "ingest_ms"),
    )
    batch_records: int = option("records of one partition in one element", 2_000)
    records_per_s: float = option(
        "most records read a second, for a replay or rebuild beside a busy job; 0 for no limit", 0.0
    )
    splits: int = option("parallel readers; 1 on Prism, at most the number of partitions on Flink", 1)
    poll_s: float = option("seconds between polls for new records", 0.05)

    format: str = option("wire format of events", "auto", ("auto", "avro", "confluent", "json"))
    schema_registry: str = option("URL of the schema registry for Confluent framing", "")
    mapper: str = option("module:function that reads your own events: bytes -> BehaviourEvent, or a reason", "")
    dead_letter_ratio: float = option("share of the last 1,000 records that may be dead before the job stops", 0.5)
    dead_letter_run: int = option("dead records in a row before the job stops; 0 for no such limit", 500)

    store: str = option("URL of the key-value store: redis://, rediss://, unix://; or $AIGQ_STORE", "")
    namespace: str = option(
        "namespace of the keys; another one is another, independent state; or $AIGQ_NAMESPACE", "live"
    )
    shards: int = option("shards of shoppers, fixed for a namespace; 0: those it has, 16 in a new one", 0)
    state_ttl_days: float = option("days after which an untouched shopper's state is garbage", 120.0)
    list_ttl_days: float = option("days that a list may be served", 30.0)
    runs_kept: int = option("newest lists kept of each shopper", 3)
    store_deadline_s: float = option("seconds a call to the store is retried before the job gives up", 60.0)

    stages: str = option("what this deployment does", "track,generate", ("track,generate", "track", "generate"))
    models: str = option("folder of model bundles (models/NAME/VERSION/)", "models")
    model: str = option("name of the model; its CURRENT file names the version", "aigq-small")
    model_version: str = option("a published version to use in place of the current one; empty for none", "")
    model_server: str = option("URL of a vLLM server to use in place of an engine in the worker", "")
    in_flight: int = option("requests that the engine holds at once; some wait, so that its batches stay full", 768)
    low_in_flight: int = option(
        "of them, requests of low priority (backfill, regenerate) that one worker holds at once; as --in_flight in a worker for those",
        64,
    )
    lease_s: float = option("seconds after which a request that a worker took is free again", 60.0)
    attempts: int = option("times that a request is tried before it is a dead letter", 3)
    max_age_s: float = option("seconds after which a request is no longer worth a generation; 0 for never", 3_600.0)
    catch_up_s: float = option(
        "seconds behind the log from which on requests wait for the tracking, for as long at most", 30.0
    )
    allow_list: str = option(
        "which queries lists may hold: auto (the allow-list in the model's bundle, if it has one), a file of `aigq allow-list`, or none",
        AUTO,
    )
    block_list: str = option("file of queries and words that are never shown, one a line", "")

    metrics_port: int = option("port of /metrics and /healthz on loopback; 0 for none", 0)
    summary: str = option("file for the summary as JSON; empty for none", "")
    log_texts: bool = option("write shoppers' texts to the log", False)

    trigger_drift: float | None = option("see TriggerPolicy.drift: share of the interest", None)
    trigger_evidence: float | None = option("see TriggerPolicy.evidence: weight of behaviours", None)
    trigger_settle_ms: int | None = option("quiet time after a change, ms", None)
    trigger_max_wait_ms: int | None = option("longest wait for quiet, ms", None)
    trigger_cooldown_ms: int | None = option("shortest time between two lists of a shopper, ms", None)
    trigger_half_life_ms: int | None = option("time in which a behaviour loses half its weight, ms", None)

    def policy(self, base: TriggerPolicy = TriggerPolicy()) -> TriggerPolicy:
        """The trigger policy: what was given, over that of the namespace (`base`)."""
        return replace(base, **{name.removeprefix("trigger_"): value for name, value in self.given_trigger().items()})

    def given_trigger(self) -> dict[str, Any]:
        """The trigger options that were given, by name."""
        return {name: getattr(self, name) for name in TRIGGER_OPTIONS if getattr(self, name) is not None}

    def without_trigger(self) -> "NearlineSettings":
        """The same with the namespace's own trigger policy."""
        return replace(self, **dict.fromkeys(TRIGGER_OPTIONS))

    def policy_of(self, pinned: NamespaceMeta | None) -> TriggerPolicy:
        """The policy in a namespace that is pinned so; None for a new one."""
        return self.policy(TriggerPolicy.from_json(pinned.policy) if pinned else TriggerPolicy())

    @cached_property
    def kafka(self) -> dict[str, str]:
        """Settings for every Kafka client."""
        pairs = (pair.partition("=") for pair in self.kafka_config.split(";") if pair)
        return {"bootstrap.servers": self.bootstrap} | {name.strip(): value for name, _, value in pairs}

    @property
    def consumer_group(self) -> str:
        """One for each namespace: a group that has read where the store knows nothing means that the store was lost."""
        return self.group or f"aigq-{self.namespace}"

    @property
    def tracks(self) -> bool:
        return "track" in self.stages

    @property
    def generates(self) -> bool:
        return "generate" in self.stages

    def errors(self) -> list[str]:
        """Everything that is wrong, each with what to do."""
        needed = (
            ("store", "dead_letter_topic") if self.archive and self.end else ("bootstrap", "store", "dead_letter_topic")
        )
        wrong = [f"--{name} is required" for name in needed if not getattr(self, name)]
        for f in fields(self):
            value, choices = getattr(self, f.name), f.metadata["choices"]
            if choices and value not in choices:
                wrong.append(f"--{f.name} is one of {', '.join(choices)}; got {value!r}")
            if isinstance(value, (int, float)) and f.name not in TRIGGER_OPTIONS and value < 0:
                wrong.append(f"--{f.name} must not be negative; got {value}")
        for name in ("batch_records", "splits", "runs_kept", "in_flight", "attempts", "lease_s"):
            if getattr(self, name) == 0:
                wrong.append(f"--{name} must be above 0")
        if not 0 < self.dead_letter_ratio <= 1:
            wrong.append(f"--dead_letter_ratio is a share, 0 < ratio <= 1; got {self.dead_letter_ratio}")
        if any("=" not in pair for pair in self.kafka_config.split(";") if pair):
            wrong.append(f"--kafka_config is name=value;name=value; got {self.kafka_config!r}")
        if not 0 < len(self.namespace) <= 64 or not set(self.namespace) <= set(
            "abcdefghijklmnopqrstuvwxyz0123456789-_."
        ):
            wrong.append(f"--namespace is 1 to 64 of a-z 0-9 - _ . ; got {self.namespace!r}")
        for name, words in (("start", ("applied", "earliest", "latest")), ("end", ("", "now"))):
            try:
                if getattr(self, name) not in words:
                    parse_time_ms(getattr(self, name))
            except ValueError as error:
                wrong.append(f"--{name}: {error}")
        if self.mapper and ":" not in self.mapper:
            wrong.append(f"--mapper is module:function; got {self.mapper!r}")
        if self.format == "confluent" and not self.schema_registry:
            wrong.append("--format=confluent needs --schema_registry=URL")
        if self.generates and not self.model_server and not Path(self.models, self.model).is_dir():
            wrong.append(
                f"--models: no bundle {self.model!r} in {Path(self.models).resolve()}; docs/training.md tells how one is made"
            )
        if self.block_list and not Path(self.block_list).is_file():
            wrong.append(f"--block_list: no file {self.block_list}")
        if self.generates and self.allow_list not in (AUTO, NONE):
            try:
                if not AllowList.read(self.allow_list).rows:
                    wrong.append(f"--allow_list: {self.allow_list} allows no query; count it with fewer --shoppers")
            except BadAllowList as error:
                wrong.append(f"--allow_list: {error}")
        return wrong + [f"--trigger_{message}" for message in self.policy().errors()]


FROM_ENVIRONMENT = ("bootstrap", "store", "namespace")
"""Where everything is: an on-call exports it once, and every command takes it from AIGQ_BOOTSTRAP, AIGQ_STORE, AIGQ_NAMESPACE."""
TRIGGER_OPTIONS = tuple(f.name for f in fields(NearlineSettings) if f.name.startswith("trigger_"))


def default_of(setting: Field[Any]) -> str:
    """The default as a person reads it."""
    if setting.name in TRIGGER_OPTIONS:
        return f"the namespace's; {getattr(TriggerPolicy, setting.name.removeprefix('trigger_'))} in a new one"
    return str(setting.default)


def exported_or_default(setting: Field[Any], exported: tuple[str, ...]) -> Any:
    """AIGQ_NAME of the environment, for the settings that may be exported."""
    return (setting.name in exported and os.environ.get(f"AIGQ_{setting.name.upper()}")) or setting.default


class NearlineOptions(PipelineOptions):
    """Beam's view of the settings."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        for f in fields(NearlineSettings):
            help = f"{f.metadata['help']} (default: {default_of(f)})".replace("%", "%%")
            if f.name in TRIGGER_OPTIONS:
                kind = type(getattr(TriggerPolicy, f.name.removeprefix("trigger_")))
                parser.add_argument(f"--{f.name}", type=kind, default=None, help=help)
            elif isinstance(f.default, bool):
                parser.add_argument(f"--{f.name}", action="store_true", default=f.default, help=help)
            else:
                default = exported_or_default(f, FROM_ENVIRONMENT)
                parser.add_argument(f"--{f.name}", type=type(f.default), default=default, help=help)

    @classmethod
    def print_help(cls) -> None:
        parser = argparse.ArgumentParser("aigq run nearline", epilog="Other options go to Beam.", add_help=False)
        cls._add_argparse_args(parser)
        parser.print_help()

    def settings(self) -> NearlineSettings:
        return NearlineSettings(**{f.name: getattr(self, f.name) for f in fields(NearlineSettings)})
