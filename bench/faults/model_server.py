"""A real vLLM server, shared by the runs because it takes a minute to come up, and a gate before it that can be shut."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.result import ROOT
from inference.model_versions import latest
from local import process
from local.ports import answers, free_port

CORES = ",".join(map(str, sorted(os.sched_getaffinity(0))))
SETTINGS = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": CORES}


@dataclass
class Gate:
    """Forwards connections to a port; while shut it refuses new ones and has cut the old: the server seems to be gone."""

    to_port: int
    port: int = field(default_factory=free_port)
    _listener: socket.socket | None = None
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return  # shut
            try:
                far = socket.create_connection(("127.0.0.1", self.to_port))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._lock:
            self._open.discard(source)
        source.close()


@contextmanager
def model_server(folder: Path, models: Path, model: str) -> Iterator[Gate]:
    """vLLM serving the current version of a bundle, behind an open gate."""
    served = latest(models, model)
    if served is None:
        raise LookupError(f"no bundle {model!r} in {models}: docs/training.md tells how one is made")
    port = free_port()

    def ready() -> bool:
        return answers(port) and httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200

    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        served.path,
        "--host",
        "127.0.0.1",
    ]
    command += ["--port", str(port), "--served-model-name", served.version, "--dtype", "float32", "--enforce-eager"]
    command += ["--logits-processors", "inference.vllm_distinct:DistinctQueries"]
    command += ["--kv-cache-memory-bytes", str(128 << 20), "--block-size", "32"]
    child = process.start("vllm", command, folder / "vllm.log", ready, within_s=900, env=SETTINGS)
    gate = Gate(port)
    gate.open()
    try:
        yield gate
    finally:
        gate.shut()
        child.kill()


def shipped_model(folder: Path) -> AbstractContextManager[Gate]:
    return model_server(folder, ROOT / "models", "aigq-small")
