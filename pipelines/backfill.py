"""Backfill: lists for shoppers who have none, or an old one, made by the live workers beside their other work.

The preview is the default and writes nothing. With `execute` every shopper's request is made from the state as of the log clock at
which the command began, so that the same command given again goes on where it was and makes nothing twice (docs/backfill.md).
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import msgspec

from interest import State, behaviours_of, decode
from pipelines.list_estimate import Prices, estimate
from pipelines.list_requests import ERASED, FAILED, LISTED, Limits, ListRequests, Verdict, clocks_of
from pipelines.operation import DONE, STOPPED, Stopped, Window, check_alone, running
from pipelines.screen import Screen
from pipelines.unmoved import unmoved
from schemas import QueryRun
from store.client import NamespaceMeta, ShopperStore
from transforms.want_lists import wanted_list

Redo = Literal["none", "failed", "all"]
"""Whose list is made again. none: who has no list as new as the newest behaviour, unless the model failed at it since. failed: of
those without, only those whose request ended malformed, exhausted or cancelled. all: everyone."""
NO_STATE, QUARANTINED, NO_BEHAVIOURS = "no state", "quarantined", "no behaviours"
OUTSIDE, FAILED_BEFORE, NOT_FAILED = "outside the window", "failed before", "not failed before"


@dataclass(frozen=True)
class Backfill:
    """What to make, and for whom."""

    store: str
    namespace: str
    window: Window | None
    """Shoppers with a kept behaviour in it, by event time."""
    users: tuple[str, ...] | None = None
    """Only these; None for everyone who has a state."""
    redo: Redo = "none"
    models: str = "models"
    model: str = "aigq-small"
    """Whose tokenizer the preview counts with."""
    limits: Limits = field(default_factory=Limits)
    prices: Prices = field(default_factory=Prices)


class Asked(msgspec.Struct, frozen=True):
    """What the operation is known by."""

    window: str
    users: str
    """How many, and a digest of them; empty for all."""
    redo: Redo


def backfill(settings: Backfill, execute: bool) -> int:
    """Returns the exit status. Raises StoreUnavailable, WriterFenced, NamespaceMoved, LookupError where nothing is tracked."""
    store = ShopperStore(settings.store, settings.namespace)
    if not execute:
        meta = opened(store)
        selection = Selection(store, settings, "preview", meta.policy_digest, clocks_of(store), failures(store))
        found = estimate(
            store,
            users_of(store, settings),
            selection.judge,
            settings.models,
            settings.model,
            settings.prices,
            settings.limits.per_second,
        )
        print("\n".join(found.lines()))
        print("nothing was written; --execute asks for them")
        return DONE
    with unmoved(store):
        meta = opened(store)
        check_alone(store, "backfill", asked(settings))
        store.begin("backfill")
    try:
        with running(store, "backfill", asked(settings)) as run, Screen() as screen:
            failed = failures(store)
            requests = ListRequests(store, run, "backfill", settings.limits, screen)
            selection = Selection(store, settings, run.id, meta.policy_digest, requests.place.clocks, failed)
            screen.say(f"{run.id}: `aigq runs pause {run.id}` and `cancel` hold it; killed, the same command goes on")
            try:
                requests.ask(users_of(store, settings), selection.judge)
                requests.wait_until_ended()
            except Stopped:
                requests.cancel_waiting()
                raise
            finally:
                print(", ".join(f"{name} {count:,}" for name, count in requests.counts.items()))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return STOPPED
    return DONE


def opened(store: ShopperStore) -> NamespaceMeta:
    meta = store.pinned()
    if meta is None:
        raise LookupError(f"no job has opened namespace {store.name!r} at {store.calls.where}")
    return meta


def asked(settings: Backfill) -> Asked:
    users = ""
    if settings.users is not None:
        digest = blake2b("\n".join(sorted(settings.users)).encode(), digest_size=8).hexdigest()
        users = f"{len(settings.users):,} of a file ({digest})"
    return Asked(str(settings.window or ""), users, settings.redo)


def users_of(store: ShopperStore, settings: Backfill) -> Iterator[str]:
    """Some may come more than once."""
    if settings.users is not None:
        yield from settings.users
        return
    for users in store.scan_users():
        yield from users


def read_users(file: Path) -> tuple[str, ...]:
    """Ids of shoppers, one a line. Raises OSError, UnicodeDecodeError."""
    return tuple(dict.fromkeys(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()))


def failures(store: ShopperStore) -> dict[str, tuple[str, int]]:
    """Shoppers whose last request ended without a list, as far as the store remembers: outcome and as-of."""
    last: dict[str, tuple[str, int]] = {}
    for ended in store.outcomes():
        last[ended.user] = (ended.outcome, ended.as_of_ms)
    return {user: end for user, end in last.items() if end[0] in (*FAILED, "cancelled")}


@dataclass(frozen=True)
class Selection:
    """Who gets a request."""

    store: ShopperStore
    settings: Backfill
    operation: str
    trigger_version: str
    clocks: Mapping[int, int]
    failed: Mapping[str, tuple[str, int]]

    def judge(self, users: Sequence[str]) -> list[Verdict]:
        """A request, or the reason why there is none, for each. Two round trips."""
        states, runs = self.store.states(users), self.store.runs_of(users)
        return [
            self._verdict(user, decode(states[user].blob), runs.get(user, [])) if user in states else NO_STATE
            for user in users
        ]

    def _verdict(self, user: str, state: State, runs: Sequence[QueryRun]) -> Verdict:
        settings, as_of_ms = self.settings, self.clocks.get(state.partition, 0)
        times = [behaviour.time_ms for behaviour in behaviours_of(state) if behaviour.time_ms <= as_of_ms]
        if state.broken_at >= 0:
            return QUARANTINED
        if not times:
            return ERASED if state.erased_ms else NO_BEHAVIOURS
        if settings.window and not any(map(settings.window.holds, times)):
            return OUTSIDE
        if settings.redo != "all" and runs and runs[0].as_of_ms >= times[-1]:
            return LISTED
        if any(run.origin == self.operation for run in runs):  # begun anew after the name had moved
            return LISTED
        outcome, failed_ms = self.failed.get(user, ("", -1))
        since = failed_ms >= times[-1]
        if settings.redo == "none" and since and outcome in FAILED:
            return FAILED_BEFORE
        if settings.redo == "failed" and not since:
            return NOT_FAILED
        wanted = wanted_list(user, state, as_of_ms, self.operation, self.trigger_version)
        assert wanted is not None, "it has behaviours as of then"
        return wanted
