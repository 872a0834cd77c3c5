"""Want: an operator's request for a shopper's list, made from the state as of the time his command began.

The log clock of that time and the id of the command name the run, so the command that is given again asks for the same.
"""

from collections.abc import Sequence
from hashlib import blake2b

from interest import State, behaviours_of, drift_of
from schemas import Change
from store.client import Wanted
from transforms.track_interest import encode_change


def run_id(user: str, as_of_ms: int, operation: str) -> str:
    """Names the run, as interest.fold.run_id names that of a change."""
    return blake2b(f"{user}\x1f{as_of_ms}\x1f{operation}".encode(), digest_size=8).hexdigest()


def wanted_list(
    user: str, state: State, as_of_ms: int, operation: str, trigger_version: str, replaces: Sequence[str] = ()
) -> Wanted | None:
    """The request, or None where nothing is known of the shopper as of then.

    as_of_ms: log clock. Behaviours after it are left out, so that the prompt is the same whenever this is called; a change that
        comes of them has a list of its own, which is newer.
    replaces: runs whose lists go when the new one is stored.
    """
    behaviours = tuple(behaviour for behaviour in behaviours_of(state) if behaviour.time_ms <= as_of_ms)
    if not behaviours:
        return None
    change = Change(
        run_id=run_id(user, as_of_ms, operation),
        user=user,
        as_of_ms=as_of_ms,
        started_ms=as_of_ms,
        newest_ms=behaviours[-1].time_ms,
        drift=drift_of(state),
        evidence=state.evidence,
        reasons=(),
        trigger_version=trigger_version,
        profile=state.profile,
        behaviours=behaviours,
        origin=operation,
        replaces=tuple(replaces),
    )
    return Wanted(user, change.run_id, as_of_ms, encode_change(change))
