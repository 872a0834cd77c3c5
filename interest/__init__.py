"""What a shopper is interested in and when that has changed: pure rules, no Beam, Kafka, Redis or torch.

Live run, replay, backfill, simulation and tests call the same two functions, so they decide the same:

    fold(state, event)  -> the state after one event, and the changes that came due before it
    expire(state, clock) -> the same for time passing without an event
"""

from interest.fold import FOLD_VERSION, Arrival, Step, WrongPartition, due_ms, expire, fold, quarantine
from interest.policy import TriggerPolicy
from interest.state import EMPTY, State, behaviours_of, decode, encode, interest_of
from interest.weights import drift_of

__all__ = [
    "EMPTY",
    "FOLD_VERSION",
    "Arrival",
    "State",
    "Step",
    "TriggerPolicy",
    "WrongPartition",
    "behaviours_of",
    "decode",
    "drift_of",
    "due_ms",
    "encode",
    "expire",
    "fold",
    "interest_of",
    "quarantine",
]
