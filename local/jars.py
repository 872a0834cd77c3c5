"""Jars by Maven, into the cache: what the real Kafka broker and Flink are made of."""

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

from local.cache import cached, lock
from local.prerequisites import MAVEN, Missing


def jars(pom: Path) -> Path:
    """The folder of the cache with all runtime jars that `pom` names (another pom is another folder). Raises Missing."""

    def fetch(target: Path) -> None:
        # In a folder of its own: Maven writes beside the pom. One at a time: its local repository is not made for two.
        shutil.copy(pom, target.parent / "pom.xml")
        with lock("maven"):
            fetched = subprocess.run(
                [
                    *(MAVEN.path(), "--batch-mode", "--quiet", "--file", target.parent / "pom.xml"),
                    *("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        if fetched.returncode:
            raise Missing(f"Maven could not fetch {pom.name}; the end of what it said:\n{fetched.stdout[-2_000:]}")

    return cached(f"{pom.stem}-{sha256(pom.read_bytes()).hexdigest()[:12]}", fetch)
