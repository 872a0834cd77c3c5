"""Prism, Beam's portable local runner: one Go binary, of the version of the installed apache-beam.

`python -m local.prism` builds it into the cache; $AIGQ_PRISM names one that is there already.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from local import process
from local.cache import cached
from local.ports import free_port


class PrismMissing(RuntimeError):
    """There is no Prism and it cannot be built; the message is the command that brings it."""


@dataclass(frozen=True)
class Prism:
    job_endpoint: str
    child: process.Child

    @property
    def options(self) -> list[str]:
        """What a pipeline is run with on this Prism: workers are threads of the submitting process."""
        return ["--runner=PrismRunner", f"--job_endpoint={self.job_endpoint}", "--environment_type=LOOPBACK"]


@contextmanager
def prism(folder: Path) -> Iterator[Prism]:
    """A Prism on a free port, its log in `folder`. It keeps jobs in memory only; a kill fails them all."""
    port = free_port()
    child = process.start(
        "prism",
        [prism_binary(), f"--job_port={port}", "--serve_http=false", "--log_kind=json", "--log_level=warn"],
        folder / "prism.log",
        ready=process.accepts(port),
    )
    try:
        yield Prism(f"127.0.0.1:{port}", child)
    finally:
        child.kill()


def prism_binary() -> Path:
    """The binary; built (about 2 minutes) where it is not there yet and Go is. Raises PrismMissing."""
    if named := os.environ.get("AIGQ_PRISM"):
        if not os.access(named, os.X_OK):
            raise PrismMissing(f"AIGQ_PRISM={named} is not a program; unset it, or name a Prism binary")
        return Path(named)
    return cached(cache_name(), _build)


def cache_name() -> str:
    return f"prism-{version('apache-beam')}"


def _build(target: Path) -> None:
    package = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{version('apache-beam')}"
    go = shutil.which("go")
    if not go:
        raise PrismMissing(
            "Prism (Beam's local runner) is built with Go >= 1.24, which is not here. "
            "Install Go (apt-get install golang, or go.dev/dl) and run `make install`, "
            f"or build it elsewhere with `go install {package}` and set AIGQ_PRISM to the binary."
        )
    print(f"building Prism (once, about 2 minutes): go install {package}", flush=True)
    made = subprocess.run(
        [go, "install", package],
        env={**os.environ, "GOBIN": str(target.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode:
        raise PrismMissing(f"`go install {package}` failed:\n{made.stdout[-2_000:]}")
    (target.parent / "prism").rename(target)


if __name__ == "__main__":
    print(prism_binary())
