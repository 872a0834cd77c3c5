"""docs/tutorial.md, typed from its first command to its last against a demo that is kept up."""

import re
import time

from tests.integration import readme
from tests.integration.pages import Page

PAGE = (readme.ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
DEMO = ".venv/bin/aigq demo --keep"
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
    page = Page(PAGE)
    page.ours |= {"broker:9092": broker, "redis://store:6379": store}
    page.ours |= dict.fromkeys(re.findall(r"\bmissions-1-\d+", PAGE), user)
    page.take_window(int(kept_s - 40) * 1000, int(kept_s - 10) * 1000)
    assert page.left.popleft() == DEMO, "the demo of this run is the caller's"
    kinds = [kind_of(command) for command in page.left if not command.startswith("export ")]
    assert set(kinds) == EXPECTED.keys()
    for kind in kinds:
        began = time.monotonic()
        page.type(".venv/bin/aigq", says=EXPECTED[kind])
        print(f"{time.monotonic() - began:5.1f} s  {kind}")
    page.finish()


def kind_of(command: str) -> str:
    """As a key of EXPECTED."""
    words = command.removeprefix(".venv/bin/").split()
    kind = " ".join(words[: 3 if words[1] == "runs" else 2])
    return f"{kind} --execute" if words[1] == "replay" and "--execute" in words else kind
