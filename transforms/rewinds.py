"""Requests to read a partition again, from whoever finds that the store is behind it.

Process-wide on purpose: the steps are fused into one process, and readers are recreated all the time.
"""

import threading
from collections.abc import Iterable


class Rewinds:
    """Lowest offset asked for by topic and partition."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, int], int] = {}

    def ask(self, topic: str, partition: int, offset: int) -> None:
        """The reader goes back to `offset` before its next batch."""
        with self._lock:
            at = (topic, partition)
            self._asked[at] = min(offset, self._asked.get(at, offset))

    def take(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """What was asked for these partitions since the last call."""
        if not self._asked:
            return {}
        with self._lock:
            wanted = [(topic, partition) for partition in partitions if (topic, partition) in self._asked]
            return {at[1]: self._asked.pop(at) for at in wanted}


REWINDS = Rewinds()
