"""The peers' own virtual environment, in the cache: Quix Streams and Bytewax pin other Kafka clients than the product."""

import os
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

from bench.result import ROOT
from bench.stopwatch import Measured, heard
from local.cache import cached

REQUIREMENTS = ROOT / "requirements" / "bench.txt"
WITHIN_S = 1_800


class PeerFailed(RuntimeError):
    """A peer's process ended with an error; the message holds the end of its output."""


def peers_python() -> Path:
    """The interpreter with the locked peers; the environment is built on the first call (about half a minute)."""
    digest = blake2b(REQUIREMENTS.read_bytes(), digest_size=6).hexdigest()
    return cached(f"bench-peers-{digest}", _build) / "bin" / "python"


def run_peer(module: str, *arguments: str) -> Measured:
    """Runs a module of bench/peers to its end and returns what it measured. Raises PeerFailed."""
    done = subprocess.run(
        [peers_python(), "-W", "ignore", "-m", f"bench.peers.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    if done.returncode:
        raise PeerFailed(f"bench.peers.{module} ended with status {done.returncode}:\n{done.stderr[-2_000:]}")
    return heard(done.stdout)


def _build(target: Path) -> None:
    print(f"peers' environment (once): {REQUIREMENTS.relative_to(ROOT)}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", target], check=True)
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS))
    subprocess.run([target / "bin" / "python", *install], check=True)
