"""The oracle's verdict: what the store holds against what the topic's records should have come to."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields

from tests.integration.oracle import CLOSE, Shopper, shares
from tests.integration.oracle_store import Stored, StoredShopper

Lists = Sequence[tuple[int, int, str]]
"""(as-of, promotion, run id), as Stored has them."""
ENDS = {"published", "conflated", "expired", "malformed", "refused", "exhausted", "cancelled"}


@dataclass
class Verdict:
    """Everything that is wrong, one line each, and what was looked at."""

    lost: list[str] = field(default_factory=list)
    """Behaviours that should be held and are not."""
    doubled: list[str] = field(default_factory=list)
    """Behaviours held twice, or held and never (or no longer) to be."""
    never_fired: list[str] = field(default_factory=list)
    """Requests that should have come about and of which the store knows nothing."""
    unfounded: list[str] = field(default_factory=list)
    """Requests that no records lead to, or with other behaviours than the records make."""
    ended_twice: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    """Requests that have not ended."""
    newest_missing: list[str] = field(default_factory=list)
    """A shopper's newest request was dropped for an older one."""
    overwritten: list[str] = field(default_factory=list)
    """An older list is served before a newer one, or in its place."""
    interest: list[str] = field(default_factory=list)
    """Weights, base, evidence or profile differ."""
    close_calls: int = 0
    """Shoppers left out because a decision of theirs hung by less than rounding."""
    behaviours: int = 0
    requests: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def wrong(self) -> dict[str, list[str]]:
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("outcomes",)}
        return {name: lines for name, lines in found.items() if isinstance(lines, list) and lines}

    def __str__(self) -> str:
        lines = [f"{name} ({len(wrong)}): {'; '.join(wrong[:5])}" for name, wrong in self.wrong.items()]
        return "\n".join(lines) or f"clean: {self.behaviours} behaviours, {self.requests} requests {self.outcomes}"


def judge(
    expected: Mapping[str, Shopper],
    stored: Stored,
    runs_kept: int = 3,
    put_back: Collection[str] = (),
    replaced: Collection[str] = (),
    copied: Mapping[str, Lists] | None = None,
) -> Verdict:
    """put_back: runs whose lists a rebuild has brought from elsewhere, whatever its own requests ended as.
    replaced: runs whose lists an operator has had made again, and which are served no more.
    copied: of each shopper the lists of the namespace that this one was promoted over."""
    verdict, copied = judge_states(expected, stored), copied or {}
    certain = {user: shopper for user, shopper in expected.items() if not shopper.close_calls}
    _compare_requests(certain, expected, stored, verdict, copied)
    _compare_lists(certain, stored, verdict, runs_kept, put_back, replaced, copied)
    return verdict


def judge_states(expected: Mapping[str, Shopper], stored: Stored) -> Verdict:
    """Behaviours and interest alone."""
    verdict = Verdict()
    certain = {user: shopper for user, shopper in expected.items() if not shopper.close_calls}
    verdict.close_calls = len(expected) - len(certain)
    for user, shopper in certain.items():
        verdict.behaviours += len(shopper.kept)
        verdict.requests += len(shopper.requests)
        found = stored.shoppers.get(user)
        if found is None:
            verdict.lost.append(f"{user}: no state")
        else:
            _compare_behaviours(shopper, found, verdict)
            _compare_interest(shopper, found, verdict)
    verdict.doubled += [f"{user}: a state without records" for user in stored.shoppers.keys() - expected.keys()]
    return verdict


def _compare_behaviours(shopper: Shopper, found: StoredShopper, verdict: Verdict) -> None:
    held, due = Counter(found.kept), Counter(shopper.kept)
    verdict.lost += [f"{shopper.user}: {behaviour}" for behaviour in (due - held).elements()]
    verdict.doubled += [f"{shopper.user}: {behaviour}" for behaviour in (held - due).elements()]
    if found.kept != tuple(shopper.kept) and held == due:
        verdict.doubled.append(f"{shopper.user}: behaviours out of order")
    if (found.partition, found.offset) != (shopper.partition, shopper.offset):
        verdict.lost.append(
            f"{shopper.user}: stands at {found.partition}:{found.offset}, the log at {shopper.partition}:{shopper.offset}"
        )


