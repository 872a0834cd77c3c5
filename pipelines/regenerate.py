"""Regenerate: lists that a bad model stored in a window are made again as of now, and go in the step that stores the new ones.

The way back is `aigq models rollback` first. The requests are a backfill's: low priority, paced, the same brakes. A bad list may still
be on its way when the command begins, so it looks again until it finds none.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from inference.model_versions import latest
from interest import decode
from pipelines.backfill import NO_BEHAVIOURS, NO_STATE, QUARANTINED, opened
from pipelines.known_options import unknown_words
from pipelines.list_estimate import Prices, estimate
from pipelines.list_requests import ERASED, Limits, ListRequests, Verdict, clocks_of
from pipelines.operation import (
    A_PERSON_DECIDES,
    DONE,
    FAILED,
    STOPPED,
    WRONG_ARGUMENTS,
    Stopped,
    Window,
    check_alone,
    running,
)
from pipelines.screen import Screen
from pipelines.unmoved import unmoved
from schemas import QueryRun
from store.client import ShopperStore
from transforms.want_lists import wanted_list

MOST_ROUNDS = 5
"""A round asks for who still has a bad list, as of then."""
MANY = 100
"""Where a round leaves half of those and more than so many, another would not help: the workers still have the bad model."""
NO_BAD_LIST, FAILED_NOW = "no bad list", "the model failed at it"
BAD_AGAIN, OVERTAKEN = (
    "a bad version made the new list too",
    "overtaken by the shopper's own request; give the command again",
)


@dataclass(frozen=True)
class Regenerate:
    """Whose lists are bad, and when they were stored."""

    store: str
    namespace: str
    window: Window
    """By the wall clock at which a list was stored."""
    versions: tuple[str, ...] = ()
    """Bad versions (`aigq-small/3`); empty for every one but that which serves."""
    models: str = "models"
    model: str = "aigq-small"
    limits: Limits = field(default_factory=Limits)
    prices: Prices = field(default_factory=Prices)


class Asked(msgspec.Struct, frozen=True):
    """What the operation is known by."""

    window: str
    versions: tuple[str, ...]
    serves: str


@dataclass(frozen=True)
class BadLists:
    """Which lists are bad."""

    window: Window
    versions: tuple[str, ...]
    serves: str

    def of(self, runs: Sequence[QueryRun], operation: str) -> tuple[str, ...]:
        """Run ids. Also of this operation, where a worker that still had the bad model made them."""
        return tuple(
            run.run_id
            for run in runs
            if self._made(run) and (self.window.holds(run.stored_ms) or (operation and run.origin == operation))
        )

    def _made(self, run: QueryRun) -> bool:
        return run.model_version in self.versions if self.versions else run.model_version != self.serves


def run_regenerate(arguments: Sequence[str], window: Window, execute: bool) -> int:
    """`aigq replay --regenerate`: as `regenerate`, from words."""
    parser = argparse.ArgumentParser("aigq replay --regenerate", allow_abbrev=False)
    parser.add_argument("--store", default=os.environ.get("AIGQ_STORE", "redis://127.0.0.1:6379"))
    parser.add_argument("--namespace", default=os.environ.get("AIGQ_NAMESPACE", "live"))
    parser.add_argument("--models", default="models")
    parser.add_argument("--model", default="aigq-small")
    parser.add_argument("--model_version", action="append", default=[], help="a bad one; the option may come again")
    parser.add_argument("--per_second", type=float, default=Limits.per_second)
    parser.add_argument("--most_waiting", type=int, default=Limits.most_waiting)
    parser.add_argument("--tokens_per_second", type=float, default=0.0)
    parser.add_argument("--gpu_hour_price", type=float, default=0.0)
    given, others = parser.parse_known_args(arguments)
    wrong = unknown_words(others, vars(given))
    wrong += [f"--{name} must be above 0" for name in ("per_second", "most_waiting") if getattr(given, name) <= 0]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return WRONG_ARGUMENTS
    named = (word if "/" in word else f"{given.model}/{word}" for word in given.model_version)
    settings = Regenerate(
        given.store,
        given.namespace,
        window,
        tuple(sorted(set(named))),
        given.models,
        given.model,
        Limits(given.per_second, given.most_waiting),
        Prices(given.tokens_per_second, given.gpu_hour_price),
    )
    return regenerate(settings, execute)


def regenerate(settings: Regenerate, execute: bool) -> int:
    """Returns the exit status: 1 where bad lists are left, 3 where a bad version serves.

    Raises StoreUnavailable, WriterFenced, NamespaceMoved, BadBundle, LookupError where nothing is tracked.
    """
    store = ShopperStore(settings.store, settings.namespace)
    served = latest(settings.models, settings.model)
    if served is None:
        raise LookupError(f"no model is promoted in {settings.models}/{settings.model}: which version is good?")
    bad = BadLists(settings.window, settings.versions, served.version)
    if served.version in settings.versions:
        print(
            f"{served.version} serves: new lists would be as bad. First: aigq models rollback --from={served.version}",
            file=sys.stderr,
        )
        return A_PERSON_DECIDES
    if not execute:
        meta = opened(store)
        judge = Selection(store, bad, "preview", meta.policy_digest, clocks_of(store)).judge
        users = set(affected(store, bad, ""))
        models, model, per_second = settings.models, settings.model, settings.limits.per_second
        print("\n".join(estimate(store, users, judge, models, model, settings.prices, per_second).lines()))
        for version, count in sorted(by_version(store, users, bad).items()):
            print(f"{count:,} lists of {version} were stored within {settings.window}")
        print("nothing was written; --execute asks for them")
        return DONE
    asked = Asked(str(settings.window), settings.versions, served.version)
    with unmoved(store):
        meta = opened(store)
        check_alone(store, "regenerate", asked)
        store.begin("regenerate")
    try:
        with running(store, "regenerate", asked) as run, Screen() as screen:
            requests = ListRequests(store, run, "regenerate", settings.limits, screen)
            screen.say(f"{run.id}: `aigq runs pause {run.id}` and `cancel` hold it; killed, the same command goes on")
            try:
                make_again(store, bad, run.id, meta.policy_digest, requests)
            except Stopped:
                requests.cancel_waiting()
                raise
            finally:
                print(", ".join(f"{name} {count:,}" for name, count in requests.counts.items()))
            left = why_left(store, bad, run.id, requests)
            run.save(note="no bad list is left" if not left else f"left: {said(left)}")
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return STOPPED
    if left:
        print(f"bad lists are left of {sum(left.values()):,} shoppers: {said(left)}", file=sys.stderr)
    return FAILED if left else DONE


def make_again(store: ShopperStore, bad: BadLists, operation: str, trigger: str, requests: ListRequests) -> None:
    """Rounds, until one finds nobody to ask for."""
    before = 0
    while True:
        judge = Selection(store, bad, operation, trigger, requests.place.clocks, requests.failed).judge
        resumed = requests.open
        asked = requests.ask(affected(store, bad, operation), judge)
        requests.wait_until_ended()
        useless = before and asked > max(MANY, before / 2)
        if useless or requests.place.round >= MOST_ROUNDS or not (asked or resumed):
            return
        before = asked
        requests.next_round()


def affected(store: ShopperStore, bad: BadLists, operation: str) -> Iterator[str]:
    """Shoppers with a bad list. Some may come more than once."""
    for user, runs in store.scan_runs():
        if bad.of(runs, operation):
            yield user


def by_version(store: ShopperStore, users: set[str], bad: BadLists) -> Counter[str]:
    found: Counter[str] = Counter()
    for user, runs in store.scan_runs():
        if user in users:
            ids = bad.of(runs, "")
            found.update(run.model_version for run in runs if run.run_id in ids)
    return found


def why_left(store: ShopperStore, bad: BadLists, operation: str, requests: ListRequests) -> Counter[str]:
    """Shoppers who still have a bad list, by the reason."""
    users = sorted(set(affected(store, bad, operation)))
    judge = Selection(store, bad, operation, "", clocks_of(store), requests.failed).judge
    runs = store.runs_of(users)
    again = {
        user for user, found in runs.items() if bad.of([run for run in found if run.origin == operation], operation)
    }
    return Counter(
        verdict if isinstance(verdict, str) else BAD_AGAIN if user in again else OVERTAKEN
        for user, verdict in zip(users, judge(users), strict=True)
    )


def said(left: Mapping[str, int]) -> str:
    return "; ".join(f"{reason} {count:,}" for reason, count in sorted(left.items()))


@dataclass(frozen=True)
class Selection:
    """Who gets a request."""

    store: ShopperStore
    bad: BadLists
    operation: str
    trigger_version: str
    clocks: Mapping[int, int]
    failed: frozenset[str] | set[str] = frozenset()
    """The model would fail at them again."""

    def judge(self, users: Sequence[str]) -> list[Verdict]:
        """A request, or the reason why there is none, for each. Two round trips."""
        states, runs = self.store.states(users), self.store.runs_of(users)
        verdicts: list[Verdict] = []
        for user in users:
            replaces = self.bad.of(runs.get(user, []), self.operation)
            if not replaces:
                verdicts.append(NO_BAD_LIST)
            elif user not in states:
                verdicts.append(NO_STATE)
            elif user in self.failed:
                verdicts.append(FAILED_NOW)
            else:
                verdicts.append(self._verdict(user, states[user].blob, replaces))
        return verdicts

    def _verdict(self, user: str, blob: bytes, replaces: Sequence[str]) -> Verdict:
        state = decode(blob)
        if state.broken_at >= 0:
            return QUARANTINED
        as_of_ms = self.clocks.get(state.partition, 0)
        wanted = wanted_list(user, state, as_of_ms, self.operation, self.trigger_version, replaces)
        return wanted or (ERASED if state.erased_ms else NO_BEHAVIOURS)
