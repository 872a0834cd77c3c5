"""README's commands, read from README: which test runs each, and its words with this run's own servers in them.

The commands of other pages are read in the same way (tutorial.py, tests/docs/test_runbook.py).
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    by: str
    """File of the test, in this folder."""
    with_more: str = ""
    """What the test adds to the command as README has it, and why."""


RUNS = {
    "make demo": Run("test_readme.py", "-n, and the command it names is run below: one demo is enough"),
    "make test": Run("test_readme.py", "-n: we are inside it"),
    ".venv/bin/aigq demo --keep": Run(
        "test_readme.py", "--seconds=5: it still waits for the model and plays 30 s more"
    ),
    "aigq status --store redis://store:6379": Run("test_readme.py"),
    "aigq explain USER --store redis://store:6379": Run("test_readme.py"),
    "aigq get USER --store redis://store:6379": Run("test_readme.py"),
    "aigq run nearline --bootstrap=broker:9092 --store=redis://store:6379": Run(
        "test_nearline.py", "topics, group and namespace of the test's own; --models, --metrics_port, --summary"
    ),
    "aigq run nearline ... --runner=flink": Run(
        "test_readme.py",
        "names of its own; --stages=track --end=now --shutdown_sources_after_idle_ms=0: it ends by itself",
    ),
}
"""Every command of README's code blocks, to the letter but for white space. test_readme.py compares the two."""


def commands(text: str) -> Iterator[str]:
    """The commands in the code blocks of a page, without comments. A block is taken for commands unless it is a drawing, JSON, or
    fenced as `text`, which is what a command prints: what is none of these and cannot be run either fails the test."""
    for block in blocks(text):
        drawing = re.search(r"[\u2500-\u257f]", block)
        if not drawing and not block.lstrip().startswith("{"):
            lines = (re.sub(r"(^|\s)#.*", "", line).split() for line in block.replace("\\\n", " ").splitlines())
            yield from (" ".join(words).removeprefix("$ ") for words in lines if words)


def blocks(text: str) -> Iterator[str]:
    """Fenced ones (of any language but `text`) and indented ones."""
    fences = re.compile(r"^```([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    yield from (block for language, block in fences.findall(text) if language != "text")
    yield from re.findall(r"(?:^(?: {4}|\t)[^\n]*(?:\n+|\Z))+", fences.sub("", text), re.MULTILINE)


def words(command: str, broker: str = "", store: str = "", user: str = "") -> list[str]:
    """A command of `RUNS` as a list: with the `aigq` beside this Python, and servers and shopper for README's stand-ins."""
    assert command in RUNS, f"{command!r} is no command of README"
    before, dots, _ = command.partition(" ... ")
    if dots:  # the arguments of the command above that begins alike
        whole = next(other for other in RUNS if other.startswith(before) and dots not in other)
        command = command.replace(f"{before}{dots.rstrip()}", whole)
    for stands_for, ours in (("broker:9092", broker), ("redis://store:6379", store), ("USER", user)):
        assert ours or stands_for not in command, f"{command!r} wants something for {stands_for}"
        command = command.replace(stands_for, ours)
    program, *arguments = command.split()
    return [str(Path(sys.executable).with_name("aigq")) if program.endswith("aigq") else program, *arguments]
