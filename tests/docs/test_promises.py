"""docs/field-promises.md: every row names tests, and they exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "field-promises.md").read_text("utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_every_row_names_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("|---")]
    headings = [line for line in rows if "held by" in line or line.startswith("| technique")]
    assert len(headings) == 3
    assert [row for row in rows if row not in headings and "::test_" not in row] == []


def test_every_named_test_exists():
    missing = [f"{path}::{name}" for path, name in NAMED if name not in functions_of(ROOT / path)]
    assert missing == []
    assert len(NAMED) > 60


def functions_of(path: Path) -> set[str]:
    if not path.exists():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
