"""Draining: the process was asked to stop, so the sources end and what is in hand is finished.

Process-wide on purpose: Beam builds readers anew all the time, and the signal reaches the process, not a reader.
"""

import threading

DRAINING = threading.Event()
"""Set by SIGTERM. Sources then report their end; the claim source first waits for the requests that it has in flight."""
TRACKED = threading.Event()
"""Set when the track branch has reached its end (bounded runs), so that the generate branch may end after it."""
