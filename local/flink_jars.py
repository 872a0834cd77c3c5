"""What a Flink cluster under Beam is made of, from package registries alone: Beam's jars by Maven, Flink's by pip."""

import subprocess
import sys
import tarfile
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

from local.cache import cached
from local.jars import jars
from local.prerequisites import Missing

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
    fetched = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--require-hashes", "--requirement", libraries, "--dest", scratch),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if fetched.returncode:
        raise Missing(f"pip could not fetch what {libraries.name} names; it said:\n{fetched.stdout[-2_000:]}")
    target.mkdir()
    with tarfile.open(next(scratch.glob("*.tar.gz"))) as archive:
        for member in archive:
            if any(fnmatch(member.name, pattern) for pattern in KEPT):
                member.name = Path(member.name).name
                archive.extract(member, target, filter="data")
