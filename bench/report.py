"""The table of docs/results/benchmarks.md, written from bench/results: `python -m bench.report`. Run by `make bench` at its end."""

import json
from pathlib import Path
from typing import Any

from bench.result import RESULTS, ROOT, TARGETS

PAGE = ROOT / "docs" / "results" / "benchmarks.md"
BEGIN, END = "<!-- table: python -m bench.report -->", "<!-- end of table -->"


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(), table(RESULTS)))


def with_table(page: str, rows: str) -> str:
    """The page with the rows between its two marks. Raises ValueError where a mark is missing."""
    before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
    return f"{page[:before]}\n{rows}\n{page[after:]}"


def table(results: Path) -> str:
    lines = ["| benchmark | target | measured | bound | | machine, revision |", "|---|---|---|---|---|---|"]
    for name in TARGETS:
        path = results / f"{name}.json"
        if not path.exists():
            lines.append(f"| {name} | - | not measured yet | - | - | - |")
            continue
        result = json.loads(path.read_text())
        lines += [_line(result, target) for target in result["targets"]]
    return "\n".join(lines)


def _line(result: dict[str, Any], target: dict[str, Any]) -> str:
    verdict = "met" if target["met"] else f"**missed**: {target['cause']}"
    where = f"{result['cpu']}, {result['cores']} cores, {result['git']}"
    return f"| {result['name']} | `{target['name']}` | {target['value']:g} | {target['bound']} | {verdict} | {where} |"


if __name__ == "__main__":
    main()
