"""When dead letters are too many: a bad deploy stops the job, it does not turn a topic into dead letters.

After getsentry/arroyo's dead-letter policy: a limit on a share and one on a run of records in a row.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

WINDOW = 1_000
"""Records that the share is taken of. Below that many records read there is no share: 3 of 4 says nothing."""


class TooManyDeadLetters(Exception):
    """The limit is passed. Starting the job again without a change would only meet it again."""


@dataclass
class DeadLetterLimits:
    """Counts what a process reads, over all partitions. Safe in many threads."""

    ratio: float = 0.5
    """Share of the last 1,000 records that may be dead."""
    run: int = 500
    """Dead records in a row that are one too many; 0 for no such limit."""
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _dead: int = 0
    _in_a_row: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def passed(self, dead: Sequence[bool]) -> str:
        """Takes note of records in the order in which they were read; says which limit they pass, or nothing."""
        with self._lock:
            if True not in dead:
                self._recent.extend(repeat(False, min(len(dead), WINDOW)))
                self._dead = sum(self._recent)
                self._in_a_row = 0 if dead else self._in_a_row
                return ""
            for is_dead in dead:
                if len(self._recent) == WINDOW:
                    self._dead -= self._recent[0]
                self._recent.append(is_dead)
                self._dead += is_dead
                self._in_a_row = self._in_a_row + 1 if is_dead else 0
                if self.run and self._in_a_row >= self.run:
                    return f"{self._in_a_row} records in a row are dead (--dead_letter_run={self.run})"
                if len(self._recent) == WINDOW and self._dead > self.ratio * WINDOW:
                    return f"{self._dead} of the last {WINDOW} records are dead (--dead_letter_ratio={self.ratio})"
        return ""
