"""Free loopback ports that two runs on one machine never both get."""

import errno
import fcntl
import random
import socket
from typing import IO

from local.cache import cache_folder

FIRST, LAST = 20_000, 32_000
"""Below Linux's range for outgoing connections (from 32,768): none of those takes a port between our check and use."""

_held: list[IO[str]] = []


def free_port() -> int:
    """A loopback port that nothing listens on and that stays ours, by a lock file, until this process ends."""
    folder = cache_folder() / "ports"
    folder.mkdir(exist_ok=True)
    draw = random.SystemRandom()
    for _ in range(1_000):
        port = draw.randrange(FIRST, LAST)
        lock = (folder / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        if _bindable(port):
            _held.append(lock)
            return port
        lock.close()
    raise OSError(errno.EADDRINUSE, f"no free loopback port between {FIRST} and {LAST}; what listens: ss -ltnp")


def answers(port: int) -> bool:
    """Whether something listens on the loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
