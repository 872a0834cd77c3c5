"""A page of docs as a reader types it: its commands, in its order, with this run's own servers, names and times in them."""

import os
import re
import shlex
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.integration import readme

PATIENCE_S = 400.0
"""Some commands load a model, which takes minutes on a loaded machine."""


RUNBOOK = readme.ROOT / "docs" / "runbook"


def runbook(name: str, before: str = "", behind: str = "") -> str:
    """A page of the runbook, or its part before or behind a mark."""
    text = (RUNBOOK / f"{name}.md").read_text("utf-8")
    part = text.partition(before)[0] if before else text.partition(behind)[2] if behind else text
    assert part, f"{name}.md has no {before or behind!r}"
    return part


@dataclass
class Page:
    """What is left to type, and what is put in place of what stands there."""

    text: str
    environment: dict[str, str] = field(default_factory=dict)
    """Added to ours; an `export` of the page adds to it."""
    ours: dict[str, str] = field(default_factory=dict)
    """A word of the page, or the value of an option -> what it stands for in this run."""

    def __post_init__(self) -> None:
        self.left = deque(readme.commands(self.text))

    def take_window(self, begin_ms: int, end_ms: int) -> None:
        """What the page's window stands for; all of its commands have the same one. In whole seconds, as a person types it."""
        (window,) = set(re.findall(r"--from=(\S+) --to=(\S+)", self.text))
        ours = (datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for ms in (begin_ms, end_ms))
        self.ours |= dict(zip(window, ours, strict=True))

    def type(self, begins: str, *more: str, says: str, exits: int = 0, within_s: float = PATIENCE_S) -> str:
        """What the page's next command prints, with the options of this run (`more`) behind it.

        begins: as the command does on the page. says: what the page shows of the output, so that neither moves alone.
        """
        assert says in self.text, f"the page does not show {says!r}"
        child = self.start(begins, *more)
        try:
            said, complaint = child.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
        print(f"{said}{complaint[-1000:]}")
        assert child.returncode == exits, f"{begins}: {child.returncode}\n{said[-2000:]}\n{complaint[-3000:]}"
        assert says in said, f"{begins}\n{said}\n{complaint[-2000:]}"
        return said

    def finish(self) -> None:
        """Fails where a command of the page was not typed."""
        assert not self.left, f"nobody has typed {list(self.left)}"

    def start(self, begins: str, *more: str) -> subprocess.Popen[str]:
        """The page's next command as its own process."""
        words = [*self.next(begins), *more]
        print(f"$ {' '.join(words)}")
        environment = {**os.environ, "COLUMNS": "200", **self.environment}
        pipe = subprocess.PIPE
        return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=readme.ROOT)

    def next(self, begins: str) -> list[str]:
        """The words of the page's next command, for who runs it in another way."""
        while self.left and self.left[0].startswith("export "):
            self.environment |= dict(word.split("=", 1) for word in self._words(self.left.popleft())[1:])
        assert self.left, f"the page has no command behind its last one: {begins!r} is no part of it"
        assert self.left[0].startswith(begins), f"the page goes on with {self.left[0]!r}, not with {begins!r}"
        program, *words = self._words(self.left.popleft())
        return [str(Path(sys.executable).with_name("aigq")) if program.endswith("aigq") else program, *words]

    def _words(self, command: str) -> list[str]:
        return [self._word(word) for word in shlex.split(command)]

    def _word(self, word: str) -> str:
        name, equals, value = word.partition("=")
        return f"{name}={self.ours.get(value, value)}" if equals else self.ours.get(word, word)
