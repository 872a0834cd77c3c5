"""Jars by Maven, into the cache: what the real Kafka broker and Flink are made of."""

import shutil
from hashlib import sha256
from pathlib import Path

from local.cache import cached, lock
from local.prerequisites import MAVEN, bring_by


def jars(pom: Path) -> Path:
    """The folder of the cache with all runtime jars that `pom` names (another pom is another folder). Raises Missing."""

    def fetch(target: Path) -> None:
        # In a folder of its own: Maven writes beside the pom. One at a time: its local repository is not made for two.
        shutil.copy(pom, target.parent / "pom.xml")
        with lock("maven"):
            command = [MAVEN.path(), "--batch-mode", "--quiet", "--file", target.parent / "pom.xml"]
            command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
            bring_by(command, f"what {pom.name} names")

    return cached(f"{pom.stem}-{sha256(pom.read_bytes()).hexdigest()[:12]}", fetch)
