"""Prism, Beam's portable local runner: one Go binary, of the release of the installed apache-beam.

`python -m local.prism` builds it into the cache; $AIGQ_PRISM names one that is there already.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local import process
from local.cache import cached
from local.ports import free_port
from local.prerequisites import GO, PRISM_VERSION, Missing, bring_by, prism_in_cache

LONGEST_JOB_S = 10 * 365 * 86_400
"""Beam asks Prism for a job's state in one call with this deadline, 300 s by default: after that long every job failed with
`DEADLINE_EXCEEDED: Stream removed`, whatever it was doing."""


@dataclass(frozen=True)
class Prism:
    job_endpoint: str
    child: process.Child

    @property
    def options(self) -> list[str]:
        """What a pipeline is run with on this Prism: workers are threads of the submitting process."""
        return [
            "--runner=PrismRunner",
            f"--job_endpoint={self.job_endpoint}",
            "--environment_type=LOOPBACK",
            f"--job_server_timeout={LONGEST_JOB_S}",
        ]


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
    """The binary; built (about 2 minutes) where it is not there yet and Go is. Raises Missing."""
    if named := os.environ.get("AIGQ_PRISM"):
        if not os.access(named, os.X_OK):
            raise Missing(f"AIGQ_PRISM={named} is not a program; unset it, or name a Prism binary")
        return Path(named)
    return cached(prism_in_cache().name, _build)


def _build(target: Path) -> None:
    package = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{PRISM_VERSION}"
    print(f"building Prism (once, about 2 minutes): go install {package}", file=sys.stderr, flush=True)
    bring_by([GO.path(), "install", package], package, {"GOBIN": str(target.parent)})
    (target.parent / "prism").rename(target)


if __name__ == "__main__":
    try:
        print(prism_binary())
    except Missing as error:
        sys.exit(str(error))
