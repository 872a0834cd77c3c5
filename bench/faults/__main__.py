"""The campaign as a command. Exit 1 where a fault left anything lost, doubled, overwritten, stuck or orphaned."""

import argparse
import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench.faults.campaign import Row, run_campaign, try_command_often
from bench.faults.operators import COMMANDS
from bench.faults.page import page
from bench.faults.scenarios import FAULTS
from bench.faults.stage import stage
from bench.result import ROOT, machine, revision
from local.scratch import scratch

RESULT = ROOT / "docs" / "results" / "faults.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="of each fault; of commands: kills of each")
    parser.add_argument("--only", default="", help="faults by name, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-s", type=float, default=200.0, help="events a second")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--model", default="aigq-small")
    parser.add_argument("--logs", type=Path, help="folder that keeps the servers' and jobs' logs")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name]
    known = [each.name for each in (*FAULTS, *COMMANDS)]
    if unknown := set(names) - set(known):
        parser.error(f"no fault {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    faults = [fault for fault in FAULTS if not names or fault.name in names]
    commands = [command for command in COMMANDS if not names or command.name in names]
    with scratch("aigq-faults-") as made:
        folder = arguments.logs or made
        folder.mkdir(parents=True, exist_ok=True)
        with stage(folder, arguments.models, arguments.model) as servers:
            clean = True
            for row in run_campaign(servers, faults, arguments.runs, arguments.seed, arguments.per_s):
                write(row, arguments.result, arguments.seed)
                clean = clean and row.clean
            for number, command in enumerate(commands):
                row = try_command_often(servers, command, arguments.runs, arguments.seed + 100_000 + 1_000 * number)
                write(row, arguments.result, arguments.seed)
                clean = clean and row.clean
    return 0 if clean else 1


def write(row: Row, path: Path, seed: int) -> None:
    """Puts the row in the place of the fault's last one, and writes the page beside the result. Other faults' rows stay."""
    held = {each["fault"]: each for each in json.loads(path.read_text())["faults"]} if path.exists() else {}
    held[row.fault] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine(),
        "git": revision(),
        "command": _without_folders(f"python -m bench.faults {' '.join(sys.argv[1:])}".strip()),
        "seed": seed,
        "clean": row.clean,
        **asdict(row),
    }
    rows = [held[each.name] for each in (*FAULTS, *COMMANDS) if each.name in held]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": "faults", "faults": rows}, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(rows))


def _without_folders(command: str) -> str:
    """Where logs and result lie changes nothing, and is nobody's business."""
    return re.sub(r" --(logs|result)[ =]\S+", "", command)


if __name__ == "__main__":
    sys.exit(main())
