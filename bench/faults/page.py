"""docs/results/faults.md, from the rows of docs/results/faults.json. Written by every campaign."""

import statistics
from collections.abc import Sequence
from typing import Any

from bench.faults.operators import COMMANDS

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

COMMANDS_HEAD = """
## Operators' commands, killed in the middle

Each run: the job works under a load of 40 events a second; the command is typed, and its process group gets a kill -9 at an instant drawn
evenly from its work (from its first write until its operation is done, as measured unkilled); within a second the same command is given again, in half of
the runs killed once more, and in the end must end with 0. Then the load ends, and the store is compared with the log as above; beside it a home page reads all the time
and must never be shown an older list. `--only kill_replay` makes one row again.

| command | kills in the middle (of all) | runs | events | behaviours compared | requests | lists | lost | doubled | overwritten | interest | stuck | orphans | last start to done, median (most) s |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""
COMMANDS_TAIL = """
Besides what the job promises: **replay** (three shadows a run: without lists, from a snapshot, with lists) leaves states that are byte for
byte those of a replay that was not killed, and fires the requests of the window and no others. **backfill** gives each
shopper of its file a list, and no run is twice on the results topic. **redrive** gives each dead letter an effect exactly once.
**rebuild** and **adopt** move the name once for each time that they were asked, leave no half namespace behind and hold no name; requests
in flight end. **archive** holds every offset in exactly one file, with the bytes of the topic, lists as well as events.
Stuck: also a command or an operation's record that does not end, a name that stays held. Orphans: also namespaces and files of killed tries.
Kills: those that came before the operation was done (for the archive: before all was written); in brackets those that came before the
process had ended. A run whose kill came too late is judged all the same. What is too short to be hit at random is tested step by step in
`tests/integration/test_operator_faults.py`.
"""
COMMAND_NAMES = {command.name for command in COMMANDS}


def page(rows: Sequence[dict[str, Any]]) -> str:
    body = "".join(f"{_line(row)}\n" for row in rows if row["fault"] not in COMMAND_NAMES)
    commands = "".join(f"{_line(row)}\n" for row in rows if row["fault"] in COMMAND_NAMES)
    wrong = "".join(f"- `{row['fault']}`, {said}\n" for row in rows for said in row["wrong"])
    runs = "".join(
        f"- {row['fault']}: {row['date'][:10]}, {row['cpu']}, {row['cores']} cores, revision {row['git']}, seed {row['seed']}; "
        f"outcomes {_counts(row['outcomes'])}"
        + (f"; killed in {_counts(row['phases'])}" if row.get("phases") else "")
        + "\n"
        for row in rows
    )
    found = f"\n## What was wrong\n{wrong}" if wrong else ""
    of_commands = f"{COMMANDS_HEAD}{commands}{COMMANDS_TAIL}" if commands else ""
    return f"{HEAD}{body}{TAIL}{of_commands}{found}\n## Where and when\n{runs}"


def _counts(of: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(of.items()))


def _kills(row: dict[str, Any]) -> str:
    """`-` where the row does not know which of them came in the middle."""
    return f"{sum(row['phases'].values()) or '-'} ({len(row['instants_s'])})"


def _line(row: dict[str, Any]) -> str:
    recovery = row["recovery_s"]
    spent = f"{statistics.median(recovery):.1f} ({max(recovery):.1f})" if recovery else "-"
    counts = [
        row[name] for name in ("runs", "events", "behaviours", "requests", "lists", "lost", "doubled", "overwritten")
    ]
    kills = [_kills(row)] if row["fault"] in COMMAND_NAMES else []
    cells = [
        row["does"],
        *kills,
        *(f"{count:,}" for count in counts),
        str(row["wrong_interest"]),
        str(row["stuck"]),
        str(row["orphans"]),
        spent,
    ]
    return f"| {' | '.join(cells)} |"
