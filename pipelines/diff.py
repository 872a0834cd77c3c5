"""Compares the lists of two namespaces, shopper by shopper and in sum: what would change if the second were served?

Both sides by one rule: the changes of interest that came due in the window, by the log clock, what became of each, and the lists
of those that were published. What an operator's command asked for is left out: no replay makes it again.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from interest import decode
from pipelines.diff_reasons import CONSIDERED, OTHER_BEHAVIOURS, WAITING, Came, History, why
from pipelines.operation import Window
from pipelines.replay import ReplayAsked
from schemas import QueryRun
from store.client import ShopperStore
from store.layout import shard_of
from store.operations import Operations
from transforms.read_plan import ReadSettings
from transforms.stored_lists import stored_lists

AT_ONCE = 1_000
"""States asked for in one call."""


@dataclass(frozen=True)
class ShopperDiff:
    """Of one shopper: the newest list of the window on either side."""

    user: str
    why: str
    """One of diff_reasons.MEANINGS."""
    both: bool
    """Both sides have a list."""
    overlap: float
    """Share of the queries that both lists have, of the longer one; 1 where both are the same, 0 where one is missing."""
    added: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """One namespace in the window."""

    namespace: str
    changes: int
    """That came due; each became a generation, or what `ended` says."""
    ended: dict[str, int]
    """Changes by outcome; `waiting`: not ended yet."""
    generations: int
    """Lists published."""
    lists: int
    """Of these, the lists that are still to be had: tokens are theirs. Outputs that became no list cost tokens too, counted nowhere."""
    prompt_tokens: int
    output_tokens: int
    by_operators: int
    """Lists that an operator's command asked for (a backfill, ...): in none of the figures above."""
    whole: bool
    """False where the store has forgotten what became of some changes: `changes` and `ended` are too low."""
    late_records: dict[int, int]
    """By partition, since the namespace began: records that came when progress had passed them (docs/sameness.md)."""


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
        return [each for each in self.shoppers if each.both]

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
    """Of the changes that came due in the window. `results`: the results topic of `here` and its archive, where all of its lists
    are; without, those that the store keeps."""
    left = _read(here, window, stored_lists(results) if results else here.scan_runs())
    right = _read(there, window, there.scan_runs())
    users = sorted(left.lists.keys() | right.lists.keys())
    found = {user: compare(user, left.history(user), right.history(user)) for user in users}
    unexplained = [user for user, each in found.items() if each.why == OTHER_BEHAVIOURS]
    for user in _late([left, right], unexplained):
        found[user] = compare(user, left.history(user), right.history(user), late=True)
    return Diff(window, left.side, right.side, tuple(found.values()))


def compare(user: str, here: History, there: History, late: bool = False) -> ShopperDiff:
    """One side at least has a list. `late`: records came after their time where the shopper is at home."""
    before, after = (side.lists[0].queries[:CONSIDERED] if side.lists else () for side in (here, there))
    common = set(before) & set(after)
    return ShopperDiff(
        user,
        why(here, there, late),
        bool(here.lists and there.lists),
        len(common) / max(len(before), len(after), 1),
        tuple(query for query in after if query not in common),
        tuple(query for query in before if query not in common),
    )


@dataclass(frozen=True)
class _Found:
    """What a namespace and its results topic say of the window."""

    store: ShopperStore
    lists: dict[str, tuple[QueryRun, ...]]
    """By shopper, newest first."""
    came: dict[str, Came]
    """By run id."""
    by_operators: int
    whole: bool
    clamped: dict[tuple[int, int], int]

    @cached_property
    def _came_by_user(self) -> dict[str, dict[str, Came]]:
        by_user: dict[str, dict[str, Came]] = {}
        for run_id, each in self.came.items():
            by_user.setdefault(each.user, {})[run_id] = each
        return by_user

    @cached_property
    def _policies(self) -> frozenset[str]:
        pinned = self.store.pinned()
        decided = {run.trigger_version for runs in self.lists.values() for run in runs}
        return frozenset(decided | ({pinned.policy_digest} if pinned else set()))

    def history(self, user: str) -> History:
        return History(self.lists.get(user, ()), self._came_by_user.get(user, {}), self._policies, self.whole)

    def clamps(self, user: str, partition: int) -> bool:
        """Whether records came late in the shard and partition of this shopper."""
        return (shard_of(user, self.store.shards), partition) in self.clamped

    @property
    def side(self) -> Side:
        runs = [run for each in self.lists.values() for run in each]
        ended = Counter(each.ended for each in self.came.values())
        late: Counter[int] = Counter()
        for (_, partition), count in self.clamped.items():
            late[partition] += count
        return Side(
            namespace=self.store.namespace,
            changes=len(self.came),
            ended=dict(ended.most_common()),
            generations=ended["published"],
            lists=len(runs),
            prompt_tokens=sum(run.prompt_tokens for run in runs),
            output_tokens=sum(run.output_tokens for run in runs),
            by_operators=self.by_operators,
            whole=self.whole,
            late_records=dict(sorted(late.items())),
        )


def _read(store: ShopperStore, window: Window, lists: Iterable[tuple[str, Sequence[QueryRun]]]) -> _Found:
    """In an order in which a job that runs meanwhile is seen right: what waits, what has ended, the lists."""
    clamped = store.clamped()
    waiting = [(user, each) for asked in (store.waiting(), store.leased()) for user, each in asked if not each.low]
    came = {each.run_id: Came(user, each.as_of_ms, WAITING) for user, each in waiting}
    ever = sum(store.counts().values())
    outcomes = store.outcomes()
    came |= {each.run_id: Came(each.user, each.as_of_ms, each.outcome) for each in outcomes if not each.low}
    runs = {run.run_id: run for _, of_user in lists for run in of_user if window.holds(run.as_of_ms)}
    operators = {run_id for run_id, run in runs.items() if run.origin}
    came |= {run_id: Came(run.user, run.as_of_ms, "published") for run_id, run in runs.items()}
    by_user: dict[str, list[QueryRun]] = {}
    for run in sorted(runs.values(), key=lambda run: -run.as_of_ms):
        if run.run_id not in operators:
            by_user.setdefault(run.user, []).append(run)
    oldest: dict[int, int] = {}
    for each in outcomes:
        oldest.setdefault(shard_of(each.user, store.shards), each.ended_ms)
    return _Found(
        store=store,
        lists={user: tuple(of_user) for user, of_user in by_user.items()},
        came={id: each for id, each in came.items() if window.holds(each.as_of_ms) and id not in operators},
        by_operators=len(operators),
        whole=ever <= len(outcomes) or max(oldest.values(), default=0) <= window.from_ms,
        clamped=clamped,
    )


def _late(sides: Sequence[_Found], users: Sequence[str]) -> set[str]:
    """Those of the shoppers in whose shard and partition records came late, on either side."""
    late: set[str] = set()
    for side in sides if any(side.clamped for side in sides) else ():
        for at in range(0, len(users), AT_ONCE):
            for user, state in side.store.states(users[at : at + AT_ONCE]).items():
                partition = decode(state.blob).partition
                late.update(user for each in sides if each.clamps(user, partition))
    return late