def _compare_interest(shopper: Shopper, found: StoredShopper, verdict: Verdict) -> None:
    def differ(a: float, b: float) -> bool:
        return abs(a - b) > CLOSE * max(abs(a), abs(b), 1e-3)

    for name, held, due in (
        ("weights", shares(found.weights), shares(shopper.weights)),
        ("base", found.base, shopper.base),
    ):
        parts = [part for part in held.keys() | due.keys() if differ(held.get(part, 0.0), due.get(part, 0.0))]
        if parts:
            verdict.interest.append(f"{shopper.user}: {name} of {sorted(parts)[:3]}")
    if differ(found.evidence, shopper.evidence):
        verdict.interest.append(f"{shopper.user}: evidence {found.evidence}, should be {shopper.evidence}")
    if found.profile != shopper.profile:
        verdict.interest.append(f"{shopper.user}: profile")
    if found.fired_ms != (shopper.fired_ms or 0) or found.forms != (shopper.started_ms is not None):
        verdict.interest.append(f"{shopper.user}: fired at {found.fired_ms}, should be {shopper.fired_ms}")


def _compare_requests(
    certain: Mapping[str, Shopper],
    expected: Mapping[str, Shopper],
    stored: Stored,
    verdict: Verdict,
    copied: Mapping[str, Lists],
) -> None:
    due = {request.run_id: (user, request) for user, s in certain.items() for request in s.requests}
    ends: dict[str, list[str]] = defaultdict(list)
    for run_id, user, outcome in stored.ended:
        if user in certain or user not in expected:
            ends[run_id].append(outcome)
            verdict.outcomes[outcome] = verdict.outcomes.get(outcome, 0) + 1
            if due.get(run_id, ("",))[0] != user or outcome not in ENDS:
                verdict.unfounded.append(f"{user}: run {run_id} ended {outcome}")
    for request in stored.open_requests:
        verdict.stuck.append(f"{request.user}: run {request.run_id}")
        if request.run_id in ends:
            verdict.ended_twice.append(f"{request.user}: run {request.run_id} ended {ends[request.run_id]} and is open")
        elif request.user in certain:
            known = due.get(request.run_id)
            if known is None or known[1].behaviours != request.behaviours:
                verdict.unfounded.append(f"{request.user}: run {request.run_id} is open, with other behaviours")
    verdict.ended_twice += [f"run {run_id}: {outcomes}" for run_id, outcomes in ends.items() if len(outcomes) > 1]
    still_open = {request.run_id for request in stored.open_requests}
    for run_id, (user, request) in due.items():
        if run_id not in ends and run_id not in still_open:
            verdict.never_fired.append(f"{user}: run {run_id} as of {request.as_of_ms}")
    for user, shopper in certain.items():
        newest = shopper.requests[-1] if shopper.requests else None
        answered = newest and any(as_of >= newest.as_of_ms for as_of, _, _ in copied.get(user, ()))
        if newest and not answered and "conflated" in ends.get(newest.run_id, ()):
            verdict.newest_missing.append(f"{user}: run {newest.run_id} conflated, and it is the newest")


def _compare_lists(
    certain: Mapping[str, Shopper],
    stored: Stored,
    verdict: Verdict,
    runs_kept: int,
    put_back: Collection[str],
    replaced: Collection[str],
    copied: Mapping[str, Lists],
) -> None:
    """The newest published lists are served, newest first, and no others."""
    outcome_of = {run_id: outcome for run_id, _, outcome in stored.ended}
    for user, shopper in certain.items():
        served = [(as_of, run_id) for as_of, _, run_id in stored.lists.get(user, [])]
        # Of one as-of there is one list: the namespace's own, else the copied one.
        held = {as_of: run_id for as_of, _, run_id in copied.get(user, ())} | {
            request.as_of_ms: request.run_id
            for request in shopper.requests
            if outcome_of.get(request.run_id) == "published" or request.run_id in put_back
            if request.run_id not in replaced
            if request.as_of_ms > (shopper.erased_ms or 0)
        }
        due = sorted(held.items(), reverse=True)[:runs_kept]
        if served != due:
            verdict.overwritten.append(f"{user}: serves {served}, should be {due}")
