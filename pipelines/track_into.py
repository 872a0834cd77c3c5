"""Reads a bounded part of the log into a namespace, by the nearline job's own steps. Killed and called again, it goes on where
the namespace is: its applied offsets are the checkpoint.
"""

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import beam_workarounds, worker
from pipelines.meanwhile import meanwhile
from pipelines.nearline import execute, prepare_in, runner_options
from pipelines.operation import Running
from pipelines.options import NearlineSettings
from store.client import ShopperStore
from store.operations import TakenOver
from transforms.drain import DRAINING, TRACKED
from transforms.read_plan import ReadPlan

LOG = logging.getLogger(__name__)
TELL_S = 1.0


@dataclass(frozen=True)
class Share:
    """Of a read in the work of its operation, in records."""

    upto: int
    """What is done when it has been read."""
    of: int
    lists: int = 0
    """What the lists that are made meanwhile count for: as much as the records that are read, where lists are made."""


def track_into(
    run: Running,
    settings: NearlineSettings,
    argv: Sequence[str],
    share: Share,
    ends: Mapping[int, int] | None = None,
    requests: bool = True,
) -> ReadPlan:
    """Reads from where the namespace is to `settings.end`; generates too where the settings say so. Returns what was read.

    ends: first offsets that are not read, as they were planned; None looks them up. requests: False moves states and asks for no
    lists. `argv`: Beam's options.
    Raises Stopped where an operator asked for it, Interrupted where a signal did, else what the nearline job raises.
    """
    store = worker.new_store(settings, settings.namespace)
    job, plan = prepare_in(settings, store)
    assert plan is not None
    plan = replace(plan, ends=ends or plan.ends)
    assert plan.ends is not None, "a bounded read"
    job = replace(job, requests=requests)
    TRACKED.clear()
    beam_workarounds.treat_unknown_progress_as_no_split()
    with (
        draining_at_signals(),
        _telling(run, store, plan.ends, share),
        runner_options(PipelineOptions(list(argv), streaming=True)) as runner,
    ):
        try:
            execute(job, plan, [*argv, *runner])
        finally:
            worker.close()  # before the process ends: an engine that dies under its supervisor is started anew
    if DRAINING.is_set():
        run.stopped()
    return plan


@contextmanager
def draining_at_signals() -> Iterator[None]:
    """Here alone: elsewhere Ctrl-C ends a command at once, which the next try makes good."""
    before = {number: signal.signal(number, lambda *_: DRAINING.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _telling(run: Running, store: ShopperStore, ends: Mapping[int, int], share: Share) -> Iterator[None]:
    """Keeps the operation's record up to date, and drains the pipeline when it shall stop."""

    def tell() -> None:
        if run.asked_to_stop():
            DRAINING.set()
        at: dict[int, int] = {}
        for (_, partition), applied in store.progress().items():
            at[partition] = min(at.get(partition, applied.next_offset), applied.next_offset)
        left = sum(max(0, end - at.get(p, 0)) for p, end in ends.items())
        made = max(0, share.lists - left) * sum(store.counts().values()) // max(1, store.fired())
        try:
            run.save(done=max(run.progress.done, share.upto - left + made), of=share.of)
        except TakenOver:
            DRAINING.set()  # another process goes on with it
            raise

    with meanwhile("operation", TELL_S, tell):
        yield
