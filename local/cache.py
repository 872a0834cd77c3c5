"""`~/.cache/aigq` (or $AIGQ_CACHE): tools and jars that were built or downloaded once for all checkouts and runs."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cached(name: str, build: Callable[[Path], None]) -> Path:
    """The file or folder `name` of the cache; what is not there yet, `build(path)` makes.

    Of several processes that ask at once, one builds and the others wait. A build that is cut off leaves nothing:
    it works in a folder beside and its result is renamed into place.
    """
    target = cache_folder() / name
    if target.exists():
        return target
    with lock(name):
        if not target.exists():
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache_folder()))
            try:
                build(scratch / name)
                (scratch / name).rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return target


def cache_folder() -> Path:
    folder = Path(os.environ.get("AIGQ_CACHE") or Path.home() / ".cache" / "aigq")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Held by one process of this machine at a time."""
    with (cache_folder() / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
