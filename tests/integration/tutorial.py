"""docs/tutorial.md, typed from its first command to its last against a demo that is kept up."""

import os
import re
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path

from tests.integration import readme

PAGE = (readme.ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
DEMO = ".venv/bin/aigq demo --keep"
WINDOW = ("2026-11-29T16:17:00Z", "2026-11-29T16:17:30Z")
EXPECTED = {
    "aigq status": "nothing needs attention",
    "aigq get": "",
    "aigq explain": "interest (drift",
    "aigq replay": "nothing was written; --execute does it",
    "aigq replay --execute": "replay-",
    "aigq runs list": "(100%)",
    "aigq diff": "who have a list on both sides",
    "aigq drop": "keys removed",
}
"""What each command must say, by how it begins; every one is on the page."""


def follow(broker: str, store: str, user: str, kept_s: float) -> None:
    """Types the page. `kept_s`: when (Unix) the demo's shoppers had gone home."""
    typed = list(readme.commands(PAGE))
    assert typed[0] == DEMO, "the demo of this run is the caller's"
    assert [kind_of(command) for command in typed[2:] if kind_of(command) not in EXPECTED] == []
    assert set(EXPECTED) <= {kind_of(command) for command in typed}
    begin, end = (datetime.fromtimestamp(kept_s - ago_s, UTC).isoformat() for ago_s in (40, 10))
    environment = {**os.environ, "COLUMNS": "200"}
    ours = {"broker:9092": broker, "redis://store:6379": store, WINDOW[0]: begin, WINDOW[1]: end}
    ours[".venv/bin/aigq"] = str(Path(sys.executable).with_name("aigq"))
    for command in typed[1:]:
        words = shlex.split(re.sub(r"\bmissions-1-\d+", user, command))
        words = [reduce(lambda word, stand_in: word.replace(stand_in, ours[stand_in]), ours, word) for word in words]
        if words[0] == "export":
            environment |= dict(word.split("=", 1) for word in words[1:])
            continue
        began = time.monotonic()
        done = subprocess.run(
            words, cwd=readme.ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert EXPECTED[kind_of(command)] in done.stdout, f"{command}\n{done.stdout}"
        print(f"{time.monotonic() - began:5.1f} s  {command}")


def kind_of(command: str) -> str:
    """As a key of EXPECTED."""
    words = command.removeprefix(".venv/bin/").split()
    kind = " ".join(words[: 3 if words[1] == "runs" else 2])
    return f"{kind} --execute" if words[1] == "replay" and "--execute" in words else kind
