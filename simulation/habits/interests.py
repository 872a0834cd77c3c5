"""What calls for a search: threads and cycles, and the weights of all calls at one moment. `mind` says in words how they act."""

from dataclasses import dataclass

from simulation.habits.wants import Want

REST_MS = 24 * 3_600_000
"""Age at which a thread has lost half its weight."""
EXCITE = 4.0
"""Weight of a fresh thread of usual grip; the lasting taste has 1."""
DUE = 2.5
"""Weight of a cycle on the day that it is due."""


@dataclass(slots=True)
class Thread:
    """A category searched lately."""

    want: Want
    wording: str
    time_ms: int
    level: float
    """1 after the first search; more with every further search and click."""
    grip: float
    """Latent: how much this interest holds them."""
    too_dear: int = 0
    """Tier that was too dear; wants below it are called for. 0: none."""
    bought: bool = False

    def weight(self, now_ms: int) -> float:
        return EXCITE * self.grip * self.level / (1 + max(0, now_ms - self.time_ms) / REST_MS)


@dataclass(slots=True)
class Cycle:
    """Something that is used up and wanted again."""

    want: Want
    wording: str
    period_ms: int
    due_ms: int

    def weight(self, now_ms: int) -> float:
        late = (now_ms - self.due_ms) / self.period_ms
        if late < 0:
            return DUE * max(0.0, 1 + 3 * late)
        return DUE * (1 - 0.8 * late if late < 1 else 0.2 if late < 2 else 0.0)


@dataclass(frozen=True, slots=True)
class Mix:
    """The weights at one moment."""

    now_ms: int
    day: int
    crazes: list[tuple[float, Want]]
    threads: list[tuple[float, Thread]]
    cycles: list[tuple[float, Cycle]]
    total: float
