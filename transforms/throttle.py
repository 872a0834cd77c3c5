"""An operator's own throttle: starts small, rises, and starts small again after a pause."""

from dataclasses import dataclass, field

RAMP_S = 30.0
FIRST_SHARE = 0.1
PAUSE_S = 3.0
"""Not asked for so long, it has been paused."""


@dataclass
class Throttle:
    """Pure: whoever asks says what time it is (seconds, any monotonic clock)."""

    per_second: float
    _begun: float = field(default=0.0, init=False)
    _asked: float | None = field(default=None, init=False)
    _left: float = field(default=0.0, init=False)

    def rate(self, now: float) -> float:
        """A second, by now."""
        risen = min(1.0, (now - self._begun) / RAMP_S)
        return self.per_second * (FIRST_SHARE + (1 - FIRST_SHARE) * risen)

    def allowed(self, now: float) -> int:
        """How many may go now. What was not taken adds up to a second's worth, never to a burst."""
        if self._asked is None or now - self._asked > PAUSE_S:
            self._begun = self._asked = now
            self._left = 1.0
        rate = self.rate(now)
        self._left = min(self._left + rate * (now - self._asked), max(1.0, rate))
        self._asked = now
        return int(self._left)

    def took(self, count: int) -> None:
        self._left -= count
