"""Records that cross a process boundary. Times are Unix milliseconds (`_ms`).

`gc=False`: these hold no cycles, and thousands of them a batch would make the collector walk the whole process again and again
(a tenth of the tracking's time).
"""

from typing import Literal

from msgspec import Struct


class Item(Struct, frozen=True, gc=False):
    """What a shopper clicked."""

    id: str
    title: str
    category: str = ""
    """Leaf category, as the shop names it."""
    attributes: dict[str, str] = {}


class BehaviourEvent(Struct, frozen=True, gc=False):
    """One thing a shopper did. `search` carries `query`, `click` carries `item`, `erase` asks to forget the shopper.

    `time_ms` is the shopper's clock and only orders and decays behaviours. `ingest_ms` is the log clock of an imported
    log; it is read only where the job was told to trust it (`--log_clock=ingest_ms`).
    """

    id: str
    user: str
    kind: Literal["search", "click", "erase"]
    time_ms: int
    query: str = ""
    item: Item | None = None
    ingest_ms: int | None = None
    profile: dict[str, str] = {}
    """Fields that the prompt may name (gender, age, location ...). An empty profile leaves the known one as it is."""


class Behaviour(Struct, frozen=True, array_like=True, order=True, gc=False):
    """A behaviour as a shopper's state keeps it: small, ordered by (time, id)."""

    time_ms: int
    """Event time, clamped to the log clock."""
    id: int
    """48 bits of blake2b of the event's id: enough to know an event again among one shopper's."""
    kind: Literal["search", "click"]
    text: str
    """The query, or the item's title."""
    category: str = ""


class Change(Struct, frozen=True, gc=False):
    """A changed interest that has come due: the request for a new list, with everything the prompt needs frozen in it."""

    run_id: str
    """16 hex digits of blake2b(user, as-of, trigger version): a replay of the same records makes the same id."""
    user: str
    as_of_ms: int
    """Log clock at which the change came due; orders lists of one shopper."""
    started_ms: int
    """Log clock of the event that began the change."""
    newest_ms: int
    """Log clock of the newest event in it: from here the shopper waits."""
    drift: float
    """Share of the interest that moved since the last firing, 0 .. 1 (total variation)."""
    evidence: float
    """Weight of the events since the last firing (a search 1, a click less)."""
    reasons: tuple[str, ...]
    """The parts of the interest that grew most, e.g. `#Laptops +0.41`."""
    trigger_version: str
    profile: dict[str, str]
    behaviours: tuple[Behaviour, ...]
    """As of `as_of_ms`, oldest first."""
    origin: str = ""
    """Id of the operator's command that asked for the list; empty where the shopper's own interest did."""
    replaces: tuple[str, ...] = ()
    """Runs whose lists go when this one is stored: those of a model that was rolled back."""


class QueryRun(Struct, frozen=True):
    """One generation: an ordered list of queries for a shopper, and how it came about."""

    run_id: str
    user: str
    as_of_ms: int
    queries: tuple[str, ...]
    model_version: str
    promotion: int
    """The model's promotion counter; of two runs with one as-of the higher wins."""
    prompt_version: str
    trigger_version: str
    reasons: tuple[str, ...]
    newest_ms: int
    """Log clock of the newest event behind the list."""
    claimed_ms: int
    """Wall clock at which a worker took the request."""
    generated_ms: int
    """Wall clock at which the model had finished."""
    stored_ms: int
    """Wall clock just before the list was written."""
    prompt_tokens: int
    output_tokens: int
    origin: str = ""
    """Of its change: the operator's command that asked for it, or empty."""
    replaces: tuple[str, ...] = ()
    """Of its change: runs whose lists went when this one was stored."""


class Exposure(Struct, frozen=True):
    """Hints that a shopper saw, and which of them were clicked.

    What the ranker knew is logged with it, where it tells: training orders labels by it (AIGQ eq. 3), and an estimate of what
    other hints would have earned needs the propensities.
    """

    id: str
    user: str
    time_ms: int
    hints: tuple[str, ...]
    clicked: tuple[int, ...] = ()
    """Positions in `hints`, 0 is the first."""
    run_id: str = ""
    ranked: tuple[str, ...] = ()
    """The ranker's best queries for this page, best first, whether shown or not."""
    scores: tuple[float, ...] = ()
    """The ranker's score of each of `ranked`."""
    propensities: tuple[float, ...] = ()
    """Of each hint: the probability with which it was shown where it was."""


class DeadLetter(Struct, frozen=True):
    """A record or an output that could not be used, with all that is needed to find it and to use it after a fix."""

    stage: Literal["decode", "track", "generate"]
    reason: str
    """A short name from `transforms.dead_letters.REASONS`."""
    detail: str
    topic: str
    partition: int
    offset: int
    """-1 where the letter is not about one record (stage generate)."""
    time_ms: int
    """Wall clock at which it was written."""
    user: str = ""
    run_id: str = ""
    raw: bytes = b""
    """The record's value, or the model's output."""
