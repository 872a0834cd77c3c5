"""All figures again, one benchmark after the other: `python -m bench [--small]`. Exit 1 if one could not run.

A missed target is no failure: it is written as missed, with its cause, into bench/results.
"""

import subprocess
import sys

from bench import report
from bench.result import ROOT, TARGETS


def main() -> int:
    failed = []
    for name in TARGETS:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"bench.{name}", *sys.argv[1:]], cwd=ROOT, check=False).returncode:
            failed.append(name)
    if "--small" not in sys.argv:
        report.main()
    if failed:
        print(f"could not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
