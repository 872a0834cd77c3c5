"""A long campaign: python -m tests.sameness.simulate --seeds 0:1000. A line for each seed that breaks a promise; exits 1 then."""

import argparse
import sys
import time
from collections import Counter

from tests.sameness.simulation import Broken, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:1000", help="first:last (the last is not run)")
    first, last = (int(text) for text in parser.parse_args().seeds.split(":"))
    began, broken, outcomes, rollbacks = time.monotonic(), 0, Counter[str](), 0
    for seed in range(first, last):
        try:
            simulation = run(seed)
        except Broken as error:
            broken += 1
            print(str(error).splitlines()[0], flush=True)
        else:
            outcomes.update(simulation.server.model.counts)
            rollbacks += simulation.server.times_gone_back
    ended = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
    print(
        f"{last - first} seeds in {time.monotonic() - began:.0f} s: {broken} broken; requests {ended}; rollbacks {rollbacks}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
