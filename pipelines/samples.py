"""`aigq samples`: archived events and home pages become samples to train on and cases to judge by (docs/samples.md).

    events -> read_through -> EventDecoder --\\
                                              by shard of shoppers -> facts of all queries --\\
    exposures ------------------------------/                      \\-> fold, samples, cases --> files

A bounded Beam job. What is in the folder is a function of the archive and the options: the first run notes both in `asked.json`, and the
same command given again after a kill makes the shards that are missing, of the same records.
"""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

import apache_beam as beam
import msgspec
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSingleton

from pipelines import beam_workarounds
from pipelines.nearline import EndOfBranch, runner_options
from schemas.codec import decoder_for
from transforms.archive_layout import EVENTS, EXPOSURES, facts_of, files_of, newest, spans
from transforms.dead_letter_limits import DeadLetterLimits
from transforms.dead_letters import DeadLetterWriter
from transforms.decode_events import EventDecoder
from transforms.files import file_exists, open_file, write_whole
from transforms.log_position import not_archived, parse_time_ms
from transforms.make_samples import CaseMoments, DirectLabels, Made, SampleRules, make_samples
from transforms.make_samples_facts import FactsCounter, MergeFacts, Partial, QueryFacts
from transforms.make_samples_life import DAY_MS, day_of, life_of
from transforms.make_samples_log import event_parcels, page_parcels, records_of
from transforms.make_samples_write import Counts, note_of, write_shard
from transforms.read_plan import ReadPlan, ReadSettings, plan_read

T = TypeVar("T")
BATCH = 8_000
TEST_DAYS = 2
IN_MEMORY = threading.Lock()
"""Of a process: held while a shard's records are in memory. Prism begins all shards at once, in threads of which one can run."""


class SampleOptions(msgspec.Struct, frozen=True):
    """What the command was given."""

    archive: str
    test_from: str = ""
    """Begin of the first test day (ISO with zone, or epoch ms); empty: the archive's last two days."""
    direct_labels: DirectLabels = "paper"
    search_hours: float = 2.0
    fewest_shoppers: int = 5
    """A query that fewer shoppers searched by themselves on the train days is no label."""
    list_length: int = 10
    cases: CaseMoments = "exposures"
    shards: int = 32
    """Of shoppers: files, and units of work. One shard's records have to fit in a worker's memory."""
    format: str = "auto"
    schema_registry: str = ""
    mapper: str = ""


class Asked(msgspec.Struct, frozen=True):
    """`asked.json`: what the folder is made from."""

    options: SampleOptions
    topic: str
    log_clock: str
    test_from_ms: int
    events_until: dict[int, int]
    """Next offset by partition."""
    exposures_until: dict[int, int]


class Summary(msgspec.Struct, frozen=True):
    """`samples.json`."""

    asked: Asked
    counts: Counts


def make(options: SampleOptions, out: str, argv: Sequence[str] = ()) -> Summary:
    """Writes the folder `out`; where it is whole already, only says what is in it. `argv`: Beam's options.

    Raises ValueError (options, a folder that other options made), LookupError (no such archive), ReadRefused (a hole in it).
    """
    out = out.rstrip("/")
    asked = _asked(options, out)
    if file_exists(f"{out}/samples.json"):
        return _read(f"{out}/samples.json", Summary)
    missing = [shard for shard in range(options.shards) if not file_exists(note_of(out, shard))]
    if missing:
        plan = replace(plan_read(reading(asked)), ends=asked.events_until)
        beam_workarounds.treat_unknown_progress_as_no_split()
        with ExitStack() as stack:
            runner = stack.enter_context(runner_options(PipelineOptions(list(argv))))
            pipeline = beam.Pipeline(options=PipelineOptions([*argv, *runner]))
            build(pipeline, asked, plan, out, frozenset(missing))
            pipeline.run().wait_until_finish()
    counts = Counts()
    for shard in range(options.shards):
        counts = counts.plus(_read(note_of(out, shard), Counts))
    summary = Summary(asked, counts)
    write_whole(f"{out}/samples.json", msgspec.json.format(msgspec.json.encode(summary)))
    return summary


