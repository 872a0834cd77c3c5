"""`aigq explain USER`: what the store knows of a shopper, and why there is a list, a newer one to come, or none."""

from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from interest import State, TriggerPolicy, behaviours_of, decode, drift_of, due_ms, interest_of
from interest.sessions import sessions
from schemas import QueryRun
from store.client import Requests, ShopperStore


@dataclass(frozen=True)
class Known:
    """Everything that the store holds about one shopper."""

    user: str
    state: State | None
    requests: Requests
    runs: list[QueryRun]
    outcomes: tuple[str, ...]
    """Outcomes of the shopper's requests that are still listed, oldest first."""
    clock_ms: int
    """Progress of the shopper's partition: up to here, everything due has fired."""


def look_up(store: ShopperStore, user: str) -> Known:
    stored = store.state(user)
    state = decode(stored.blob) if stored else None
    progress = store.progress()
    clocks = [
        applied.clock_ms for (_, partition), applied in progress.items() if state and partition == state.partition
    ]
    outcomes = tuple(f"{ended.run_id} {ended.outcome}" for ended in store.outcomes() if ended.user == user)
    return Known(user, state, store.request(user), store.runs(user), outcomes, max(clocks, default=0))


def verdict(known: Known, policy: TriggerPolicy) -> str:
    """Why there is no list, or no newer one: one sentence."""
    state = known.state
    if known.requests.leased:
        request = known.requests.leased
        return f"A worker is making a list for the change of {_when(request.as_of_ms)} (attempt {request.attempt})."
    if known.requests.waiting:
        request = known.requests.waiting
        return (
            f"A request of {_when(request.as_of_ms)} waits for the model (tried {request.attempt} times). "
            f"`aigq status` shows the queue and the engine."
        )
    if state is None:
        return (
            "No event of this shopper has been folded in: none came, all were dead letters, or the state has expired."
        )
    if state.broken_at >= 0:
        return f"Quarantined: the record at offset {state.broken_at} broke the fold. Its dead letter says how."
    if state.erased_ms and not state.texts:
        return f"Erased at the shopper's wish at {_when(state.erased_ms)}; nothing came after it."
    due = due_ms(state, policy)
    if due is not None:
        why = "settling" if due <= state.newest_ms + policy.settle_ms else "cooling down since the last list"
        return f"A change is forming ({why}); it comes due at {_when(due)}, {(due - known.clock_ms) / 1000:+.1f} s from the log clock."
    moved = drift_of(state)
    last = f" The last request: {known.outcomes[-1].split()[1]}." if known.outcomes else ""
    if state.evidence < policy.evidence:
        return (
            f"Too little is new since the last firing: evidence {state.evidence:.2f} of {policy.evidence:g} "
            f"(a search {policy.search_weight:g}, a click {policy.click_weight:g}).{last}"
        )
    return f"The interest has not moved enough: drift {moved:.2f} of {policy.drift:g}.{last}"


def report(known: Known, policy: TriggerPolicy) -> RenderableType:
    """One screen."""
    parts: list[RenderableType] = [Text(f"shopper {known.user}", style="bold"), Text(verdict(known, policy))]
    if known.state:
        state = known.state
        profile = ", ".join(f"{name} {value}" for name, value in state.profile.items()) or "no profile"
        parts.append(
            Text(f"{profile}; partition {state.partition}, offset {state.offset}, log clock {_when(known.clock_ms)}")
        )
        parts += [_behaviours(state, policy), _interest(state, policy)]
    if known.runs:
        parts.append(_runs(known.runs))
    if known.outcomes:
        parts.append(Text("requests that ended: " + ", ".join(known.outcomes[-5:]), style="dim"))
    return Group(*parts)


def explain(store: ShopperStore, user: str) -> int:
    """Prints the report; returns 1 where no job has opened the namespace."""
    meta = store.pinned()
    if meta is None:
        Console().print(f"no job has opened namespace {store.namespace!r} of this store", style="red")
        return 1
    Console().print(report(look_up(store, user), TriggerPolicy.from_json(meta.policy)))
    return 0


def _behaviours(state: State, policy: TriggerPolicy) -> Table:
    table = Table("session", "when", "what", "text", "category", title="behaviours", title_justify="left")
    for number, session in enumerate(sessions(behaviours_of(state), policy.session_gap_ms), 1):
        for behaviour in session:
            table.add_row(str(number), _when(behaviour.time_ms), behaviour.kind, behaviour.text, behaviour.category)
    return table


def _interest(state: State, policy: TriggerPolicy, most: int = 10) -> Table:
    title = f"interest (drift {drift_of(state):.2f} of {policy.drift:g}, evidence {state.evidence:.2f} of {policy.evidence:g})"
    table = Table("part", "then", "now", "moved", title=title, title_justify="left")
    heaviest = sorted(interest_of(state).items(), key=lambda part: (-sum(part[1]), part[0]))
    for part, (then, now) in heaviest[:most]:
        table.add_row(part, f"{then:.2f}", f"{now:.2f}", f"{now - then:+.2f}")
    return table


def _runs(runs: list[QueryRun]) -> Table:
    table = Table("as of", "queries", "why", "model", "seconds", title="lists", title_justify="left", show_lines=True)
    for run in runs:
        seconds = (
            f"settle {(run.as_of_ms - run.newest_ms) / 1000:.1f}, queue {(run.claimed_ms - run.as_of_ms) / 1000:.1f}, "
            f"model {(run.generated_ms - run.claimed_ms) / 1000:.1f}, store {(run.stored_ms - run.generated_ms) / 1000:.2f}"
        )
        model = f"{run.model_version} (promotion {run.promotion}), prompt {run.prompt_version}, trigger {run.trigger_version}"
        table.add_row(_when(run.as_of_ms), "; ".join(run.queries), "; ".join(run.reasons) or run.origin, model, seconds)
    return table


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
