"""docs/results/faults.md, from the rows of docs/results/faults.json. Written by every campaign."""

import statistics
from collections.abc import Sequence
from typing import Any

HEAD = """# Faults on real servers

Each run: the whole job on a real broker, Valkey with append-only file and vLLM; simulated shoppers at 200 events a second; the fault
strikes at a random instant; two seconds after the job has recovered the load ends, and once no request is open an oracle that shares
no code with the job (`tests/integration/oracle.py`, from `docs/interest.md` alone) folds the topic's records and compares the whole
store. `.venv/bin/python -m bench.faults --runs 20` makes all rows again, `--only FAULT` one; CI runs each fault once. The seeds of
the runs are in `faults.json`.

| fault | runs | events | behaviours compared | requests | lists | lost | doubled | overwritten | interest | stuck | orphans | recovery, median (most) s |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""
TAIL = """
Lost: behaviours, and requests that should have come about. Doubled: behaviours, requests that ended twice or have no ground.
Overwritten: a newer list or request that gave way to an older one. Interest: weights, base or evidence off. Stuck: requests that did not end, jobs that did not recover.
Recovery: from the end of the fault until all that lay in the log by then was applied (where the model was struck: until the next
list). Requests that ended without a list were replaced by the same shopper's newer one (`conflated`), unless said otherwise.
"""


def page(rows: Sequence[dict[str, Any]]) -> str:
    body = "".join(f"{_line(row)}\n" for row in rows)
    wrong = "".join(f"- `{row['fault']}`, {said}\n" for row in rows for said in row["wrong"])
    runs = "".join(
        f"- {row['fault']}: {row['date'][:10]}, {row['cpu']}, {row['cores']} cores, revision {row['git']}, seed {row['seed']}; "
        f"outcomes {', '.join(f'{name} {count}' for name, count in sorted(row['outcomes'].items()))}\n"
        for row in rows
    )
    found = f"\n## What was wrong\n{wrong}" if wrong else ""
    return f"{HEAD}{body}{TAIL}{found}\n## Where and when\n{runs}"


def _line(row: dict[str, Any]) -> str:
    recovery = row["recovery_s"]
    spent = f"{statistics.median(recovery):.1f} ({max(recovery):.1f})" if recovery else "-"
    counts = [
        row[name] for name in ("runs", "events", "behaviours", "requests", "lists", "lost", "doubled", "overwritten")
    ]
    cells = [
        row["does"],
        *(f"{count:,}" for count in counts),
        str(row["wrong_interest"]),
        str(row["stuck"]),
        str(row["orphans"]),
        spent,
    ]
    return f"| {' | '.join(cells)} |"