def build(p: beam.Pipeline, asked: Asked, plan: ReadPlan, out: str, shards: frozenset[int]) -> None:
    """Adds the job to a pipeline; `shards` are those that are to be written."""
    options = asked.options
    parcels = tuple[int, bytes]
    events = (
        p
        | "partitions of events" >> beam.Create(sorted(asked.events_until))
        | "read events" >> beam.ParDo(ReadEventsOf(asked, plan)).with_output_types(parcels)
    )
    pages = (
        p
        | "partitions of exposures" >> beam.Create(sorted(asked.exposures_until.items()))
        | "read exposures"
        >> beam.FlatMap(lambda at: page_parcels(options.archive, at[0], at[1], options.shards)).with_output_types(
            parcels
        )
    )
    by_shard = (events, pages) | beam.Flatten() | "by shard of shoppers" >> beam.GroupByKey()
    facts = (
        by_shard
        | "count queries" >> beam.Map(lambda keyed: query_counts(keyed[1], asked))
        | "facts of queries" >> beam.CombineGlobally(MergeFacts(options.fewest_shoppers))
    )
    _ = (
        by_shard
        | "what is missing" >> beam.Filter(lambda keyed: keyed[0] in shards)
        | "samples" >> beam.Map(make_shard, AsSingleton(facts), asked, out)  # type: ignore[arg-type]
        | "end" >> EndOfBranch()
    )


class ReadEventsOf(beam.DoFn):
    """Partition -> its parcels."""

    def __init__(self, asked: Asked, plan: ReadPlan):
        self._asked, self._plan = asked, plan

    def process(self, element: int) -> Iterator[Any]:
        options = self._asked.options
        decoder = EventDecoder(
            decoder_for(options.format, options.schema_registry, options.mapper),
            DeadLetterWriter({}, ""),  # their letters were written when the job met them
            DeadLetterLimits(1.0, 0),
            self._asked.log_clock,  # type: ignore[arg-type]
        )
        yield from event_parcels(reading(self._asked), self._plan, element, decoder, options.shards)


def query_counts(parcels: Iterable[bytes], asked: Asked) -> Partial:
    counter = FactsCounter(asked.test_from_ms)
    with IN_MEMORY:
        for records in records_of(parcels)[0]:
            counter.add(life_of(records))
    return counter.found


def make_shard(keyed: tuple[int, Iterable[bytes]], facts: QueryFacts, asked: Asked, out: str) -> int:
    """Writes one shard's files; returns its number."""
    with IN_MEMORY:
        made, counts = samples_of(keyed[1], facts, rules_of(asked))
        write_shard(out, keyed[0], made, counts)
    return keyed[0]


def samples_of(parcels: Iterable[bytes], facts: QueryFacts, rules: SampleRules) -> tuple[Made, Counts]:
    """Of one shard."""
    made = Made()
    shoppers, dropped = records_of(parcels)
    for records in shoppers:
        add(made, make_samples(life_of(records), rules, facts))
    lists = [*made.direct["train"], *made.direct["test"], *made.think["train"], *made.think["test"]]
    counts = Counts(
        shoppers=len(shoppers),
        events=sum(len(records.events) for records in shoppers),
        exposures=sum(len(records.pages) for records in shoppers),
        direct_train=len(made.direct["train"]),
        direct_test=len(made.direct["test"]),
        think_train=len(made.think["train"]),
        think_test=len(made.think["test"]),
        cases=len(made.cases),
        short_lists=sum(len(sample.labels) < rules.list_length for sample in lists),
        dropped=dict(sorted((made.dropped + dropped).items())),
    )
    return made, counts


def add(made: Made, more: Made) -> None:
    for split in ("train", "test"):
        made.direct[split] += more.direct[split]
        made.think[split] += more.think[split]
    made.cases += more.cases
    made.dropped.update(more.dropped)


