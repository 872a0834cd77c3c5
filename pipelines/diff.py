"""Compares the lists of two namespaces, shopper by shopper and in sum: what would change if the second were served?"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from pipelines.operation import Window
from pipelines.replay import ReplayAsked
from schemas import QueryRun
from store.client import ShopperStore
from store.operations import Operations
from transforms.read_plan import ReadSettings
from transforms.stored_lists import stored_lists

CONSIDERED = 10
"""Queries of a list that are compared: what a search box shows at most."""
Why = Literal[
    "same list", "other model", "other trigger", "other behaviours", "conflated there", "only here", "only there"
]
"""Of one shopper's newest lists of the window, here and there.

other trigger: the change came due at another time, by another policy. other behaviours: the same policy decided otherwise, because
an event came after its deadline had fired (clamped) or was redriven or corrected. conflated there: the replay was faster than the
shopper, so that only the newest change got a list.
"""


@dataclass(frozen=True)
class ShopperDiff:
    """Of one shopper."""

    user: str
    why: Why
    overlap: float
    """Share of the queries that both lists have, of the longer one; 1 where both are the same, 0 where one is missing."""
    added: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """One namespace in the window."""

    namespace: str
    generations: int
    """Lists made."""
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Diff:
    """Both, in the window."""

    window: Window
    here: Side
    there: Side
    shoppers: tuple[ShopperDiff, ...]

    @property
    def whys(self) -> dict[str, int]:
        return dict(Counter(each.why for each in self.shoppers).most_common())

    @property
    def both(self) -> list[ShopperDiff]:
        return [each for each in self.shoppers if not each.why.startswith("only")]

    @property
    def overlap(self) -> float:
        """Mean over the shoppers who have a list on both sides."""
        return sum(each.overlap for each in self.both) / max(1, len(self.both))


def window_of(store: ShopperStore, namespace: str) -> Window:
    """The window of the newest replay into a namespace. Raises LookupError where there was none."""
    for operation, _ in Operations(store.calls).list():
        if operation.kind == "replay":
            asked = msgspec.json.decode(operation.asked, type=ReplayAsked)
            if asked.into == namespace:
                return Window(asked.from_ms, asked.to_ms)
    raise LookupError(f"nothing was replayed into {namespace!r}: say the window with --from and --to")


def diff(here: ShopperStore, there: ShopperStore, window: Window, results: ReadSettings | None = None) -> Diff:
    """Lists whose change came due in the window. `results`: the results topic of `here` and its archive, where all of its lists
    are; without, the newest few that the store keeps."""
    left = _of_window(stored_lists(results) if results else here.scan_runs(), window)
    right = _of_window(there.scan_runs(), window)
    conflated = {each.run_id for each in there.outcomes() if each.outcome == "conflated"}
    users = sorted(left.keys() | right.keys())
    shoppers = tuple(_compare(user, left.get(user, []), right.get(user, []), conflated) for user in users)
    return Diff(window, _side(here.namespace, left), _side(there.namespace, right), shoppers)


def _of_window(lists: Iterable[tuple[str, Sequence[QueryRun]]], window: Window) -> dict[str, list[QueryRun]]:
    """Every run once, newest first."""
    found: dict[str, dict[str, QueryRun]] = {}
    for user, runs in lists:
        for run in runs:
            if window.holds(run.as_of_ms):
                found.setdefault(user, {})[run.run_id] = run
    return {user: sorted(runs.values(), key=lambda run: -run.as_of_ms) for user, runs in found.items()}


def _side(namespace: str, lists: Mapping[str, Sequence[QueryRun]]) -> Side:
    runs = [run for each in lists.values() for run in each]
    return Side(namespace, len(runs), sum(r.prompt_tokens for r in runs), sum(r.output_tokens for r in runs))


def _compare(user: str, left: Sequence[QueryRun], right: Sequence[QueryRun], conflated: set[str]) -> ShopperDiff:
    if not right:
        return ShopperDiff(
            user, "conflated there" if left[0].run_id in conflated else "only here", 0, (), left[0].queries
        )
    if not left:
        return ShopperDiff(user, "only there", 0, right[0].queries, ())
    before, after = left[0].queries[:CONSIDERED], right[0].queries[:CONSIDERED]
    common = set(before) & set(after)
    overlap = len(common) / max(len(before), len(after))
    added = tuple(query for query in after if query not in common)
    lost = tuple(query for query in before if query not in common)
    return ShopperDiff(user, _why(left[0], right[0], before == after, conflated), overlap, added, lost)


def _why(left: QueryRun, right: QueryRun, same: bool, conflated: set[str]) -> Why:
    if same:
        return "same list"
    if left.trigger_version != right.trigger_version:
        return "other trigger"
    if left.run_id != right.run_id:
        return "conflated there" if left.run_id in conflated else "other behaviours"
    return "other model" if left.model_version != right.model_version else "other behaviours"
