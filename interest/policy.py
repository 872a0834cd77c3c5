"""When is a changed interest worth a generation? The numbers of the trigger policy, each with its unit and reason."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

SECOND_MS = 1_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True)
class TriggerPolicy:
    """All parameters of the fold. A changed value is another policy: its digest is pinned in the store's namespace."""

    drift: float = 0.6
    """Share of the interest (0 .. 1, total variation) that must have moved since the last list. Three fifths: a quarter of the lists
    of one an event, with .96 of their hits and more (docs/trigger-policy.md); a visit on a new subject reaches it, one that
    goes on with the last does not."""
    evidence: float = 0.9
    """Weight of new behaviours that must stand behind the drift: one search, or two clicks. A stray click starts nothing.
    A tenth below 1, because a behaviour decays from its own time on: it always reaches the log a little later (at 1.0 no
    single search was ever enough on a real broker); one that is two hours late still counts."""
    settle_ms: int = 3 * SECOND_MS
    """Quiet time after the newest behaviour. People refine a search within seconds; a list made in between is wasted."""
    max_wait_ms: int = 15 * SECOND_MS
    """Longest wait for quiet, from the first behaviour of the change: who never pauses still gets a list."""
    cooldown_ms: int = 30 * SECOND_MS
    """Shortest time between two lists of one shopper: bounds the GPU time that one shopper (or bot) can cause."""
    half_life_ms: int = 12 * HOUR_MS
    """A behaviour counts half after this time: today's mission outweighs yesterday's, last week's is a trace (2^-14)."""
    search_weight: float = 1.0
    click_weight: float = 0.5
    """A search is the shopper's own words; a click is also an answer to what was shown."""
    category_share: float = 0.5
    """Part of a behaviour's weight that goes to its category, where known; the rest is spread over its content terms."""
    interests_kept: int = 24
    """Categories and terms kept, the heaviest and its equals; trimmed when a third more have gathered."""
    terms_per_behaviour: int = 8
    """Content terms read from one text: titles are long, and their first words tell the product."""
    behaviours_kept: int = 50
    """Newest behaviours kept. The prompt reads 20; the rest lets a duplicate or a late event be recognised."""
    horizon_ms: int = 90 * DAY_MS
    """Older behaviours are forgotten, by the log clock; an event older than this on arrival is too late."""
    session_gap_ms: int = 30 * 60 * SECOND_MS
    """A pause of this length ends a session (the usual half hour of web analytics)."""

    def errors(self) -> list[str]:
        """What is wrong with these values, all at once; empty where nothing is."""
        wrong = [f"{name} must not be negative, is {value}" for name, value in asdict(self).items() if value < 0]
        if not 0 < self.drift <= 1:
            wrong.append(f"drift is a share of the interest, 0 < drift <= 1, is {self.drift}")
        if self.max_wait_ms < self.settle_ms:
            wrong.append(f"max_wait_ms ({self.max_wait_ms}) must not be below settle_ms ({self.settle_ms})")
        if not 0 <= self.category_share <= 1:
            wrong.append(f"category_share is a share, 0 .. 1, is {self.category_share}")
        for name in ("half_life_ms", "interests_kept", "terms_per_behaviour", "behaviours_kept", "horizon_ms"):
            if getattr(self, name) == 0:
                wrong.append(f"{name} must be above 0")
        return wrong

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "TriggerPolicy":
        return TriggerPolicy(**json.loads(text))

    @cached_property
    def version(self) -> str:
        """Digest of all values: the trigger version that every list carries. Cached: every change asks for it, twice."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=4).hexdigest()
