"""What a Flink cluster under Beam is made of, from package registries alone: Beam's jars by Maven, Flink's by pip."""

import sys
import tarfile
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

from local.cache import cached
from local.jars import jars
from local.prerequisites import bring_by

KEPT = ("*/deps/lib/flink-dist-*.jar", "*/deps/lib/log4j-*.jar")


def class_path() -> str:
    """Of every Java process of the cluster. Fetches 320 MB once (half a minute). Raises Missing."""
    here = Path(__file__).parent
    libraries = here / "flink-libraries.txt"
    digest = sha256(libraries.read_bytes()).hexdigest()[:12]
    flink = cached(f"{libraries.stem}-{digest}", lambda target: _download(libraries, target))
    return f"{flink}/*:{jars(here / 'flink-pom.xml')}/*"


def _download(libraries: Path, target: Path) -> None:
    scratch = target.parent
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--requirement", libraries, "--dest", scratch]
    bring_by(command, f"what {libraries.name} names")
    target.mkdir()
    with tarfile.open(next(scratch.glob("*.tar.gz"))) as archive:
        for member in archive:
            if any(fnmatch(member.name, pattern) for pattern in KEPT):
                member.name = Path(member.name).name
                archive.extract(member, target, filter="data")
