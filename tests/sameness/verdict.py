"""What must hold of a simulated store at any moment, and what it must have come to in the end."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from schemas import Change, QueryRun
from tests.integration.store_model import RUNS_KEPT
from tests.sameness.simulated_job import World, query_of
from tests.sameness.simulated_log import OnePass
from tests.sameness.simulated_store import Server
from tests.sameness.simulated_time import SimulatedTime


class Broken(AssertionError):
    """A promise is."""


def check(holds: bool, what: str, *more: object) -> None:
    if not holds:
        raise Broken(what, *more)


@dataclass
class Ledger:
    """What was seen to happen, beside what one pass over the records says should."""

    expected: OnePass
    server: Server
    clock: SimulatedTime
    asked: dict[str, Change] = field(default_factory=dict)
    """What a person asked for, by run id."""
    requested: Counter[str] = field(default_factory=Counter)
    """Times that the store took it, those it has forgotten again included."""
    leased: dict[str, int] = field(default_factory=dict)
    claims: Counter[str] = field(default_factory=Counter)
    newest: dict[str, int] = field(default_factory=dict)
    """As-of of each shopper's newest list when it was last looked at."""

    def fired(self, user: str, run_id: str, blob: bytes) -> None:
        check(run_id in self.expected.blobs, "a change that the records do not make has fired", user, run_id)
        check(blob == self.expected.blobs[run_id], "a change has fired with other behaviours", user, run_id)

    def claimed(self, run_id: str, until_ms: int) -> None:
        check(self.leased.get(run_id, 0) <= self.clock.now_ms, "a request is claimed under another's lease", run_id)
        self.leased[run_id] = until_ms
        self.claims[run_id] += 1

    def submitted(self, run_id: str, prompt: str) -> None:
        if run_id not in self.asked:
            check(prompt == self.expected.prompts.get(run_id), "a prompt is not that of one pass", run_id)

    def wanted(self, change: Change, answer: str) -> None:
        listed = [run.run_id for run in self.server.model.shoppers[change.user].runs]
        check(
            answer == "listed" or change.run_id not in listed, "a list that is there is asked for again", change.run_id
        )
        self.asked[change.run_id] = change
        if answer == "requested":
            self.requested[change.run_id] += 1
            self.leased.pop(change.run_id, None)  # of an earlier request of this name, which has ended

    def went_back(self) -> None:
        """What the store forgot may happen again."""
        self.leased.clear()
        self.newest.clear()

    def left_over(self) -> list[object]:
        model = self.server.model
        return [model.applied, *(s for s in model.shoppers.values() if s.waiting or s.leased or s.due)]


def at_this_moment(ledger: Ledger) -> None:
    model = ledger.server.model
    shoppers = model.shoppers.values()
    held = [request for s in shoppers for request in (s.waiting, s.leased) if request]
    check(model.fired == sum(model.counts.values()) + len(held), "fired is not ended + waiting + leased")
    ended = Counter(run_id for run_id, _, _ in model.outcomes)
    for run_id, times in ended.items():
        check(times == 1 or times <= ledger.requested[run_id], "a request ended twice", run_id)
    for request in held:
        check(not ended[request.run_id] or request.run_id in ledger.asked, "an ended request is held", request)
    for user, shopper in model.shoppers.items():
        as_ofs = [run.as_of for run in shopper.runs]
        check(as_ofs == sorted(set(as_ofs), reverse=True), "lists are out of order", user, as_ofs)
        newest = as_ofs[0] if as_ofs else 0
        check(
            newest >= ledger.newest.get(user, 0) or shopper.erased >= ledger.newest[user],
            "an older list lies over a newer one",
            *(user, as_ofs, ledger.newest.get(user)),
        )
        ledger.newest[user] = newest


def at_the_end(ledger: Ledger, world: World) -> None:
    expected, model = ledger.expected, ledger.server.model
    for user, shopper in model.shoppers.items():
        check(shopper.blob == expected.states.get(user), "a state is not that of one pass", user)
    ended = Counter(run_id for run_id, _, _ in model.outcomes if run_id not in ledger.asked)
    check(ended == Counter(list(expected.changes)), "requests lost or doubled", ended - Counter(list(expected.changes)))
    letters = {(letter.run_id, letter.reason) for letter in world.letters.written}
    published: dict[str, set[tuple[int, str]]] = {}
    for run_id, user, outcome in model.outcomes:
        change = ledger.asked.get(run_id) or expected.changes[run_id]
        _has_a_reason(ledger, world, change, outcome, (run_id, outcome) in letters)
        if outcome == "published" and change.as_of_ms > expected.erased.get(user, 0):
            published.setdefault(user, set()).add((change.as_of_ms, run_id))
    for user, shopper in model.shoppers.items():
        newest = sorted(published.get(user, ()), reverse=True)[:RUNS_KEPT]
        check([(run.as_of, run.run_id) for run in shopper.runs] == newest, "lists are not the newest", user, newest)
        for run in shopper.runs:
            stored = msgspec.msgpack.decode(run.text.encode("latin-1"), type=QueryRun)
            prompt = expected.prompts.get(run.run_id)
            check(prompt is None or stored.queries[0].startswith(query_of(prompt)), "a list of another prompt", run)


def _has_a_reason(ledger: Ledger, world: World, change: Change, outcome: str, has_letter: bool) -> None:
    """Whether a request could end so."""
    expected, user, as_of = ledger.expected, change.user, change.as_of_ms
    match outcome:
        case "conflated":
            known = [*expected.changes.values(), *ledger.asked.values()]
            good = any(other.user == user and other.as_of_ms >= as_of and other != change for other in known)
        case "refused":
            good = as_of <= expected.erased.get(user, 0)
        case "malformed":
            good = has_letter
        case "exhausted":
            good = has_letter and ledger.claims[change.run_id] > 3
        case "expired":
            good = bool(world.max_age_s) and as_of + world.max_age_s * 1000 < ledger.clock.now_ms
        case _:
            good = outcome == "published"
    check(good, f"a request ended as {outcome} without a reason", change.run_id)