def rules_of(asked: Asked) -> SampleRules:
    options = asked.options
    search_ms = int(options.search_hours * 3_600_000)
    return SampleRules(asked.test_from_ms, options.direct_labels, search_ms, options.list_length, options.cases)


def summary_line(summary: Summary, seconds: float) -> str:
    """The last line of the command."""
    return json.dumps({"summary": {"seconds": round(seconds, 3)} | msgspec.to_builtins(summary.counts)})


def run(options: SampleOptions, out: str, argv: Sequence[str] = ()) -> None:
    began = time.monotonic()
    summary = make(options, out, argv)
    print(summary_line(summary, time.monotonic() - began), flush=True)


def _asked(options: SampleOptions, out: str) -> Asked:
    """What an earlier run noted, or the archive as it is now."""
    path = f"{out}/asked.json"
    if file_exists(path):
        known = _read(path, Asked)
        if known.options != options:
            changed = [n for n in options.__struct_fields__ if getattr(known.options, n) != getattr(options, n)]
            told = ", ".join(f"{n} {getattr(known.options, n)!r}" for n in changed)
            raise ValueError(f"{out} was made with other options ({told}): give those, or another --out")
        return known
    asked = _of_archive(options)
    write_whole(path, msgspec.json.format(msgspec.json.encode(asked)))
    return asked


def _of_archive(options: SampleOptions) -> Asked:
    if errors := _errors(options):
        raise ValueError("\n".join(errors))
    events, exposures = files_of(options.archive, EVENTS), files_of(options.archive, EXPOSURES)
    if not events:
        raise LookupError(
            f"no archive of events in {options.archive}: is --archive right? A market's is MARKET/archive"
        )
    if not exposures and options.cases == "exposures":
        raise LookupError(f"no exposures in {options.archive}: for a log of searches alone give --cases=searches")
    facts = {partition: facts_of(file) for partition, file in newest(events).items()}
    one = next(iter(facts.values()))
    for partition, of_partition in spans(exposures).items():
        if len(of_partition) > 1:
            hole = of_partition[0].next_offset, of_partition[1].first_offset
            raise not_archived("of exposures", partition, *hole, options.archive)
    last_ms = max(each.clock_ms for each in facts.values())
    test_from_ms = day_of(last_ms) - (TEST_DAYS - 1) * DAY_MS
    asked = Asked(
        options,
        one.topic,
        one.log_clock,
        parse_time_ms(options.test_from) if options.test_from else test_from_ms,
        {partition: of_partition[-1].next_offset for partition, of_partition in spans(events).items()},
        {partition: of_partition[-1].next_offset for partition, of_partition in spans(exposures).items()},
    )
    plan = plan_read(reading(asked))
    assert plan.ends is not None
    return msgspec.structs.replace(asked, events_until=dict(plan.ends))


def _errors(options: SampleOptions) -> list[str]:
    """Everything that is wrong, each with what to do."""
    wrong = [
        f"--{name} must be above 0, is {getattr(options, name)}"
        for name in ("search_hours", "fewest_shoppers", "list_length", "shards")
        if getattr(options, name) <= 0
    ]
    if options.test_from and (at := parse_time_ms(options.test_from)) != day_of(at):
        wrong.append(f"--test_from={options.test_from} is no begin of a day (UTC): a shopper's day lies in one split")
    for name, choices in (("direct_labels", DirectLabels), ("cases", CaseMoments)):
        if getattr(options, name) not in choices.__args__:
            wrong.append(f"--{name} is one of {', '.join(choices.__args__)}; got {getattr(options, name)!r}")
    return wrong


def reading(asked: Asked) -> ReadSettings:
    return ReadSettings(
        {"bootstrap.servers": ""},
        asked.topic,
        start="earliest",
        end="now",
        archive=asked.options.archive,
        log_clock=asked.log_clock,  # type: ignore[arg-type]
        batch_records=BATCH,
    )


def _read(path: str, kind: type[T]) -> T:
    with open_file(path) as stream:
        return msgspec.json.decode(stream.read(), type=kind)
